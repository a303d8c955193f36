"""How a model attends: set as declared, and proven in every layer over as much as it can read.

A configuration says little: code may ignore it, a layer may have its own mask, a sliding window may
hide what is far. So what tokens see is measured. In one pass, all queries and keys are set to 0,
which makes every token attend alike to all it sees, and the value of marked tokens to 1 in a
dimension of their own, so that each head's output shows which of them a token sees, whatever the
weights are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import nnsight
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mechshift_lib.choices import Attention
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import Anatomy, at, scatter_qkv, split_sizes
from mechshift_lib.models.checks import embedding_rows
from mechshift_lib.models.inputs import arguments
from mechshift_lib.models.parts import parts_of
from mechshift_lib.models.sameness import WIDENING, unchanged
from mechshift_lib.models.shape import Shape, shape_of
from mechshift_lib.models.weights import home_of

#: Multiplications that the proof may take, by which long inputs of large models are shortened.
_WORK = {"cpu": 2 * 10**10, "cuda": 10**13}
#: Tokens that it has at least, and tokens that are marked at most.
_SHORTEST, _MARKED = 64, 16

_DECLARE_FULL = "declare 'full'"
_NOT_FULL = (
    "this model can't be made bidirectional by its config, so declare 'causal' or use other code"
)


def set_attention(model: PreTrainedModel, anatomy: Anatomy, attention: Attention) -> None:
    """Make a model attend as declared.

    ``config.is_causal`` is what transformers builds its masks from; the modules' own flag alone
    changes nothing there, but it is what remote code may look at. Under full attention, layers with
    a sliding window see beyond it from now on: transformers leaves them windowed.

    Raises:
        ModelError: the checkpoint itself says that it attends in both directions, or a model
            without windows computes something else on inputs that fit into them.
    """
    if attention == "causal":
        if getattr(model.config, "is_causal", None) is False:
            raise ModelError(
                "The checkpoint's config says is_causal=false but attention 'causal' is declared: "
                "declare attention 'full'."
            )
        return
    model.config.is_causal = False
    for index in range(shape_of(model.config, anatomy).n_layers if anatomy.attn else 0):
        at(anatomy.layer(model, index), anatomy.attn).is_causal = False
    window = sliding_window(model.config)
    if window is not None:
        with unchanged(model, WIDENING, longest=window):
            _widen(model)


def sliding_window(config: Any) -> int | None:
    """Tokens that a layer with a sliding window sees, or ``None`` where no layer has one."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    sliding = not isinstance(kinds, list) or "sliding_attention" in kinds
    return window if isinstance(window, int) and window > 0 and sliding else None


def _widen(model: PreTrainedModel) -> None:
    """Take the sliding windows away, as transformers' two ways of declaring them want it."""
    kinds = getattr(model.config, "layer_types", None)
    if kinds is None:
        model.config.sliding_window = None
    else:
        model.config.layer_types = ["full_attention"] * len(kinds)
    for module in model.modules():
        if getattr(module, "sliding_window", None) is not None:
            module.sliding_window = None  # type: ignore[assignment]


@torch.no_grad()
def check_attention(model: PreTrainedModel, attention: Attention) -> None:
    """Prove the model as it runs: does changing the last of four tokens move the others' logits?

    It must move the first's for ``"full"``, and none by even a rounding for ``"causal"``.

    Raises:
        ModelError: the model attends otherwise than declared.
    """
    vocabulary = embedding_rows(model)
    ids = torch.arange(4, device=home_of(model))[None] % vocabulary
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % vocabulary
    first, other = (model(input_ids=x, use_cache=False).logits[0, :-1] for x in (ids, changed))
    moved = (first != other).any(-1)
    if attention == "full" and not moved[0]:
        raise ModelError(
            f"Attention 'full' is declared, but the first token doesn't see the last: {_NOT_FULL}."
        )
    if attention == "causal" and moved.any():
        which = "the first token" if moved[0] else f"token {int(moved.nonzero()[0])}"
        raise ModelError(
            f"Attention 'causal' is declared, but {which} sees the last: {_DECLARE_FULL}."
        )


