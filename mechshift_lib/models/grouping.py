"""Grouped-query attention rewritten as multi-head attention with the same function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mechshift_lib.models.anatomy import Anatomy, at, projections
from mechshift_lib.models.shape import Shape, shape_of
from mechshift_lib.models.weights import tensor_of


def ungroup(model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Give every query head its own copy of its group's k and v projection, in place.

    The logits stay the same, and the gradient at the output of a k or v projection is then
    resolved by query head, as the edges of the paper are.
    """
    shape = shape_of(model.config, anatomy)
    groups = shape.n_heads // shape.n_kv_heads
    if groups == 1:
        return
    for index in range(shape.n_layers):
        layer = anatomy.layer(model, index)
        for path in projections(anatomy):
            if path != anatomy.q:
                parent, _, name = path.rpartition(".")
                owner = at(layer, parent) if parent else layer
                setattr(owner, name, _repeated(at(layer, path), shape, anatomy))
        attention = at(layer, anatomy.attn) if anatomy.attn else layer
        _declare(attention, "num_key_value_groups", 1)
        _declare(attention, "num_key_value_heads", shape.n_heads)
        _declare(getattr(attention, "config", None), anatomy.config.n_kv_heads, shape.n_heads)
    setattr(model.config, anatomy.config.n_kv_heads, shape.n_heads)


def _declare(owner: Any, name: str, value: int) -> None:
    """Set a number that the model's code may look at, where it has one."""
    if hasattr(owner, name):
        setattr(owner, name, value)


def _repeated(linear: nn.Linear, shape: Shape, anatomy: Anatomy) -> nn.Linear:
    """A projection whose output has each k and v head once for every query head of its group.

    A fused projection's queries, which come first, stay as they are. A quantised one becomes plain.
    """
    groups = shape.n_heads // shape.n_kv_heads
    queries = shape.n_heads * shape.d_head if anatomy.fused else 0

    def repeat(tensor: Tensor) -> Tensor:
        """``[out, …]`` → ``[more out, …]``; k and v follow each other, head by head."""
        heads = tensor[queries:].unflatten(0, (-1, shape.d_head))
        return torch.cat([tensor[:queries], heads.repeat_interleave(groups, 0).flatten(0, 1)])

    own, bias = tensor_of(linear, "weight"), tensor_of(linear, "bias")
    assert own is not None
    weight = nn.Parameter(repeat(own.detach()), requires_grad=False)
    wide = nn.Linear(linear.in_features, len(weight), bias is not None, device="meta")
    wide.weight = weight
    if bias is not None:
        wide.bias = nn.Parameter(repeat(bias.detach()), requires_grad=False)
    return wide.eval()
