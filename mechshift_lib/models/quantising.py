"""Weights in 8 or 4 bits, by bitsandbytes, and full precision for all else.

Only the weights of linear modules are integers: each is turned back into floating point where it
is used, in the forward and in the backward pass. So a module stays a linear map, a head's output is
taken up by its own columns of the output projection, and gradients to activations are those of the
function that the model computes; the load proves all of it as of any model. The unembedding stays
as it is, and embeddings and norms are none of the modules in question.

4 bits are NF4 in blocks of 64 weights (Dettmers et al. 2023, arXiv 2305.14314). 8 bits are rows of
integers scaled by their largest weight, as in LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339),
but without that method's rounding of the activations, with which no module would be linear.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers import BitsAndBytesConfig, PreTrainedModel

from mechshift_lib.choices import Quantization
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import Anatomy
from mechshift_lib.models.weights import tensor_of


def quantisation(kind: Quantization, anatomy: Anatomy, dtype: torch.dtype) -> BitsAndBytesConfig:
    """What transformers quantises by while it reads a model.

    Args:
        kind: how many bits.
        anatomy: whose unembedding is left as it is.
        dtype: precision of all else, and in which modules compute.

    Raises:
        ModelError: bitsandbytes isn't installed.
    """
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"Loading in {kind} needs bitsandbytes, which isn't installed or doesn't run here: "
            "pip install bitsandbytes, or leave out quantization."
        ) from error
    skipped = [anatomy.unembed]
    if kind == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=skipped,
    )


def keep_activations(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Make quantised modules compute with activations as they are, in place.

    Else 8-bit modules round them to integers, and 4-bit ones to bfloat16, with the blocks' scales,
    on processors with instructions for that: the same file would be another model there.

    Args:
        model: the model, as transformers quantised it.
        dtype: precision in which it computes.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    class Linear8bitWeights(Linear8bitLt):
        """An 8-bit module that rounds no activation."""

        compute_dtype: torch.dtype

        def forward(self, x: Tensor) -> Tensor:
            from bitsandbytes.autograd._functions import MatMul8bitFp

            output: Tensor = MatMul8bitFp.apply(x, self.weight, None, self.bias, self.state)
            return output

    class Linear4bitWeights(Linear4bit):
        """A 4-bit module whose rows end within a block, which bitsandbytes can compute wrongly."""

        compute_dtype: torch.dtype

        def forward(self, x: Tensor) -> Tensor:
            weight = tensor_of(self, "weight")
            assert weight is not None
            return linear(x.to(weight.dtype), weight, self.bias).to(x.dtype)

    for module in model.modules():
        if type(module) is Linear4bit:
            four: Any = module
            four.support_avx512bf16_for_cpu = False
            if four.in_features % four.weight.quant_state.blocksize:
                four.__class__ = Linear4bitWeights
                four.compute_dtype = dtype
        if type(module) is Linear8bitLt:
            eight: Any = module
            if eight.weight.CB is not None:
                eight.init_8bit_state()
            eight.__class__ = Linear8bitWeights
            eight.compute_dtype = dtype
