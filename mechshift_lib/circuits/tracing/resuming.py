"""Traces that go on from a layer of a run, with something else at its input or within it.

Patching changes a run from some layer on: what lies below is never computed again, because a run
can start at any layer with a residual stream of its own, and with a batch of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import LayerRun, enter
from mechshift_lib.models.anatomy import at, projections, scatter_qkv, split_sizes
from mechshift_lib.models.loading import LoadedModel


@torch.no_grad()
def run_from(
    model: LoadedModel, ids: Tensor, layer: int, stream: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Go on from a layer to the end.

    Args:
        model: a loaded model.
        ids: input ids ``[n_row, pos]``, which only give the shape.
        layer: first layer that is run; ``n_layers`` runs none.
        stream: residual stream at its input, ``[n_row, pos, d_model]``.
        mask: 1 for tokens and 0 for padding, ``[n_row, pos]``.

    Returns:
        Output of the final norm, ``[n_row, pos, d_model]``.
    """
    anatomy, lm = model.anatomy, model.lm
    if layer == model.n_layers:
        final: Tensor = at(model.hf, anatomy.final_norm)(stream)
        return final
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        enter(model, layer, stream)
        final = at(lm, anatomy.final_norm).output.save()
        tracer.stop()
    return final


@torch.no_grad()
def through_layer(
    model: LoadedModel,
    base: LayerRun,
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
        enter(model, layer, stream)
        for path, part in zip(paths, parts, strict=False):
            at(block, path).skip(part)
        if attended is not None:
            at(block, anatomy.o).skip(attended)
        if mlp_normed is not None:
            at(block, anatomy.mlp_norm).skip(mlp_normed.to(stream.dtype))
        final_in = at(lm, anatomy.final_norm).input.save()
        tracer.stop()
    return final_in
