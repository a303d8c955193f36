"""The two traces of path patching: what readers take in, and the run in which they take it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nnsight
import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import LayerRun
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.parts import chosen, enter


@dataclass(frozen=True)
class Received:
    """What readers made of a residual stream, by layer.

    Attributes:
        qkv: outputs of the layer's projections, as the model lays them out.
        mlps: output of the MLP, ``[n_row, pos, d_model]``.
        final: output of the final norm, ``[n_row, pos, d_model]``.
    """

    qkv: dict[int, list[Tensor]]
    mlps: dict[int, Tensor]
    final: Tensor


@torch.no_grad()
def receive(
    model: LoadedModel,
    clean: LayerRun,
    corrupted: LayerRun,
    rows: Tensor,
    sent: Tensor,
    start: int,
    *,
    frozen_mlps: bool,
) -> Received:
    """Run with all nodes frozen at their clean outputs but the senders, which are corrupted.

    Args:
        model: a loaded model.
        clean: the clean run.
        corrupted: the corrupted run.
        rows: item of each row, ``[n_row]``.
        sent: senders of each row, ``[n_row, n_source]``, in the order of the graph's sources.
        start: first layer that is run: none of the senders writes below.
        frozen_mlps: MLPs are frozen too; else they are recomputed.
    """
    lm, parts = model.lm, model.parts
    zs, other_zs, written, other_written = clean.heads, corrupted.heads, clean.mlps, corrupted.mlps
    stream = clean.inputs[start][rows]
    if start == 0:
        stream = torch.where(sent[:, 0, None, None], corrupted.inputs[0][rows], stream)
    by_layer = sent[:, 1:].unflatten(1, (model.n_layers, -1))  # heads, then the MLP
    heads_sent = by_layer[:, :, :-1].repeat_interleave(model.d_head, 2)[:, :, None]
    mlps_sent = by_layer[:, :, -1, None, None]
    with lm.trace(**model.arguments(clean.ids[rows])) as tracer:
        qkv: dict[int, list[Tensor]] = nnsight.save({})
        mlps: dict[int, Tensor] = nnsight.save({})
        enter(parts, start, stream)
        for index, layer in enumerate(parts.layers[start:], start):
            qkv[index] = [part.output for part in layer.qkv]
            z = torch.where(heads_sent[:, index], other_zs[index][rows], zs[index][rows])
            layer.o.input = z.to(qkv[index][0].device)
            mlps[index] = layer.mlp.output
            own = written[index][rows].to(mlps[index].device) if frozen_mlps else mlps[index]
            layer.mlp.output = chosen(mlps_sent[:, index], other_written[index][rows], own)
        final = parts.final_norm.output.save()
        tracer.stop()
    return Received(dict(qkv), dict(mlps), final)


@torch.no_grad()
def run_received(
    model: LoadedModel,
    clean: LayerRun,
    rows: Tensor,
    received: Received,
    columns: Mapping[int, list[Tensor]],
    mlps: frozenset[int],
    start: int,
) -> Tensor:
    """The clean run in which chosen readers take in what they received.

    Args:
        model: a loaded model.
        clean: the clean run.
        rows: item of each row, ``[n_row]``.
        received: what the readers received.
        columns: for each layer with q, k or v readers which columns of each projection's output
            are theirs, bool.
        mlps: layers whose MLP is a reader.
        start: first layer with a reader.

    Returns:
        Output of the final norm, ``[n_row, pos, d_model]``.
    """
    lm, parts, stream = model.lm, model.parts, clean.inputs[start][rows]
    qkv, written = received.qkv, received.mlps
    with lm.trace(**model.arguments(clean.ids[rows])) as tracer:
        enter(parts, start, stream)
        for index, layer in enumerate(parts.layers[start:], start):
            if index in columns:
                for part, mine, other in zip(layer.qkv, columns[index], qkv[index], strict=True):
                    part.output = chosen(mine, other, part.output)
            if index in mlps:
                layer.mlp.output = written[index].to(layer.mlp.output.device)
        final = parts.final_norm.output.save()
        tracer.stop()
    return final
