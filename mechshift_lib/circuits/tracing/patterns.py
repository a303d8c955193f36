"""Attention patterns as the model itself computes them, read off what its heads put out.

A head's output is its pattern times its values. Where the values of a row are one mark a position,
each in a dimension of its own, the head puts its pattern out. So every input runs once as it is
and, beside it, once for every ``d_head`` positions with marks for values; behind each layer's heads
these rows get the outputs of the unmarked one, so that queries and keys are those of the run itself
in every layer. Rotary positions, scales, soft caps, norms of queries, masks and shared key heads
are the model's own, whatever its code and kernel are; nothing of them is written here anew.
"""

from __future__ import annotations

import nnsight
import torch
from torch import Tensor

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import scatter_qkv, split_sizes
from mechshift_lib.models.loading import LoadedModel

#: By how much the weights of a query may miss 1, in numbers of 4 bytes and of fewer.
_WIDE, _NARROW = 1e-4, 5e-2


@torch.no_grad()
def attention_patterns(model: LoadedModel, ids: Tensor) -> Tensor:
    """How much each query looks at each key, in every head.

    Args:
        model: a loaded model.
        ids: input ids without padding, ``[batch, pos]``.

    Returns:
        Weights in float32 at least, ``[batch, n_layers, n_heads, query, key]``; over keys they sum
        to 1.

    Raises:
        ModelError: they don't, so that a head isn't its pattern times its projected values.
    """
    lm, parts, width = model.lm, model.parts, model.d_head
    batch, length = ids.shape
    chunks = -(-length // width)
    dtype = next(model.hf.parameters()).dtype
    # 1. One mark a position: a chunk of positions has all dimensions of a head
    marks = torch.eye(chunks * width, dtype=dtype, device=ids.device)[:length]
    marks = marks.unflatten(1, (chunks, width)).movedim(1, 0)  # [chunk, pos, d_head]
    marks = marks.repeat_interleave(batch, 0)  # rows: chunk by chunk, example by example
    n_kv = model.shape.n_kv_heads
    marks, columns = marks.repeat(1, 1, n_kv), _value_columns(model, n_kv)
    with lm.trace(**model.arguments(ids.repeat(1 + chunks, 1))) as tracer:
        kept: list[Tensor] = nnsight.save([])
        for layer in parts.layers:
            # 2. Values of the marked rows
            values = layer.qkv[-1].output.clone()
            values[batch:, :, columns] = marks.to(values.device)
            layer.qkv[-1].output = values
            # 3. What their heads put out; the run goes on as if they had been the others
            z = layer.o.input
            kept.append(z[batch:])
            layer.o.input = z[:batch].repeat(1 + chunks, 1, 1)
        tracer.stop()
    wide = torch.promote_types(dtype, torch.float32)
    heads = torch.stack([z.to(wide) for z in kept]).unflatten(-1, (model.n_heads, width))
    # [layer, chunk * batch, query, head, key of the chunk]
    heads = heads.unflatten(1, (chunks, batch))
    found = heads.permute(2, 0, 4, 3, 1, 5).flatten(-2)[..., :length]
    missed = float((found.sum(-1) - 1).abs().max())
    if not missed <= (_WIDE if dtype.itemsize >= 4 else _NARROW):
        raise ModelError(
            f"Attention weights of this model sum to 1 ± {missed:.2g}, so what its heads put out "
            "isn't a mean of their projected values: leave 'attention' out of the pair's analyses."
        )
    return found


def _value_columns(model: LoadedModel, n_kv: int) -> Tensor:
    """Where the last projection's output has the values, head by head, ``[n_kv * d_head]``."""
    sizes = split_sizes(model.n_heads, n_kv, model.d_head)
    order = torch.arange(sum(sizes), device=model.device)
    columns = scatter_qkv(model.anatomy, order, sizes, model.d_head)[-1]
    return columns.argsort()[-sizes[-1] :]
