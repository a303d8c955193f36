"""Runs at which gradients are taken (by nnsight), from any layer upwards.

A run starts from a given output of ``input``, or from a given residual stream at the input of a
layer: the layers below are then skipped. One sublayer's output may be replaced. What reads the
residual stream, or what writes it, is kept, connected by one autograd graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import nnsight
from torch import Tensor

from mechshift_lib.models.anatomy import at, projections
from mechshift_lib.models.loading import LoadedModel

T = TypeVar("T")

#: All heads of a layer together, or its MLP.
Sublayer = Literal["heads", "mlp"]


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
class GradientRun:
    """What the layers of a run, from ``first`` on, read or wrote.

    Attributes:
        first: first layer that was run; lists start with it.
        start: residual stream at its input, where gradients end, ``[batch, pos, d_model]``.
        final_in: input of the final norm.
        final: output of the final norm.
        attn_in: per layer the input of the norm before attention, ``[batch, pos, d_model]``.
        qkv: per layer the outputs of the q, k and v projections, or of the fused one
            (see :func:`mechshift_lib.models.anatomy.gather_qkv`).
        mlp_in: per layer the input of the norm before the MLP.
        mlp_normed: per layer the output of that norm.
        heads: where writers are kept, per layer the heads' outputs before the output projection,
            ``[batch, pos, n_heads * d_head]``.
        neurons: there, per layer the input of the MLP's last linear map, ``[batch, pos, d_mlp]``.
        mlps: there, per layer the output of the MLP, ``[batch, pos, d_model]``.
    """

    first: int
    start: Tensor
    final_in: Tensor
    final: Tensor
    attn_in: list[Tensor]
    qkv: list[list[Tensor]]
    mlp_in: list[Tensor]
    mlp_normed: list[Tensor]
    heads: list[Tensor]
    neurons: list[Tensor]
    mlps: list[Tensor]


def gradient_run(
    model: LoadedModel,
    ids: Tensor,
    start: Tensor,
    *,
    first: int = 0,
    replacement: Replacement | None = None,
    writers: bool = False,
    mask: Tensor | None = None,
) -> GradientRun:
    """Run the layers from ``first`` on and keep what they read and wrote.

    Args:
        model: a loaded model; its parameters are frozen.
        ids: input ids ``[batch, pos]``, which only give the shape.
        start: residual stream at the input of layer ``first`` (for 0 the output of ``input``),
            ``[batch, pos, d_model]``.
        first: first layer that is run.
        replacement: output of a sublayer of layer ``first``; no gradient passes to what it would
            have been computed from.
        writers: keep what is written, too (it takes memory that gradients at readers don't need).
        mask: 1 for tokens and 0 for padding (see :meth:`LoadedModel.arguments`).
    """
    anatomy, lm = model.anatomy, model.lm
    paths = projections(anatomy)
    start = start.detach().requires_grad_(True)
    given: dict[Sublayer, Tensor] = {}
    if replacement is not None:
        given[replacement.sublayer] = replacement.value.detach().requires_grad_(True)
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        attn_in: list[Tensor] = nnsight.save([])
        qkv: list[list[Tensor]] = nnsight.save([])
        mlp_in: list[Tensor] = nnsight.save([])
        mlp_normed: list[Tensor] = nnsight.save([])
        heads: list[Tensor] = nnsight.save([])
        neurons: list[Tensor] = nnsight.save([])
        mlps: list[Tensor] = nnsight.save([])
        if first == 0:
            at(lm, anatomy.embed).output = start
        for index in range(first):
            anatomy.layer(lm, index).skip(anatomy.returned(start))
        for index in range(first, model.n_layers):
            layer = anatomy.layer(lm, index)
            attn_in.append(at(layer, anatomy.attn_norm).input)
            qkv.append([at(layer, path).output for path in paths])
            z, m = (given.get(x) if index == first else None for x in ("heads", "mlp"))
            if z is not None:
                at(layer, anatomy.o).input = z
            if writers:
                heads.append(at(layer, anatomy.o).input if z is None else z)
            mlp_in.append(at(layer, anatomy.mlp_norm).input)
            mlp_normed.append(at(layer, anatomy.mlp_norm).output)
            if writers:
                neurons.append(at(layer, anatomy.mlp_out).input)
            if m is not None:
                at(layer, anatomy.mlp).output = m
            if writers:
                mlps.append(at(layer, anatomy.mlp).output if m is None else m)
        final_in = at(lm, anatomy.final_norm).input.save()
        final = at(lm, anatomy.final_norm).output.save()
        tracer.stop()
    return GradientRun(
        first=first,
        start=start,
        final_in=final_in,
        final=final,
        attn_in=_moved(attn_in),
        qkv=_moved(qkv),
        mlp_in=_moved(mlp_in),
        mlp_normed=_moved(mlp_normed),
        heads=_moved(heads),
        neurons=_moved(neurons),
        mlps=_moved(mlps),
    )


def _moved(kept: list[T]) -> list[T]:
    """A list's values, which the list itself lets go.

    A trace leaves a reference cycle behind, its own frames included: what they hold would fill the
    memory until Python looks for cycles.
    """
    values = list(kept)
    kept.clear()
    return values
