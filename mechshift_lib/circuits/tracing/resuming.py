"""Traces that go on from a layer of a run, with something else at its input or within it.

Patching changes a run from some layer on: what lies below is never computed again, because a run
can start at any layer with a residual stream of its own, and with a batch of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import LayerRun
from mechshift_lib.models.anatomy import at, scatter_qkv, split_sizes
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.parts import chosen, enter


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
    lm, parts = model.lm, model.parts
    if layer == model.n_layers:
        final: Tensor = at(model.hf, model.anatomy.final_norm)(stream)
        return final
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        enter(parts, layer, stream)
        final = parts.final_norm.output.save()
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
    lm, parts, last = model.lm, model.parts, layer + 1 == model.n_layers
    stream, block = base.inputs[layer][rows], parts.layers[layer]
    behind = parts.final_norm if last else parts.layers[layer + 1].attn_norm
    where = replaced[:, None, None]
    with lm.trace(**model.arguments(base.ids[rows])) as tracer:
        enter(parts, layer, stream)
        block.o.input = heads.to(block.o.input.device)
        block.mlp.output = chosen(where, mlps, block.mlp.output)
        after = behind.input.save()
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
    lm, parts, block = model.lm, model.parts, model.parts.layers[layer]
    projected: list[Tensor] = []
    if qkv is not None:
        width, kv_heads = model.d_head, (qkv.shape[-1] // model.d_head - model.n_heads) // 2
        sizes = split_sizes(model.n_heads, kv_heads, width)
        projected = scatter_qkv(model.anatomy, qkv, sizes, width)
    with lm.trace(**model.arguments(ids)) as tracer:
        home = enter(parts, layer, stream)
        for part, value in zip(block.qkv, projected, strict=False):
            part.skip(value.to(home))
        if attended is not None:
            block.o.skip(attended.to(home))
        if mlp_normed is not None:
            block.mlp_norm.skip(mlp_normed.to(home, stream.dtype))
        final_in = parts.final_norm.input.save()
        tracer.stop()
    return final_in
