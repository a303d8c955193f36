"""Every gradient method against plain autograd, one run and one edge at a time."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.choices import GRADIENT_METHODS
from mechshift_lib.circuits.attribution import edges as attribution
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.points import literal_method, literal_points
from tests.support.tiny import tiny_hf, tiny_items

STEPS = 3


def ids(item):
    return torch.tensor([item.clean]), torch.tensor([item.corrupted])


def logit_diff(item):
    def metric(logits):
        reads = zip(item.reads, item.answers, item.distractors, strict=True)
        return sum(logits[0, p, a[0]] - logits[0, p, d[0]] for p, a, d in reads) / len(item.reads)

    return metric


def expected_scores(hf, item, metric, method, *, causal, steps=STEPS):
    """Edges ``{name: [pos]}`` of one item."""
    points = literal_points(hf, *ids(item), method, steps, causal=causal)
    return literal_method(hf, *ids(item), metric, points, causal=causal)[0]


def assert_same(graph, by_position, expected):
    """Compare ``[pos, n_edges]`` with scores by name, relative to the largest."""
    assert set(expected) == set(graph.names)
    array = torch.stack([expected[name] for name in graph.names], 1).detach().numpy()
    largest = np.abs(array).max()
    assert largest > 1e-3
    np.testing.assert_allclose(by_position, array, atol=1e-5 * largest, rtol=1e-4)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize(
    ("architecture", "attention", "kv"),
    [
        ("qwen2", "causal", "ungrouped"),
        ("qwen2", "full", "grouped"),
        ("llama", "causal", "grouped"),
        ("gpt2", "full", "ungrouped"),
        ("pythia", "causal", "ungrouped"),
        ("llada", "full", "ungrouped"),
    ],
)
def test_every_method_equals_plain_autograd(method, architecture, attention, kv):
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention, kv=kv)
    items = tiny_items(2, reads=2)
    result = attribute(model, items, method=method, steps=STEPS, by_position=True)
    expected = [
        expected_scores(hf, item, logit_diff(item), method, causal=attention == "causal")
        for item in items
    ]
    mean = {name: (expected[0][name] + expected[1][name]) / 2 for name in expected[0]}
    assert_same(result.graph, result.by_position, mean)
    alone = attribute(model, items[:1], method=method, steps=STEPS, by_position=True)
    assert_same(result.graph, alone.by_position, expected[0])


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_positions_sum_to_the_scores(method):
    model = wrap_model(tiny_hf(layers=3), attention="full")
    items = tiny_items(5)
    steps = [dataclasses.replace(item, step=1, reads=(3,)) for item in items[:2]]
    plain = attribute(model, items + steps, method=method, steps=2)
    resolved = attribute(
        model, items + steps, method=method, steps=2, by_position=True, batch_size=3
    )
    assert plain.by_position is None
    assert resolved.by_position.shape == (8, plain.graph.n_edges)
    assert resolved.by_position.dtype == np.float32
    np.testing.assert_allclose(resolved.by_position.sum(0), plain.scores, atol=2e-6)
    np.testing.assert_allclose(resolved.by_example, plain.by_example, atol=2e-6)


def test_positions_that_cannot_matter_are_zero():
    model = wrap_model(tiny_hf())
    items = [dataclasses.replace(item, reads=(5,)) for item in tiny_items(2)]
    result = attribute(model, items, by_position=True)
    active = np.abs(result.by_position).max(1) > 1e-6
    assert active.tolist() == [False, False, True, True, True, True, False, False]


def test_positions_need_one_length():
    model = wrap_model(tiny_hf())
    with pytest.raises(CircuitError, match=r"items of one length.* 8 and of 10 tokens"):
        attribute(model, tiny_items(1) + tiny_items(1, length=10), by_position=True)


@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_points_may_be_multiplied_in_any_portions(at_once, monkeypatch):
    model = wrap_model(tiny_hf(layers=3))
    items = tiny_items(2)
    expected = attribute(model, items, method="eap-ig-activations", steps=2)
    monkeypatch.setattr(attribution, "POINTS_AT_ONCE", at_once)
    again = attribute(model, items, method="eap-ig-activations", steps=2)
    np.testing.assert_allclose(again.by_example, expected.by_example, atol=2e-6)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_memory_budget_makes_no_difference(method):
    model = wrap_model(tiny_hf(), attention="full")
    items = tiny_items(3)
    expected = attribute(model, items, method=method, steps=2)
    again = attribute(model, items, method=method, steps=2, memory_budget=1)
    np.testing.assert_allclose(again.by_example, expected.by_example, atol=2e-6)


@pytest.mark.parametrize("method", ["eap-ig", "eap-ig-activations", "clean-corrupted"])
@pytest.mark.parametrize("metric", ["kl", "log-prob"])
def test_other_metrics_equal_plain_autograd(method, metric):
    hf = tiny_hf()
    model = wrap_model(hf, attention="full")
    item = dataclasses.replace(tiny_items(1)[0], reads=(6,), answers=((1, 2),))
    reference = model.logits(ids(item)[0])[0, 6].log_softmax(0)

    def value(logits):
        found = logits[0, 6].log_softmax(0)
        if metric == "log-prob":
            return found[[1, 2]].logsumexp(0)
        return (reference.exp() * (found - reference)).sum()

    result = attribute(model, [item], metric=metric, method=method, steps=STEPS, by_position=True)
    expected = expected_scores(hf, item, value, method, causal=False)
    assert_same(result.graph, result.by_position, expected)
    clean = 0 if metric == "kl" else float(value(model.logits(ids(item)[0])))
    assert result.metric_clean[0] == pytest.approx(clean, abs=1e-5)
    corrupted = float(value(model.logits(ids(item)[1])))
    assert result.metric_corrupted[0] == pytest.approx(corrupted, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "eap"},
        {"method": "eap-ig", "points": "right", "steps": 1},
        {"method": "eap-ig-activations", "steps": 1},
    ],
)
def test_divergence_has_no_gradient_at_the_clean_run(options):
    model = wrap_model(tiny_hf())
    with pytest.raises(CircuitError, match=r"'kl' has no gradient at the clean run.*use 'eap-ig'"):
        attribute(model, tiny_items(1), metric="kl", **options)
    changed = options | {"metric": "logit-diff"}
    assert np.abs(attribute(model, tiny_items(1), **changed).scores).max() > 1e-3


def test_exact_patching_is_a_method_among_others():
    model = wrap_model(tiny_hf())
    items = tiny_items(2)
    found = attribute(model, items, method="exact", metric="kl", batch_size=7)
    expected = exact_scores(model, items, metric="kl")
    np.testing.assert_allclose(found.by_example, expected.by_example, atol=1e-6)
    assert found.graph.n_edges == found.scores.size
    assert found.scores.max() > 1e-3  # what is patched is further from the clean run
    assert found.scores.min() > -1e-6
