"""Grouped-query attention rewritten as multi-head attention with the same function."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from mechshift_lib.models.anatomy import Anatomy, at


def ungroup(model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Give every query head its own copy of its group's k and v projection, in place.

    The logits stay the same, and the gradient at the output of a k or v projection is then
    resolved by query head, as the edges of the paper are.
    """
    config = model.config
    heads = config.num_attention_heads
    groups = heads // (getattr(config, "num_key_value_heads", None) or heads)
    if groups == 1:
        return
    for index in range(config.num_hidden_layers):
        layer = anatomy.layer(model, index)
        attention = at(layer, anatomy.attn)
        for path in (anatomy.k, anatomy.v):
            parent, _, name = path.rpartition(".")
            owner = at(layer, parent) if parent else layer
            setattr(owner, name, _repeated(at(layer, path), heads // groups, groups))
        attention.num_key_value_groups = 1
    config.num_key_value_heads = heads


def _repeated(linear: nn.Linear, n_kv_heads: int, groups: int) -> nn.Linear:
    """A projection whose output repeats each of the ``n_kv_heads`` heads ``groups`` times."""

    def repeat(tensor: Tensor) -> Tensor:
        heads = tensor.reshape(n_kv_heads, -1, *tensor.shape[1:])
        return heads.repeat_interleave(groups, dim=0).reshape(-1, *tensor.shape[1:])

    has_bias = linear.bias is not None
    wide = nn.Linear(linear.in_features, linear.out_features * groups, has_bias, device="meta")
    wide.weight = nn.Parameter(repeat(linear.weight.detach()), requires_grad=False)
    if has_bias:
        wide.bias = nn.Parameter(repeat(linear.bias.detach()), requires_grad=False)
    return wide.eval()


def n_kv_heads(model: PreTrainedModel) -> int:
    """Key/value heads per layer (the number of query heads where nothing is grouped)."""
    config = model.config
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def d_head(model: PreTrainedModel) -> int:
    """Width of one head."""
    config = model.config
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)
