"""Tracing: the only place where circuits look into a running model (by nnsight).

A trace stops at the final norm: the logits are its unembedding (checked at load), and reading only
the asked positions outside spares a ``[batch, pos, vocab]`` tensor.
"""

from __future__ import annotations

from dataclasses import dataclass

import nnsight
from torch import Tensor

from mechshift_lib.models.anatomy import at
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
