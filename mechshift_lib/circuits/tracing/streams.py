"""Traces that keep the residual stream between layers and that go on from one of them.

Patching changes a run from some layer on: what lies below is never computed again, because a run
can start at any layer with a residual stream of its own (``skip``), and with a batch of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import nnsight
import torch
from torch import Tensor

from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel


@dataclass(frozen=True)
class Streams:
    """The residual stream of a run and what is written to it.

    Attributes:
        ids: input ids, ``[batch, pos]``.
        inputs: input of each layer and, last, of the final norm: ``n_layers + 1`` tensors
            ``[batch, pos, d_model]``.
        heads: per layer the heads' outputs before the output projection,
            ``[batch, pos, n_heads * d_head]``.
        mlps: per layer the output of the MLP, ``[batch, pos, d_model]``.
    """

    ids: Tensor
    inputs: list[Tensor]
    heads: list[Tensor]
    mlps: list[Tensor]


@torch.no_grad()
def run_streams(model: LoadedModel, ids: Tensor) -> Streams:
    """Run input ids ``[batch, pos]`` and keep the residual stream at every layer's input."""
    anatomy, lm = model.anatomy, model.lm
    with lm.trace(**model.arguments(ids)) as tracer:
        inputs: list[Tensor] = nnsight.save([])
        heads: list[Tensor] = nnsight.save([])
        mlps: list[Tensor] = nnsight.save([])
        for index in range(model.n_layers):
            layer = anatomy.layer(lm, index)
            inputs.append(at(layer, anatomy.attn_norm).input)
            heads.append(at(layer, anatomy.o).input)
            mlps.append(at(layer, anatomy.mlp).output)
        inputs.append(at(lm, anatomy.final_norm).input)
        tracer.stop()
    return Streams(ids, list(inputs), list(heads), list(mlps))


def enter(model: LoadedModel, layer: int, stream: Tensor) -> None:
    """Inside a trace: reach ``layer`` with ``stream`` at its input, skipping what is below."""
    anatomy, lm = model.anatomy, model.lm
    if layer == 0:
        at(lm, anatomy.embed).output = stream
    for index in range(layer):
        anatomy.layer(lm, index).skip(anatomy.returned(stream))


@torch.no_grad()
def through_layer(
    model: LoadedModel,
    base: Streams,
    layer: int,
    rows: Tensor,
    heads: Tensor,
    mlps: Tensor,
    replaced: Tensor,
) -> Tensor:
    """The residual stream behind one layer of a run in which what the layer writes is replaced.

    Args:
        model: a loaded model.
        base: the run.
        layer: the layer.
        rows: which item of ``base`` each row starts from, ``[n_row]``.
        heads: heads' outputs of each row, ``[n_row, pos, n_heads * d_head]``.
        mlps: output of the MLP, ``[n_row, pos, d_model]``, used where ``replaced`` says so;
            elsewhere the MLP is run on what the row's heads wrote.
        replaced: ``[n_row]``, bool.

    Returns:
        Input of the next layer, or of the final norm, ``[n_row, pos, d_model]``.
    """
    anatomy, lm = model.anatomy, model.lm
    stream, last = base.inputs[layer][rows], layer + 1 == model.n_layers
    with lm.trace(**model.arguments(base.ids[rows])) as tracer:
        enter(model, layer, stream)
        block = anatomy.layer(lm, layer)
        at(block, anatomy.o).input = heads
        written = at(block, anatomy.mlp).output
        at(block, anatomy.mlp).output = torch.where(replaced[:, None, None], mlps, written)
        root = lm if last else anatomy.layer(lm, layer + 1)
        path = anatomy.final_norm if last else anatomy.attn_norm
        after = at(root, path).input.save()
        tracer.stop()
    return after


@torch.no_grad()
def run_from(model: LoadedModel, ids: Tensor, layer: int, stream: Tensor) -> Tensor:
    """Go on from a layer to the end.

    Args:
        model: a loaded model.
        ids: input ids ``[n_row, pos]``, which only give the shape.
        layer: first layer that is run; ``n_layers`` runs none.
        stream: residual stream at its input, ``[n_row, pos, d_model]``.

    Returns:
        Output of the final norm, ``[n_row, pos, d_model]``.
    """
    anatomy, lm = model.anatomy, model.lm
    if layer == model.n_layers:
        normed: Tensor = at(model.hf, anatomy.final_norm)(stream)
        return normed
    with lm.trace(**model.arguments(ids)) as tracer:
        enter(model, layer, stream)
        final = at(lm, anatomy.final_norm).output.save()
        tracer.stop()
    return final
