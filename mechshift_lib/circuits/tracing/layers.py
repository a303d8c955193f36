"""A run over the layers, and the one record of it.

Everything else that circuits ask of a model starts here: what nodes write, what readers take in,
the residual stream that a patched run goes on from, and the tensors that gradients are taken at. A
run starts from input ids or, for gradients, from a residual stream at any layer's input (the layers
below are then skipped); one sublayer's output may be replaced.

A trace stops at the final norm: the logits are its unembedding (checked at load), and reading only
the asked positions outside spares a ``[batch, pos, vocab]`` tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import nnsight
import torch
from torch import Tensor

from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.parts import enter

#: What a run can keep of each layer: the lists of :class:`LayerRun`.
Kept = Literal["attn_in", "qkv", "heads", "attended", "mlp_in", "mlp_normed", "neurons", "mlps"]

#: What nodes write.
NODES: frozenset[Kept] = frozenset({"heads", "mlps"})
#: The residual stream at every layer's input.
INPUTS: frozenset[Kept] = frozenset({"attn_in"})
#: Both: what patched runs go on from.
STREAMS: frozenset[Kept] = NODES | INPUTS
#: What readers take in: what projections and norms read and put out.
READERS: frozenset[Kept] = frozenset({"attn_in", "qkv", "mlp_in", "mlp_normed"})
#: No layer: only what the final norm reads and puts out.
NOTHING: frozenset[Kept] = frozenset()

#: All heads of a layer together, or its MLP.
Sublayer = Literal["heads", "mlp"]


class Written(Protocol):
    """What every node adds to the residual stream: a run, or what stands in for one.

    Attributes:
        embed: output of ``input``, ``[batch, pos, d_model]``.
        heads: per layer the heads' outputs before the output projection,
            ``[batch, pos, n_heads * d_head]``.
        mlps: per layer the output of the MLP, ``[batch, pos, d_model]``.
    """

    @property
    def embed(self) -> Tensor: ...

    @property
    def heads(self) -> list[Tensor]: ...

    @property
    def mlps(self) -> list[Tensor]: ...


@dataclass(frozen=True)
class Replacement:
    """An output that a run is given instead of computing it.

    Attributes:
        sublayer: ``"heads"`` or ``"mlp"``, of the run's first layer.
        value: the heads' outputs before the output projection, ``[batch, pos, n_heads * d_head]``,
            or the MLP's output, ``[batch, pos, d_model]``.
    """

    sublayer: Sublayer
    value: Tensor


@dataclass(frozen=True)
class LayerRun:
    """What a run read and wrote, layer by layer; lists that weren't asked for are empty.

    Attributes:
        ids: input ids, ``[batch, pos]``.
        first: first layer that was run; lists start with it.
        start: residual stream at its input, ``[batch, pos, d_model]``; for layer 0 the output of
            ``input``.
        final_in: input of the final norm, ``[batch, pos, d_model]``.
        final: output of the final norm, ``[batch, pos, d_model]``.
        attn_in: per layer the input of the norm before attention, ``[batch, pos, d_model]``.
        qkv: per layer the outputs of the q, k and v projections, or of the fused one
            (see :func:`mechshift_lib.models.anatomy.gather_qkv`).
        heads: per layer the heads' outputs before the output projection,
            ``[batch, pos, n_heads * d_head]``.
        attended: per layer the output of the output projection, ``[batch, pos, d_model]``.
        mlp_in: per layer the input of the norm before the MLP, ``[batch, pos, d_model]``.
        mlp_normed: per layer the output of that norm.
        neurons: per layer the input of the MLP's last linear map, ``[batch, pos, d_mlp]``.
        mlps: per layer the output of the MLP, ``[batch, pos, d_model]``.
    """

    ids: Tensor
    first: int
    start: Tensor
    final_in: Tensor
    final: Tensor
    attn_in: list[Tensor] = field(default_factory=list)
    qkv: list[list[Tensor]] = field(default_factory=list)
    heads: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    mlp_in: list[Tensor] = field(default_factory=list)
    mlp_normed: list[Tensor] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)
    mlps: list[Tensor] = field(default_factory=list)

    @property
    def embed(self) -> Tensor:
        """Output of ``input``, of a run of all layers."""
        return self.start

    @property
    def inputs(self) -> list[Tensor]:
        """Input of each layer and, last, of the final norm, where ``attn_in`` was kept."""
        return [*self.attn_in, self.final_in]


def run_layers(
    model: LoadedModel,
    ids: Tensor,
    keep: frozenset[Kept] = NODES,
    *,
    mask: Tensor | None = None,
    attention: Tensor | None = None,
    start: Tensor | None = None,
    first: int = 0,
    replacement: Replacement | None = None,
) -> LayerRun:
    """Run the layers from ``first`` on and keep what was asked for.

    Args:
        model: a loaded model; its parameters are frozen, so that there are gradients only to a
            ``start`` that is given, and to what is computed from it.
        ids: input ids ``[batch, pos]``; with ``start`` they only give the shape.
        keep: what is kept of each layer.
        mask: 1 for tokens and 0 for padding (see :meth:`LoadedModel.arguments`).
        attention: what is added to the attention scores in place of the model's own mask,
            ``[batch, 1, pos, pos]``.
        start: residual stream at the input of layer ``first`` (for 0 the output of ``input``),
            ``[batch, pos, d_model]``; needed where ``first`` isn't 0.
        first: first layer that is run.
        replacement: output of a sublayer of layer ``first``; no gradient passes to what it would
            have been computed from.
    """
    lm, parts = model.lm, model.parts
    arguments = model.arguments(ids, mask)
    if attention is not None:
        arguments["attention_mask"] = attention
    if start is not None:
        start = start.detach().requires_grad_(True)
    given: dict[Sublayer, Tensor] = {}
    if replacement is not None:
        given[replacement.sublayer] = replacement.value.detach().requires_grad_(True)

    with lm.trace(**arguments) as tracer:
        kept: dict[str, list[Any]] = nnsight.save({name: [] for name in keep})
        # 1. Where the run starts
        if start is None:
            embed = parts.embed.output.save()
        else:
            enter(parts, first, start)
        for index, layer in enumerate(parts.layers[first:]):
            z, m = (given.get(x) if index == 0 else None for x in ("heads", "mlp"))
            # 2. Attention: what it reads, what its heads write
            if "attn_in" in keep:
                kept["attn_in"].append(layer.attn_norm.input)
            if "qkv" in keep:
                kept["qkv"].append([part.output for part in layer.qkv])
            if z is not None:
                layer.o.input = z
            if "heads" in keep:
                kept["heads"].append(layer.o.input if z is None else z)
            if "attended" in keep:
                kept["attended"].append(layer.o.output)
            # 3. The MLP: what it reads, what it writes
            if "mlp_in" in keep:
                kept["mlp_in"].append(layer.mlp_norm.input)
            if "mlp_normed" in keep:
                kept["mlp_normed"].append(layer.mlp_norm.output)
            if "neurons" in keep:
                kept["neurons"].append(layer.mlp_out.input)
            if m is not None:
                layer.mlp.output = m
            if "mlps" in keep:
                kept["mlps"].append(layer.mlp.output if m is None else m)
        # 4. What the logits read
        final_in = parts.final_norm.input.save()
        final = parts.final_norm.output.save()
        tracer.stop()
    return LayerRun(ids, first, embed if start is None else start, final_in, final, **_moved(kept))


@torch.no_grad()
def stream_before(
    model: LoadedModel, ids: Tensor, layer: int, mask: Tensor | None = None
) -> Tensor:
    """The residual stream at a layer's input; that layer and those behind it aren't run.

    Args:
        model: a loaded model.
        ids: input ids, ``[batch, pos]``.
        layer: which, below ``n_layers``.
        mask: 1 for tokens and 0 for padding.

    Returns:
        ``[batch, pos, d_model]``.
    """
    lm, block = model.lm, model.parts.layers[layer]
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        stream: Tensor = block.attn_norm.input.save()
        tracer.stop()
    return stream


def _moved(kept: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What was kept, which the trace's own dictionary lets go.

    A trace leaves a reference cycle behind, its own frames included: what they hold would fill the
    memory until Python looks for cycles.
    """
    moved = dict(kept)
    kept.clear()
    return moved
