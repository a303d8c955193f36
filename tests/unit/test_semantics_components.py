"""What components write sums to the logits, in every architecture, and is what they write."""

from __future__ import annotations

import math

import pytest
import torch

from mechshift_lib.models.loading import LoadedModel, wrap_model
from mechshift_lib.models.readout import Item, ShiftedMask
from mechshift_lib.semantics.components import (
    Unembedding,
    logits_of,
    random_tokens_share,
    tokens_share,
    written,
)
from mechshift_lib.semantics.roles import kind_of, role_of
from mechshift_lib.tasks.base import Example
from tests.support.parts import parts_of
from tests.support.tiny import CASES, tiny_hf, tiny_items


def whole_logits(model: LoadedModel, items: list[Item]) -> torch.Tensor:
    """The model's own logits at all reads, ``[n_read, vocab]``."""
    logits = model.logits(torch.tensor([item.clean for item in items]))
    return torch.stack([logits[row, p] for row, item in enumerate(items) for p in item.reads])


@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_contributions_sum_to_the_logits(architecture: str, attention: str) -> None:
    """RMSNorm and LayerNorm, with and without gain, biases everywhere, GQA, parallel layers."""
    model = wrap_model(tiny_hf(architecture), attention=attention)
    items, unembedding = tiny_items(3, reads=2), Unembedding.of(model)
    found = written(model, items, unembedding)
    own = whole_logits(model, items)
    added = logits_of(found.parts, unembedding)
    assert added.shape[1] == len(found.names) == 2 * (4 + 1) + 2
    torch.testing.assert_close(added.sum(1), own, rtol=1e-5, atol=1e-5)
    # And so along answer − distractor, which isn't what any one component adds.
    sets = [s for item in items for s in zip(item.answers, item.distractors, strict=True)]
    differences = [own[i, list(a)].mean() - own[i, list(b)].mean() for i, (a, b) in enumerate(sets)]
    assert found.answer.sum(1) == pytest.approx([float(x) for x in differences], abs=1e-5)
    assert abs(found.answer[:, 1:-1]).max() < abs(found.answer).sum()
    for i, (right, wrong) in enumerate(sets):
        part = added[i][:, list(right)].mean(1) - added[i][:, list(wrong)].mean(1)
        assert found.answer[i] == pytest.approx(part.tolist(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
def test_a_part_is_what_leaves_the_logits_when_its_component_does(architecture: str) -> None:
    """Literally: take one head's output out of the final stream and norm the rest as before."""
    hf = tiny_hf(architecture)
    model = wrap_model(hf)
    items, unembedding = tiny_items(2), Unembedding.of(model)
    found, literal = written(model, items, unembedding), parts_of(hf)
    streams: dict[str, torch.Tensor] = {}
    norm = dict(hf.named_modules())[model.anatomy.final_norm]
    last = literal.layers[1]
    o = dict(last.named_modules())[model.anatomy.o]
    hooks = [
        norm.register_forward_pre_hook(lambda _, x: streams.update(final=x[0])),
        o.register_forward_pre_hook(lambda _, x: streams.update(z=x[0])),
    ]
    own = whole_logits(model, items)
    for hook in hooks:
        hook.remove()
    head = literal.write(last, 2, streams["z"][..., literal.slice(2)])
    x = streams["final"]
    if architecture == "gpt2":  # LayerNorm: both mean and scale are those of the whole stream
        scale = 1 / (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
        rest = x - head
        held = (rest - rest.mean(-1, keepdim=True)) * scale * norm.weight + norm.bias
    else:
        scale = 1 / (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
        held = (x - head) * scale * norm.weight
    without = hf.lm_head(held)
    without = torch.stack([without[r, p] for r, item in enumerate(items) for p in item.reads])
    added = logits_of(found.parts, unembedding)[:, found.names.index("a1.h2")]
    torch.testing.assert_close(own - without, added, rtol=1e-4, atol=1e-5)


def test_a_canvas_is_read_one_position_early() -> None:
    """The shifted-mask readout: the answer token's contributions sum to its logits there."""
    model = wrap_model(tiny_hf("llama"), attention="full", readout=ShiftedMask(39), mask_id=39)
    example = Example(
        task="toy", clean=(5, 6, 7), corrupted=(5, 8, 7), answer=(9, 10), distractor=(11, 12),
        answers=((9,), (10, 13)), distractors=((11,), (12,)), text="",
    )  # fmt: skip
    items = model.readout.items(example, 0)
    found = written(model, items, Unembedding.of(model))
    for i, (ids, read) in enumerate((((5, 6, 7, 39, 39), 2), ((5, 6, 7, 9, 39), 3))):
        logits = model.logits(torch.tensor([ids]))[0, read]
        own = (logits[9] - logits[11], logits[[10, 13]].mean() - logits[12])[i]
        assert found.answer[i].sum() == pytest.approx(float(own), abs=1e-5)


def test_batches_and_grouping_make_no_difference() -> None:
    items = tiny_items(4, reads=2)
    models = [wrap_model(tiny_hf("qwen2"), kv=kv) for kv in ("grouped", "ungrouped")]
    together, apart = (written(m, items, Unembedding.of(m)).answer for m in models)
    assert together == pytest.approx(apart, abs=1e-5)
    unembedding = Unembedding.of(models[0])
    one = [written(models[0], [item], unembedding).answer for item in items]
    assert together == pytest.approx(torch.cat([torch.tensor(x) for x in one]).numpy(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
def test_random_directions_have_the_components_norms(architecture: str) -> None:
    """Over many draws, the mean square is that of a vector of this norm in a random direction."""
    model = wrap_model(tiny_hf(architecture))
    found = written(model, tiny_items(2), Unembedding.of(model))
    drawn = found.of_random(4000, seed=0)
    assert drawn.shape == (4000, *found.answer.shape)
    along = found.scale * found.directions
    if architecture == "gpt2":
        along = along - along.mean(-1, keepdim=True)
    expected = found.sizes * along.norm(dim=-1, keepdim=True) / math.sqrt(model.d_model)
    assert (drawn**2).mean(0) ** 0.5 == pytest.approx(expected.numpy(), rel=0.1)
    assert (found.of_random(2, seed=0) == found.of_random(2, seed=0)).all()


def test_the_share_of_tokens_by_hand() -> None:
    """An unembedding that is the identity but for its mean: logits are the part's own numbers."""
    unembedding = Unembedding(torch.eye(4), None)
    parts = torch.tensor([[2.0, 2.0, -2.0, -2.0], [4.0, 0.0, 0.0, 0.0], [5.0, 5.0, 5.0, 5.1]])
    share, size = tokens_share(parts, unembedding)
    # (3, -1, -1, -1): 36 / (4 · 12); what is added to all alike doesn't count.
    assert share.tolist() == pytest.approx([1, 0.75, 0.75], abs=1e-4)
    assert size.tolist() == pytest.approx([4, math.sqrt(12), 0.1 * math.sqrt(0.75)], rel=1e-4)


def test_random_directions_write_to_all_tokens_alike() -> None:
    """Normal numbers have a participation ratio of 2/π."""
    model = wrap_model(tiny_hf("llama"))
    share = random_tokens_share(model, Unembedding.of(model), 500, seed=0)
    assert share == pytest.approx(2 / math.pi, abs=0.03)


def test_roles_are_given_by_a_rule() -> None:
    kinds = {
        "12": "numbers",
        " Mary": "person names",
        "ring": "words",
        "+": "symbols",
        "": "symbols",
    }
    assert {token: kind_of(token) for token in kinds} == kinds
    assert role_of(["Mary", "John", "12"]) == "person names"
    assert role_of(["Mary", "John", "12", "13"]) == "mixed"
