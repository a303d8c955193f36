"""Norms, written out: what a norm module puts out for inputs that never pass through the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mechshift_lib.models.anatomy import Anatomy, norm_parts
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.weights import tensor_of


@dataclass(frozen=True)
class Norm:
    """An RMSNorm or LayerNorm, written out.

    Attributes:
        gain: what is multiplied by, ``[d_model]``, or a 1 without dimensions.
        bias: what is added, ``[d_model]``, if anything is.
        epsilon: added to the mean square.
        centred: the mean is taken away first.
    """

    gain: Tensor
    bias: Tensor | None
    epsilon: float
    centred: bool

    @classmethod
    def of(cls, anatomy: Anatomy, module: nn.Module, dtype: torch.dtype) -> Norm:
        """What a norm module computes, in a precision."""
        gain, epsilon = norm_parts(anatomy, module)
        bias = tensor_of(module, "bias")
        centred = anatomy.norm == "layer"
        return cls(gain.to(dtype), None if bias is None else bias.to(dtype), epsilon, centred)

    def __call__(self, x: Tensor) -> Tensor:
        """Output for inputs ``[..., d_model]``."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)  # in one pass over x
        x = x * (length.square() / x.shape[-1] + self.epsilon).rsqrt() * self.gain
        return x if self.bias is None else x + self.bias


def normed(model: LoadedModel, norm: nn.Module, x: Tensor) -> Tensor:
    """Output of a norm module for inputs ``[..., d_model]``, in the precision of ``x``."""
    return Norm.of(model.anatomy, norm, x.dtype)(x)
