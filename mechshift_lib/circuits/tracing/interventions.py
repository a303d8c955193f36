"""Traces in which nodes write something else, or readers take in something else.

What is put in place is worked out elsewhere, by plain functions of tensors; here it only meets the
running model.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import Written
from mechshift_lib.models.anatomy import at, projections
from mechshift_lib.models.loading import LoadedModel


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
    anatomy, lm = model.anatomy, model.lm
    by_layer = cut[:, 1:].unflatten(1, (model.n_layers, -1))  # heads, then the MLP
    heads = by_layer[:, :, :-1].repeat_interleave(model.d_head, 2)[:, :, None]
    mlps = by_layer[:, :, -1, None, None]
    whole = ~cut.any(0).cpu()
    untouched = whole[1:].unflatten(0, (model.n_layers, -1))
    with lm.trace(**model.arguments(ids)) as tracer:
        if not whole[0]:
            embed = at(lm, anatomy.embed).output
            at(lm, anatomy.embed).output = torch.where(cut[:, 0, None, None], instead.embed, embed)
        for index in range(model.n_layers):
            layer = anatomy.layer(lm, index)
            if not untouched[index, :-1].all():
                own = at(layer, anatomy.o).input
                at(layer, anatomy.o).input = torch.where(heads[:, index], instead.heads[index], own)
            if not untouched[index, -1]:
                written = at(layer, anatomy.mlp).output
                at(layer, anatomy.mlp).output = torch.where(
                    mlps[:, index], instead.mlps[index], written
                )
        final = at(lm, anatomy.final_norm).input.save()
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
    anatomy, lm = model.anatomy, model.lm
    paths = projections(anatomy)
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        embed = at(lm, anatomy.embed).output
        if start == 0:
            wiring.input_wrote(embed)
        for index in range(start):
            anatomy.layer(lm, index).skip(anatomy.returned(embed))
        for index in range(start, model.n_layers):
            layer = anatomy.layer(lm, index)
            for path, part in zip(paths, wiring.projected(index), strict=True):
                at(layer, path).skip(part.to(embed.dtype))
            wiring.heads_wrote(index, at(layer, anatomy.o).input)
            at(layer, anatomy.mlp_norm).skip(wiring.mlp_normed(index).to(embed.dtype))
            wiring.mlp_wrote(index, at(layer, anatomy.mlp).output)
            at(layer, anatomy.mlp).output = embed  # at all positions again
        tracer.stop()
