"""Ablated nodes: replacing what they write equals cutting every edge that leaves them."""

import numpy as np
import pytest

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.node_sets import ablate_nodes
from mechshift_lib.circuits.evaluation.runs import run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import CASES, tiny_hf, tiny_items


@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_equals_cutting_all_edges_that_leave_the_nodes(architecture, attention):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    graph, items = Graph.for_model(model), tiny_items(2, reads=2)
    sets = [["a0.h1"], ["m0", "a1.h3"], ["input"], ["m1"], [], graph.sources]
    masks = np.array([[name.split("->")[0] not in nodes for name in graph.names] for nodes in sets])
    for ablation in (Ablation.RESAMPLE, Ablation.ZERO, Ablation.MEAN):
        found = ablate_nodes(model, items, sets, ablation=ablation)
        expected = run_circuits(model, items, masks, ablation=ablation)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5, rtol=1e-4)
        np.testing.assert_array_equal(found.correct, expected.correct)
        np.testing.assert_allclose(found.values[4], found.clean, atol=1e-5)
        np.testing.assert_allclose(found.corrupted, expected.corrupted, atol=1e-5)
        assert np.abs(found.values[:2] - found.clean).max() > 1e-3
    resampled = ablate_nodes(model, items, sets)
    np.testing.assert_allclose(resampled.values[5], resampled.corrupted, atol=1e-5)


def test_batch_size_order_and_lengths_make_no_difference():
    model = wrap_model(tiny_hf(), attention="full")
    items = [*tiny_items(3), *tiny_items(2, length=10, seed=3)]
    items = [item.__class__(**{**vars(item), "example": i}) for i, item in enumerate(items)]
    sets = [["a0.h0"], ["m0", "a1.h1"], ["a1.h2"]]
    expected = ablate_nodes(model, items, sets, ablation="zero", batch_size=1)
    for some, size in ((items, 4), (items[::-1], 100)):
        found = ablate_nodes(model, some, sets, ablation="zero", batch_size=size)
        np.testing.assert_allclose(found.values, expected.values, atol=3e-6)


def test_optimal_ablation_is_that_of_the_circuits():
    model = wrap_model(tiny_hf())
    items, graph = tiny_items(3), Graph.for_model(model)
    found = ablate_nodes(model, items, [["m0"]], ablation="optimal", batch_size=32)
    mask = np.array([[not name.startswith("m0->") for name in graph.names]])
    expected = run_circuits(model, items, mask, ablation="optimal")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)


def test_an_unknown_node_is_refused():
    model = wrap_model(tiny_hf())
    with pytest.raises(CircuitError, match="Unknown node 'logits'"):
        ablate_nodes(model, tiny_items(2), [["logits"]])
