"""Where things are in each architecture: the only place that knows module names.

To add an architecture, write one :class:`Anatomy` and list it in :data:`ANATOMIES`; loading then
checks it against the model (see :func:`mechshift_lib.models.loading.check_anatomy`), and circuits
need no change.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        fused: one projection for all three; ``q``, ``k`` and ``v`` are then empty.
        fused_layout: how its output is laid out: ``"concatenated"`` (all q, all k, all v) or
            ``"interleaved"`` (q, k and v of the first head, then of the second, …).
        o: output projection; input is the heads' outputs, ``[batch, pos, n_heads * d_head]``.
        mlp_norm: norm in front of the MLP; its input is the residual stream.
        mlp: MLP, or its last linear module; its output is added to the residual stream.
        mlp_out: last linear module of the MLP; its input are the hidden neurons,
            ``[batch, pos, d_mlp]``.
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
    mlp_out: str
    final_norm: str
    unembed: str
    norm: Literal["rms", "layer"]
    q: str = ""
    k: str = ""
    v: str = ""
    fused: str = ""
    fused_layout: Literal["concatenated", "interleaved"] = "concatenated"
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
    mlp_out="mlp.down_proj",
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
    mlp_out="mlp.c_proj",
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
    """Widths of q, k and v, as in :func:`gather_qkv`."""
    return n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head


def projections(anatomy: Anatomy) -> tuple[str, ...]:
    """Paths of the modules that project to q, k and v: three, or the fused one."""
    return (anatomy.fused,) if anatomy.fused else tuple(getattr(anatomy, p) for p in SPLITS)


def gather_qkv(anatomy: Anatomy, outputs: Sequence[Tensor], d_head: int, dim: int = -1) -> Tensor:
    """Outputs (or gradients, rows, biases) of a layer's :func:`projections` in one order.

    The result has, along ``dim``, the q of all heads, then their k, then their v:
    ``(n_heads + 2 * n_kv_heads) * d_head``, whichever way the model lays them out.
    """
    if anatomy.fused_layout == "concatenated" or not anatomy.fused:
        return outputs[0] if len(outputs) == 1 else torch.cat(list(outputs), dim)
    tensor = outputs[0].movedim(dim, -1)
    tensor = tensor.unflatten(-1, (-1, len(SPLITS), d_head)).transpose(-3, -2).flatten(-3)
    return tensor.movedim(-1, dim)


def scatter_qkv(
    anatomy: Anatomy, qkv: Tensor, sizes: tuple[int, int, int], d_head: int
) -> list[Tensor]:
    """Inverse of :func:`gather_qkv`: what each of :func:`projections` puts out, from one tensor.

    Args:
        anatomy: the anatomy.
        qkv: ``[..., (n_heads + 2 * n_kv_heads) * d_head]``.
        sizes: widths of q, k and v (:func:`split_sizes`).
        d_head: width of a head.
    """
    if not anatomy.fused:
        return list(qkv.split(sizes, -1))
    if anatomy.fused_layout == "concatenated":
        return [qkv]
    return [qkv.unflatten(-1, (len(SPLITS), -1, d_head)).transpose(-3, -2).flatten(-3)]


def projection_rows(model: PreTrainedModel, anatomy: Anatomy, layer: int, d_head: int) -> Tensor:
    """Rows of a layer's q, k and v projections, in :func:`gather_qkv`'s order.

    Shape ``[(n_heads + 2 * n_kv_heads) * d_head, d_model]``.
    """
    block = anatomy.layer(model, layer)
    weights = [rows(at(block, path)) for path in projections(anatomy)]
    return gather_qkv(anatomy, weights, d_head, dim=0)


def projection_bias(
    model: PreTrainedModel, anatomy: Anatomy, layer: int, d_head: int
) -> Tensor | None:
    """Bias of a layer's q, k and v projections in :func:`gather_qkv`'s order, if they have one."""
    block = anatomy.layer(model, layer)
    biases = [getattr(at(block, path), "bias", None) for path in projections(anatomy)]
    if not any(isinstance(bias, Tensor) for bias in biases):
        return None
    weights = [rows(at(block, path)) for path in projections(anatomy)]
    filled = [
        bias if isinstance(bias, Tensor) else weight.new_zeros(weight.shape[0])
        for bias, weight in zip(biases, weights, strict=True)
    ]
    return gather_qkv(anatomy, filled, d_head)


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
