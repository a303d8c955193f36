"""Traces that start from a run and go on with something else from one of its layers."""

from __future__ import annotations

from dataclasses import dataclass

import nnsight
import torch
from torch import Tensor

from mechshift_lib.circuits.tracing.outputs import NodeOutputs
from mechshift_lib.models.anatomy import (
    at,
    norm_parts,
    projections,
    scatter_qkv,
    split_sizes,
)
from mechshift_lib.models.loading import LoadedModel


def normed(model: LoadedModel, norm: torch.nn.Module, x: Tensor) -> Tensor:
    """Output of a norm module for inputs ``[..., d_model]``, in the precision of ``x``."""
    gain, epsilon = norm_parts(norm)
    if model.anatomy.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * gain.to(x.dtype)
    bias = getattr(norm, "bias", None)
    return x if bias is None else x + bias.to(x.dtype)


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
            anatomy.layer(lm, index).skip(anatomy.returned(stream))
        for path, part in zip(paths, parts, strict=False):
            at(block, path).skip(part)
        if attended is not None:
            at(block, anatomy.o).skip(attended)
        if mlp_normed is not None:
            at(block, anatomy.mlp_norm).skip(mlp_normed.to(stream.dtype))
        final_in = at(lm, anatomy.final_norm).input.save()
        tracer.stop()
    return final_in
