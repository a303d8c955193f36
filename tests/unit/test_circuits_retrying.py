"""Batches are halved when memory runs out: injected, as there need be no GPU."""

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.attribution import edges as attribution
from mechshift_lib.circuits.attribution import exact, neurons, nodes
from mechshift_lib.circuits.evaluation import batch as circuit_batch
from mechshift_lib.circuits.evaluation import runs
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching import activations as patching
from mechshift_lib.circuits.tracing import retrying
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import tiny_hf, tiny_items

N = 5


@pytest.fixture(scope="module")
def model():
    return wrap_model(tiny_hf("llama"))


def edges(model, items, size):
    return attribution.attribute(model, items, steps=2, batch_size=size).by_example


def node_scores(model, items, size):
    return nodes.attribute_nodes(model, items, steps=2, batch_size=size).by_example


def neuron_scores(model, items, size):
    return neurons.attribute_neurons(model, items, steps=2, batch_size=size)


def circuits(model, items, size):
    masks = np.random.default_rng(0).random((3, Graph.for_model(model).n_edges)) < 0.5
    return runs.run_circuits(model, items, masks, batch_size=size).values


def exact_edges(model, items, size):
    chosen = range(0, Graph.for_model(model).n_edges, 7)
    return exact.exact_scores(model, items, edges=chosen, batch_size=size).by_example


def patched(model, items, size):
    found = patching.patch_nodes(model, items, sites=["attn", "mlp"], batch_size=size).patched
    return np.concatenate([found["attn"].ravel(), found["mlp"].ravel()])


def limited(monkeypatch, module, name, rows_of, limit):
    """Let a function fail as a full GPU does where it gets more than ``limit`` rows."""
    true, asked = getattr(module, name), []

    def call(*arguments, **options):
        rows = rows_of(arguments)
        asked.append(rows)
        if rows > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return true(*arguments, **options)

    monkeypatch.setattr(module, name, call)
    return asked


#: What is called, with how many rows, the function that fails, and the rows that it gets.
CASES = {
    "edges": (edges, N, attribution, "visit_points", lambda a: len(a[1].ids)),
    "nodes": (node_scores, N, nodes, "visit_points", lambda a: len(a[1].ids)),
    "neurons": (neuron_scores, N, neurons, "visit_points", lambda a: len(a[1].ids)),
    "circuits": (circuits, 15, circuit_batch, "masked_run", lambda a: len(a[2])),
    "exact": (exact_edges, 32, exact._Setting, "_final_in", lambda a: len(a[1])),
    "patching": (patched, 40, patching, "run_from", lambda a: len(a[1])),
}


@pytest.mark.parametrize("case", CASES)
def test_halves_the_batch_says_so_and_gives_the_same(monkeypatch, model, case):
    call, size, module, name, rows_of = CASES[case]
    items = tiny_items(N)
    expected = call(model, items, size)
    asked = limited(monkeypatch, module, name, rows_of, 2)
    with pytest.warns(RuntimeWarning, match="memory ran out with .* going on with"):
        found = call(model, items, size)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert max(asked) > 2 >= asked[-1]


@pytest.mark.parametrize("case", CASES)
def test_one_row_that_does_not_fit_is_said_in_a_sentence(monkeypatch, model, case):
    call, size, module, name, rows_of = CASES[case]
    limited(monkeypatch, module, name, rows_of, 0)
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(CircuitError, match=r"doesn't hold even a single row: .*bfloat16"),
    ):
        call(model, tiny_items(2), size)


def test_memory_of_many_items_is_given_back_before_one_row_is_given_up(monkeypatch, model):
    """Rows that don't fit beside the differences of four items fit beside those of two."""
    items = tiny_items(4)
    expected = exact_edges(model, items, 8)
    true = exact._Setting._lost

    def lost(self, *arguments):
        if len(self.counts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return true(self, *arguments)

    monkeypatch.setattr(exact._Setting, "_lost", lost)
    with pytest.warns(RuntimeWarning) as said:
        found = exact_edges(model, items, 8)
    assert "with 4 rows at once: going on with 2." in str(said[-1].message)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_every_item_once_in_order_and_the_smaller_size_stays():
    size, given = retrying.BatchSize(8), []

    def work(part):
        given.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return sum(part)

    with pytest.warns(RuntimeWarning):
        done = list(retrying.retrying_batches(range(10), size, work))
    assert [x for part, _ in done for x in part] == list(range(10))
    assert [total for _, total in done] == [1, 5, 9, 13, 17]
    assert given == [8, 4, 2, 2, 2, 2, 2]
    assert size.rows == 2


def test_other_errors_are_not_taken_for_a_full_memory():
    def work(part):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        list(retrying.retrying_batches(range(4), retrying.BatchSize(4), work))
