"""Traces that change a run: readers that take in something else than the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nnsight
import torch
from torch import Tensor

from mechshift_lib.circuits.ablation import Reference
from mechshift_lib.circuits.graph import Graph
from mechshift_lib.circuits.tracing import NodeOutputs
from mechshift_lib.models.anatomy import (
    Anatomy,
    at,
    norm_parts,
    projection_bias,
    projection_rows,
    projections,
    rows,
    scatter_qkv,
    split_sizes,
)
from mechshift_lib.models.loading import LoadedModel

#: Largest tensor of readers' inputs that is formed at once, in elements.
_CHUNK = 1 << 23


def normed(model: LoadedModel, norm: torch.nn.Module, x: Tensor) -> Tensor:
    """Output of a norm module for inputs ``[..., d_model]``, in the precision of ``x``."""
    gain, epsilon = norm_parts(norm)
    if model.anatomy.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * gain.to(x.dtype)
    bias = getattr(norm, "bias", None)
    return x if bias is None else x + bias.to(x.dtype)


def masked_run(
    model: LoadedModel,
    graph: Graph,
    ids: Tensor,
    reference: Reference,
    streams: Sequence[Tensor],
    keep: Sequence[Tensor],
    *,
    positions: slice,
    mask: Tensor | None = None,
) -> Tensor:
    """Run with chosen edges intact; all others carry the reference.

    Every reader takes in Σ_u (kept ? this run's output of u : reference output of u) and the
    biases of the attention output projections; norms are recomputed.

    Args:
        model: a loaded model.
        graph: its graph.
        ids: input ids ``[batch, pos]``.
        reference: what cut edges carry, for the rows of ``ids``.
        streams: what the reference adds up to (:meth:`Reference.streams`).
        keep: 1 for intact and 0 for cut edges, ``[batch, n_reader, n_source seen]`` for each of
            ``streams`` (:func:`keep_tables`).
        positions: positions at which readers' inputs are replaced; at all others of the sequence
            the run must equal the reference in whatever an edge carries.
        mask: padding (see :func:`mechshift_lib.models.inputs.arguments`).

    Returns:
        Input of the final norm at ``positions``, ``[batch, pos, d_model]``, float32 at least.
    """
    anatomy, lm, hf = model.anatomy, model.lm, model.hf
    heads, width = model.n_heads, model.d_head
    paths = projections(anatomy)
    sizes = split_sizes(heads, graph.kv_readers, width)
    batch, length = len(ids), len(range(*positions.indices(ids.shape[1])))
    dtype = streams[0].dtype
    # output of every source, this run minus reference
    change = torch.empty(
        batch, graph.n_sources, length, model.d_model, dtype=dtype, device=model.device
    )
    with torch.no_grad(), lm.trace(**model.arguments(ids, mask)) as tracer:
        change[:, 0] = (at(lm, anatomy.embed).output - reference.embed)[:, positions]
        for index in range(model.n_layers):
            layer, module = anatomy.layer(lm, index), anatomy.layer(hf, index)
            first = graph.sources_before(index)
            stream = streams[2 * index][:, positions]
            qkv = _projected(model, index, stream, keep[2 * index], change)
            for path, part in zip(paths, scatter_qkv(anatomy, qkv, sizes, width), strict=True):
                output = at(layer, path).output
                output[:, positions] = part.to(output.dtype)
            z = (at(layer, anatomy.o).input - reference.heads[index])[:, positions]
            change[:, first : first + heads] = _written(z, rows(at(module, anatomy.o)), heads)
            stream = streams[2 * index + 1][:, positions]
            taken = stream + _mixed(keep[2 * index + 1], change)[:, 0]
            output = at(layer, anatomy.mlp_norm).output
            mlp_norm = at(module, anatomy.mlp_norm)
            output[:, positions] = normed(model, mlp_norm, taken).to(output.dtype)
            added = at(layer, anatomy.mlp).output - reference.mlps[index]
            change[:, first + heads] = added[:, positions]
        tracer.stop()
    return streams[-1][:, positions] + _mixed(keep[-1], change)[:, 0]


def _mixed(keep: Tensor, change: Tensor) -> Tensor:
    """Σ_u keep · change over the sources seen, ``[batch, n_reader, pos, d_model]``."""
    seen = change[:, : keep.shape[2]]
    return (keep @ seen.flatten(2)).unflatten(2, change.shape[2:])


def _written(z: Tensor, output_rows: Tensor, heads: int) -> Tensor:
    """Each head's output ``[batch, n_heads, pos, d_model]`` from ``[batch, pos, n_heads·d_head]``.

    The output projection's bias is left out: it belongs to no head.
    """
    per_head = output_rows.to(z.dtype).T.unflatten(0, (heads, -1))  # [head, d_head, d_model]
    return torch.einsum("bphe,hed->bhpd", z.unflatten(2, (heads, -1)), per_head)


def _projected(
    model: LoadedModel, index: int, stream: Tensor, keep: Tensor, change: Tensor
) -> Tensor:
    """What q, k and v become when each reader takes in its own sum.

    Args:
        model: a loaded model.
        index: the layer.
        stream: what the reference adds up to, ``[batch, pos, d_model]``.
        keep: ``[batch, n_reader, n_source seen]``.
        change: outputs of the sources, this run minus reference.

    Returns:
        ``[batch, pos, n_reader * d_head]`` in :func:`gather_qkv`'s order.
    """
    module, width = model.anatomy.layer(model.hf, index), model.d_head
    norm = at(module, model.anatomy.attn_norm)
    weights = projection_rows(model.hf, model.anatomy, index, width).to(stream.dtype)
    bias = projection_bias(model.hf, model.anatomy, index, width)
    chunk = max(1, _CHUNK // stream.numel())
    parts = []
    for start in range(0, keep.shape[1], chunk):
        readers = slice(start, start + chunk)
        taken = stream[:, None] + _mixed(keep[:, readers], change)
        x = normed(model, norm, taken)
        parts.append(torch.einsum("brpd,rhd->bprh", x, weights.unflatten(0, (-1, width))[readers]))
    out = torch.cat(parts, 2).flatten(2)
    return out if bias is None else out + bias.to(out.dtype)


@dataclass(frozen=True)
class CleanRun:
    """A run that others start from, layer by layer; all tensors ``[batch, pos, …]``.

    Attributes:
        nodes: what every node writes.
        attn_in: input of the norm before attention.
        qkv: outputs of the projections to q, k and v.
        attended: output of the output projection.
        mlp_in: input of the norm before the MLP.
        final_in: input of the final norm.
    """

    nodes: NodeOutputs
    attn_in: list[Tensor]
    qkv: list[list[Tensor]]
    attended: list[Tensor]
    mlp_in: list[Tensor]
    final_in: Tensor


@torch.no_grad()
def clean_run(model: LoadedModel, ids: Tensor) -> CleanRun:
    """Run input ids ``[batch, pos]`` and keep what runs behind a layer start from."""
    anatomy, lm = model.anatomy, model.lm
    paths = projections(anatomy)
    with lm.trace(**model.arguments(ids)) as tracer:
        attn_in: list[Tensor] = nnsight.save([])
        qkv: list[list[Tensor]] = nnsight.save([])
        heads: list[Tensor] = nnsight.save([])
        attended: list[Tensor] = nnsight.save([])
        mlp_in: list[Tensor] = nnsight.save([])
        mlps: list[Tensor] = nnsight.save([])
        embed = at(lm, anatomy.embed).output.save()
        for index in range(model.n_layers):
            layer = anatomy.layer(lm, index)
            attn_in.append(at(layer, anatomy.attn_norm).input)
            qkv.append([at(layer, path).output for path in paths])
            heads.append(at(layer, anatomy.o).input)
            attended.append(at(layer, anatomy.o).output)
            mlp_in.append(at(layer, anatomy.mlp_norm).input)
            mlps.append(at(layer, anatomy.mlp).output)
        final_in = at(lm, anatomy.final_norm).input.save()
        final = at(lm, anatomy.final_norm).output.save()
        tracer.stop()
    nodes = NodeOutputs(embed, list(heads), list(mlps), final)
    return CleanRun(nodes, list(attn_in), list(qkv), list(attended), list(mlp_in), final_in)


@torch.no_grad()
def run_behind(
    model: LoadedModel,
    ids: Tensor,
    layer: int,
    stream: Tensor,
    *,
    qkv: Tensor | None = None,
    attended: Tensor | None = None,
    mlp_normed: Tensor | None = None,
) -> Tensor:
    """Run from one layer on, with what its attention or its MLP takes in replaced.

    Args:
        model: a loaded model.
        ids: input ids ``[batch, pos]``, which only give the shape.
        layer: first layer that is run.
        stream: its input, ``[batch, pos, d_model]``.
        qkv: outputs of its q, k and v projections in :func:`gather_qkv`'s order.
        attended: output of its output projection.
        mlp_normed: output of the norm before its MLP.

    Returns:
        Input of the final norm, ``[batch, pos, d_model]``.
    """
    anatomy, lm = model.anatomy, model.lm
    block = anatomy.layer(lm, layer)
    paths = projections(anatomy)
    parts = []
    if qkv is not None:
        width, kv_heads = model.d_head, (qkv.shape[-1] // model.d_head - model.n_heads) // 2
        parts = scatter_qkv(anatomy, qkv, split_sizes(model.n_heads, kv_heads, width), width)
    with lm.trace(**model.arguments(ids)) as tracer:
        if layer == 0:
            at(lm, anatomy.embed).output = stream
        for index in range(layer):
            anatomy.layer(lm, index).skip(_returned(anatomy, stream))
        for path, part in zip(paths, parts, strict=False):
            at(block, path).skip(part)
        if attended is not None:
            at(block, anatomy.o).skip(attended)
        if mlp_normed is not None:
            at(block, anatomy.mlp_norm).skip(mlp_normed.to(stream.dtype))
        final_in = at(lm, anatomy.final_norm).input.save()
        tracer.stop()
    return final_in


def _returned(anatomy: Anatomy, stream: Tensor) -> Any:
    """What a layer that is skipped gives back."""
    nothing = (None,) * (anatomy.layer_returns - 1)
    return (stream, *nothing) if anatomy.layer_returns else stream
