"""Where things are in each architecture: the only place that knows module names.

To add an architecture, write one :class:`Anatomy` and list it in :data:`ANATOMIES`; loading then
checks it against the model (see :func:`mechshift_lib.models.loading.check_anatomy`), and circuits
need no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mechshift_lib.errors import ModelError

#: Parts of attention that read the residual stream, in the order of a fused projection.
SPLITS: tuple[Literal["q", "k", "v"], ...] = ("q", "k", "v")


@dataclass(frozen=True)
class Anatomy:
    """Module paths of one architecture, dotted, as in ``named_modules``.

    Every path works on the Hugging Face model and on its nnsight wrapper (:func:`at`).

    Attributes:
        model_type: ``config.model_type`` of the architecture.
        embed: module whose output is the residual stream before the first layer.
        layers: list of layers; the paths that follow are relative to a layer.
        attn: attention module.
        attn_norm: norm in front of attention; its input is the residual stream.
        q: query projection, output ``[batch, pos, n_heads * d_head]``.
        k: key projection, output ``[batch, pos, n_kv_heads * d_head]``.
        v: value projection, of the shape of ``k``.
        fused: one projection for all three, concatenated as q, k, v; ``q``, ``k`` and ``v`` are
            then empty.
        o: output projection; input is the heads' outputs, ``[batch, pos, n_heads * d_head]``.
        mlp_norm: norm in front of the MLP; its input is the residual stream.
        mlp: MLP; its output is added to the residual stream.
        final_norm: norm in front of the unembedding.
        unembed: linear map from ``final_norm``'s output to the logits.
        norm: ``"rms"`` (no centring) or ``"layer"`` (LayerNorm).
        parallel: attention and MLP of a layer both read the layer's input.
    """

    model_type: str
    embed: str
    layers: str
    attn: str
    attn_norm: str
    o: str
    mlp_norm: str
    mlp: str
    final_norm: str
    unembed: str
    norm: Literal["rms", "layer"]
    q: str = ""
    k: str = ""
    v: str = ""
    fused: str = ""
    parallel: bool = False

    def layer(self, root: Any, index: int) -> Any:
        """Layer ``index`` of a model or of its nnsight wrapper."""
        return at(root, self.layers)[index]


LLAMA = Anatomy(
    model_type="llama",
    embed="model.embed_tokens",
    layers="model.layers",
    attn="self_attn",
    attn_norm="input_layernorm",
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    mlp="mlp",
    final_norm="model.norm",
    unembed="lm_head",
    norm="rms",
)

#: Llama's names; the biases of q, k and v make no difference to where things are.
QWEN2 = Anatomy(**{**vars(LLAMA), "model_type": "qwen2"})

GPT2 = Anatomy(
    model_type="gpt2",
    embed="transformer.drop",  # token plus position embeddings
    layers="transformer.h",
    attn="attn",
    attn_norm="ln_1",
    fused="attn.c_attn",
    o="attn.c_proj",
    mlp_norm="ln_2",
    mlp="mlp",
    final_norm="transformer.ln_f",
    unembed="lm_head",
    norm="layer",
)

ANATOMIES: dict[str, Anatomy] = {a.model_type: a for a in (LLAMA, QWEN2, GPT2)}


def anatomy_of(config: PretrainedConfig) -> Anatomy:
    """The anatomy of a model by its configuration.

    Raises:
        ModelError: the architecture is unknown.
    """
    kind = getattr(config, "model_type", None) or type(config).__name__
    if kind not in ANATOMIES:
        known = ", ".join(sorted(ANATOMIES))
        raise ModelError(
            f"Architecture {kind!r} is unknown: use one of {known}, or describe it in "
            "mechshift_lib/models/anatomy.py."
        )
    return ANATOMIES[kind]


def at(root: Any, path: str) -> Any:
    """The module at a dotted path of a model, a layer, or their nnsight wrappers."""
    for name in path.split("."):
        root = getattr(root, name)
    return root


def rows(module: nn.Module) -> Tensor:
    """Weight of a linear module as ``[out, in]``, whichever way the module stores it.

    Raises:
        ModelError: the module is not linear.
    """
    weight = getattr(module, "weight", None)
    if isinstance(module, Conv1D) and isinstance(weight, Tensor):
        return weight.T
    if isinstance(module, nn.Linear) and isinstance(weight, Tensor):
        return weight
    raise ModelError(f"{type(module).__name__} is not a linear projection: check the anatomy.")


def split_sizes(n_heads: int, n_kv_heads: int, d_head: int) -> tuple[int, int, int]:
    """Widths of q, k and v in a fused projection's output."""
    return n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head


def projection_rows(model: PreTrainedModel, anatomy: Anatomy, layer: int) -> Tensor:
    """Rows of a layer's q, k and v projections, stacked in this order, ``[width, d_model]``."""
    block = anatomy.layer(model, layer)
    if anatomy.fused:
        return rows(at(block, anatomy.fused))
    return torch.cat([rows(at(block, getattr(anatomy, part))) for part in SPLITS])


def norm_parts(module: Any) -> tuple[Tensor, float]:
    """Gain ``[d_model]`` and epsilon of an RMSNorm or LayerNorm.

    Raises:
        ModelError: the module has neither ``eps`` nor ``variance_epsilon``.
    """
    for name in ("variance_epsilon", "eps"):
        epsilon = getattr(module, name, None)
        if isinstance(epsilon, float) and isinstance(getattr(module, "weight", None), Tensor):
            return module.weight, epsilon
    raise ModelError(f"{type(module).__name__} is not a norm with a gain: check the anatomy.")