@dataclass(frozen=True)
class _Seen:
    """Which marked tokens each token sees in one layer, ``[pos, marked]``.

    Attributes:
        by_any: in at least one head.
        by_all: in every head.
    """

    by_any: Tensor
    by_all: Tensor


@torch.no_grad()
def check_layers(
    model: PreTrainedModel,
    lm: Any,
    anatomy: Anatomy,
    attention: Attention,
    window: int | None = None,
) -> None:
    """Prove in every layer which tokens a token sees, over the longest input that is affordable.

    That is all the model can read, unless it is so large or reads so much that the proof would be
    slow; but always more than a sliding window.

    Args:
        model: the Hugging Face model, as it will be used.
        lm: its nnsight wrapper.
        anatomy: where its parts are.
        attention: what is declared.
        window: the sliding window of its layers as it was saved, if they had one.

    Raises:
        ModelError: a layer attends otherwise than declared.
    """
    shape = shape_of(model.config, anatomy)
    length = _length(model, shape, window if attention == "full" else None)
    n_marked = min(_MARKED, shape.d_head, length)
    marked = torch.linspace(0, length - 1, n_marked).round().long().to(home_of(model))
    before = torch.arange(length, device=home_of(model))[:, None] < marked
    for index, seen in enumerate(_trace(model, lm, anatomy, shape, length, marked)):
        if attention == "full":
            wrong, verb, advice = ~seen.by_all, "doesn't see", _NOT_FULL
        else:
            wrong, verb, advice = seen.by_any & before, "sees", _DECLARE_FULL
        if wrong.any():
            token, other = wrong.nonzero()[0].tolist()
            raise ModelError(
                f"Attention {attention!r} is declared, but in layer {index} token {token} of "
                f"{length} {verb} token {int(marked[other])}: {advice}."
            )


def _length(model: PreTrainedModel, shape: Shape, window: int | None) -> int:
    """Tokens of the proof's input."""
    work = _WORK.get(home_of(model).type, _WORK["cpu"])
    length = max(_SHORTEST, isqrt(work // (4 * shape.n_heads * shape.d_head * shape.n_layers)))
    length = max(length, 0 if window is None else window + 2)
    return min(length, shape.max_positions or length)


def _trace(
    model: PreTrainedModel, lm: Any, anatomy: Anatomy, shape: Shape, length: int, marked: Tensor
) -> list[_Seen]:
    """Run with queries and keys 0 and the marked tokens' values 1, and nothing but attention."""
    heads, kv_heads, width = shape.n_heads, shape.n_kv_heads, shape.d_head
    values = torch.zeros(1, length, width, dtype=model.dtype, device=home_of(model))
    values[0, marked, torch.arange(len(marked), device=home_of(model))] = 1
    rest = values.new_zeros(1, length, (heads + kv_heads) * width)
    qkv = torch.cat([rest, values.repeat(1, 1, kv_heads)], -1)
    projected = scatter_qkv(anatomy, qkv, split_sizes(heads, kv_heads, width), width)
    nothing = values.new_zeros(1, length, shape.d_model)
    ids = torch.arange(length, device=home_of(model))[None] % embedding_rows(model)
    parts, n_marked, last = parts_of(lm, anatomy, shape.n_layers), len(marked), shape.n_layers - 1
    with lm.trace(**arguments(anatomy, ids)) as tracer:
        seen: list[tuple[Tensor, Tensor]] = nnsight.save([])
        home = parts.embed.output.device
        for index, layer in enumerate(parts.layers):
            for part, value in zip(layer.qkv, projected, strict=True):
                part.skip(value.to(home))
            mixed = layer.o.input[0].unflatten(-1, (heads, width))
            shows = mixed[..., :n_marked] > 0
            seen.append((shows.any(1), shows.all(1)))
            if index < last:
                layer.mlp.skip(nothing.to(home))
        tracer.stop()
    return [_Seen(by_any, by_all) for by_any, by_all in seen]
