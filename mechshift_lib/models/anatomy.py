"""Where things are in a transformer, and its projections in one form whatever their layout.

One :class:`Anatomy` describes one architecture; those that are known are in
:mod:`mechshift_lib.models.architectures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from mechshift_lib.errors import ModelError
from mechshift_lib.models.weights import tensor_of

#: Parts of attention that read the residual stream, in the order of a fused projection.
SPLITS: tuple[Literal["q", "k", "v"], ...] = ("q", "k", "v")


@dataclass(frozen=True)
class ConfigNames:
    """What a configuration calls its numbers (see :func:`mechshift_lib.models.shape.shape_of`).

    Attributes:
        n_layers: number of layers.
        n_heads: query heads per layer.
        n_kv_heads: key/value heads per layer; where a configuration has none, nothing is grouped.
        d_model: width of the residual stream.
        d_head: width of a head; where a configuration has none, ``d_model / n_heads``.
        max_positions: longest input; where a configuration has none, there is no limit.
        parallel: whether attention and MLP both read the layer's input; ``""`` where that is the
            same in all models of the architecture.
        tied: whether the unembedding has the embedding's weights.
    """

    n_layers: str = "num_hidden_layers"
    n_heads: str = "num_attention_heads"
    n_kv_heads: str = "num_key_value_heads"
    d_model: str = "hidden_size"
    d_head: str = "head_dim"
    max_positions: str = "max_position_embeddings"
    parallel: str = ""
    tied: str = "tie_word_embeddings"


@dataclass(frozen=True)
class Anatomy:
    """Module paths of one architecture, dotted, as in ``named_modules``.

    Every path works on the Hugging Face model and on its nnsight wrapper (:func:`at`).

    Attributes:
        model_type: ``config.model_type`` of the architecture.
        embed: module whose output is the residual stream before the first layer.
        layers: list of layers; the paths that follow are relative to a layer.
        attn_norm: norm in front of attention; its input is the residual stream.
        q: query projection, output ``[batch, pos, n_heads * d_head]``.
        k: key projection, output ``[batch, pos, n_kv_heads * d_head]``.
        v: value projection, of the shape of ``k``.
        fused: one projection for all three; ``q``, ``k`` and ``v`` are then empty.
        fused_layout: how its output is laid out: ``"concatenated"`` (all q, all k, all v) or
            ``"interleaved"`` (q, k and v of the first head, then of the second, …).
        o: output projection; input is the heads' outputs, ``[batch, pos, n_heads * d_head]``, and
            its output is what attention adds to the stream.
        mlp_norm: norm in front of the MLP; its input is the residual stream.
        mlp: MLP, or its last linear module; its output is added to the residual stream.
        mlp_out: last linear module of the MLP; its input are the hidden neurons,
            ``[batch, pos, d_mlp]``.
        final_norm: norm in front of the unembedding.
        unembed: linear map from ``final_norm``'s output to the logits.
        norm: ``"rms"`` (no centring) or ``"layer"`` (LayerNorm).
        gain: what a norm multiplies by: its ``"weight"``, one plus its weight (``"one-plus"``,
            Gemma), or nothing (``"none"``, OLMo).
        epsilon: epsilon of the norms where their modules don't hold it.
        attn: attention module, ``""`` where the layer itself attends.
        parallel: attention and MLP of a layer both read the layer's input.
        layer_returns: number of values in the tuple that a layer returns, the stream first; 0
            where it returns the stream alone.
        padding: how the model takes padding: a mask ``[batch, pos]`` (``"2d"``), a boolean mask
            that broadcasts to ``[batch, head, query, key]`` (``"4d"``), or ``"none"``.
        unset: names of numbers that a configuration must leave unset, because what they switch on
            has no place here.
        rotary: module of the model that gives cosines and sines of rotary positions; ``""`` where
            there is none, or where they are the layers' own.
        config: names of the configuration's numbers.
    """

    model_type: str
    embed: str
    layers: str
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
    attn: str = ""
    parallel: bool = False
    layer_returns: int = 0
    padding: Literal["2d", "4d", "none"] = "2d"
    gain: Literal["weight", "one-plus", "none"] = "weight"
    epsilon: float | None = None
    unset: tuple[str, ...] = ()
    rotary: str = ""
    config: ConfigNames = field(default_factory=ConfigNames)

    def layer(self, root: Any, index: int) -> Any:
        """Layer ``index`` of a model or of its nnsight wrapper."""
        return at(root, self.layers)[index]

    def returned(self, stream: Any) -> Any:
        """What a layer would return with this residual stream as its output."""
        return (stream, *[None] * (self.layer_returns - 1)) if self.layer_returns else stream


def at(root: Any, path: str) -> Any:
    """The module at a dotted path of a model, a layer, or their nnsight wrappers."""
    for name in path.split("."):
        root = getattr(root, name)
    return root


def rows(module: nn.Module) -> Tensor:
    """Weight of a linear module as ``[out, in]``, whichever way and wherever the module stores it.

    Raises:
        ModelError: the module is not linear.
    """
    weight = tensor_of(module, "weight")
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
    biases = [tensor_of(at(block, path), "bias") for path in projections(anatomy)]
    if not any(isinstance(bias, Tensor) for bias in biases):
        return None
    weights = [rows(at(block, path)) for path in projections(anatomy)]
    filled = [
        bias if isinstance(bias, Tensor) else weight.new_zeros(weight.shape[0])
        for bias, weight in zip(biases, weights, strict=True)
    ]
    return gather_qkv(anatomy, filled, d_head)


def norm_parts(anatomy: Anatomy, module: Any) -> tuple[Tensor, float]:
    """Gain and epsilon of an RMSNorm or LayerNorm.

    The gain is ``[d_model]``, or a 1 without dimensions where there is none.

    Raises:
        ModelError: the module lacks what the anatomy says.
    """
    named = (getattr(module, name, None) for name in ("variance_epsilon", "eps"))
    epsilon = anatomy.epsilon or next((x for x in named if isinstance(x, float)), None)
    weight = tensor_of(module, "weight")
    if epsilon is not None and weight is None and anatomy.gain == "none":
        return torch.ones(()), epsilon
    if epsilon is not None and isinstance(weight, Tensor) and anatomy.gain != "none":
        return (weight if anatomy.gain == "weight" else 1 + weight.float()), epsilon
    gain = "no gain" if anatomy.gain == "none" else "a gain"
    raise ModelError(f"{type(module).__name__} is not a norm with {gain}: check the anatomy.")
