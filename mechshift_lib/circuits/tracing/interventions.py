"""Traces in which nodes write something else, or readers take in something else.

What is put in place is worked out elsewhere, by plain functions of tensors; here it only meets the
running model.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import Written
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.parts import chosen, enter


@torch.no_grad()
def replaced_run(model: LoadedModel, ids: Tensor, cut: Tensor, instead: Written) -> Tensor:
    """A run in which some nodes write something else.

    Args:
        model: a loaded model.
        ids: input ids, ``[n_row, pos]``.
        cut: nodes of each row that are replaced, in the order of the graph's sources,
            ``[n_row, n_source]``, bool.
        instead: what they write.

    Returns:
        Input of the final norm in float32 at least, ``[n_row, pos, d_model]``.
    """
    lm, parts = model.lm, model.parts
    embeds, zs, written = instead.embed, instead.heads, instead.mlps
    by_layer = cut[:, 1:].unflatten(1, (model.n_layers, -1))  # heads, then the MLP
    heads = by_layer[:, :, :-1].repeat_interleave(model.d_head, 2)[:, :, None]
    mlps = by_layer[:, :, -1, None, None]
    whole = ~cut.any(0).cpu()
    untouched = whole[1:].unflatten(0, (model.n_layers, -1))
    with lm.trace(**model.arguments(ids)) as tracer:
        if not whole[0]:
            parts.embed.output = chosen(cut[:, 0, None, None], embeds, parts.embed.output)
        for index, layer in enumerate(parts.layers):
            if not untouched[index, :-1].all():
                layer.o.input = chosen(heads[:, index], zs[index], layer.o.input)
            if not untouched[index, -1]:
                layer.mlp.output = chosen(mlps[:, index], written[index], layer.mlp.output)
        final = parts.final_norm.input.save()
        tracer.stop()
    return final.to(torch.promote_types(final.dtype, torch.float32))


class Wiring(Protocol):
    """What readers take in, worked out from what was written so far, layer by layer.

    Its functions are called within a trace, in the order in which they stand here.
    """

    def input_wrote(self, embed: Tensor) -> None:
        """Note the output of ``input``, ``[batch, pos, d_model]``; not where layers are skipped."""

    def projected(self, layer: int) -> list[Tensor]:
        """The outputs of a layer's projections to q, k and v, as the model lays them out."""

    def heads_wrote(self, layer: int, z: Tensor) -> None:
        """Note the heads' outputs before the projection, ``[batch, pos, n_heads * d_head]``."""

    def mlp_normed(self, layer: int) -> Tensor:
        """What the norm before a layer's MLP puts out, ``[batch, some pos, d_model]``."""

    def mlp_wrote(self, layer: int, output: Tensor) -> None:
        """Note the MLP's output at these positions."""


def rewired_run(
    model: LoadedModel, ids: Tensor, wiring: Wiring, *, mask: Tensor | None = None, start: int = 0
) -> None:
    """Run the layers from ``start`` on, their readers taking in what ``wiring`` says.

    The model's own residual stream is read by nothing: it only has the right shape. Gradients pass
    through where they are enabled.

    Args:
        model: a loaded model.
        ids: input ids ``[batch, pos]``.
        wiring: is told what is written, and says what is read.
        mask: padding (see :meth:`LoadedModel.arguments`).
        start: first layer that is run.
    """
    lm, parts = model.lm, model.parts
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        embed = parts.embed.output
        if start == 0:
            wiring.input_wrote(embed)
        else:
            enter(parts, start, embed)
        for index, layer in enumerate(parts.layers[start:], start):
            for part, value in zip(layer.qkv, wiring.projected(index), strict=True):
                part.skip(value.to(embed.dtype))
            wiring.heads_wrote(index, layer.o.input)
            layer.mlp_norm.skip(wiring.mlp_normed(index).to(embed.dtype))
            wiring.mlp_wrote(index, layer.mlp.output)
            layer.mlp.output = embed  # at all positions again
        tracer.stop()
