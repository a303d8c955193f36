"""Tracing: the only place where circuits look into a running model (by nnsight).

A trace stops at the final norm: the logits are its unembedding (checked at load), and reading only
the asked positions outside spares a ``[batch, pos, vocab]`` tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nnsight
from torch import Tensor

from mechshift_lib.models.anatomy import at, projections
from mechshift_lib.models.loading import LoadedModel


@dataclass(frozen=True)
class NodeOutputs:
    """What every node adds to the residual stream.

    Attributes:
        embed: output of ``input``, ``[batch, pos, d_model]``.
        heads: per layer the heads' outputs before the output projection,
            ``[batch, pos, n_heads * d_head]``.
        mlps: per layer the output of the MLP, ``[batch, pos, d_model]``.
        final: output of the final norm, ``[batch, pos, d_model]``.
    """

    embed: Tensor
    heads: list[Tensor]
    mlps: list[Tensor]
    final: Tensor


@dataclass(frozen=True)
class ReaderSites:
    """Where readers take in the residual stream, connected by one autograd graph.

    Attributes:
        attn_in: per layer the input of the norm before attention, ``[batch, pos, d_model]``.
        qkv: per layer the outputs of the q, k and v projections, or of the fused one
            (see :func:`mechshift_lib.models.anatomy.gather_qkv`).
        mlp_in: per layer the input of the norm before the MLP.
        mlp_normed: per layer the output of that norm.
        final_in: input of the final norm.
        final: output of the final norm.
    """

    attn_in: list[Tensor]
    qkv: list[list[Tensor]]
    mlp_in: list[Tensor]
    mlp_normed: list[Tensor]
    final_in: Tensor
    final: Tensor


def arguments(ids: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
    """What a model is called with.

    Args:
        ids: input ids ``[batch, pos]``.
        mask: 1 for tokens and 0 for padding on either side, ``[batch, pos]``; positions count
            tokens only, so padding changes no result. Without one, nothing is padding.
    """
    if mask is None:
        return {"input_ids": ids, "use_cache": False}
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "use_cache": False,
    }


def node_outputs(model: LoadedModel, ids: Tensor, mask: Tensor | None = None) -> NodeOutputs:
    """Run input ids ``[batch, pos]`` and keep what every node writes.

    ``mask`` is 1 for tokens and 0 for padding (see :meth:`LoadedModel.arguments`).
    """
    anatomy, lm = model.anatomy, model.lm
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        heads: list[Tensor] = nnsight.save([])
        mlps: list[Tensor] = nnsight.save([])
        embed = at(lm, anatomy.embed).output.save()
        for index in range(model.n_layers):
            layer = anatomy.layer(lm, index)
            heads.append(at(layer, anatomy.o).input)
            mlps.append(at(layer, anatomy.mlp).output)
        final = at(lm, anatomy.final_norm).output.save()
        tracer.stop()
    return NodeOutputs(embed, list(heads), list(mlps), final)


def reader_sites(
    model: LoadedModel, ids: Tensor, embed: Tensor, mask: Tensor | None = None
) -> ReaderSites:
    """Run with the output of ``input`` replaced and keep what every reader takes in.

    Args:
        model: a loaded model; its parameters are frozen.
        ids: input ids ``[batch, pos]``, which only give the shape.
        embed: output of ``input``, ``[batch, pos, d_model]``; gradients start here.
        mask: see :meth:`LoadedModel.arguments`.
    """
    anatomy, lm = model.anatomy, model.lm
    paths = projections(anatomy)
    embed = embed.detach().requires_grad_(True)
    with lm.trace(**model.arguments(ids, mask)) as tracer:
        attn_in: list[Tensor] = nnsight.save([])
        qkv: list[list[Tensor]] = nnsight.save([])
        mlp_in: list[Tensor] = nnsight.save([])
        mlp_normed: list[Tensor] = nnsight.save([])
        at(lm, anatomy.embed).output = embed
        for index in range(model.n_layers):
            layer = anatomy.layer(lm, index)
            attn_in.append(at(layer, anatomy.attn_norm).input)
            qkv.append([at(layer, path).output for path in paths])
            mlp_in.append(at(layer, anatomy.mlp_norm).input)
            mlp_normed.append(at(layer, anatomy.mlp_norm).output)
        final_in = at(lm, anatomy.final_norm).input.save()
        final = at(lm, anatomy.final_norm).output.save()
        tracer.stop()
    return ReaderSites(list(attn_in), list(qkv), list(mlp_in), list(mlp_normed), final_in, final)
