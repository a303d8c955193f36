"""Circuit evaluation against the literal implementation, one circuit and one example at a time."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.evaluation.completeness import completeness, minimality
from mechshift_lib.circuits.evaluation.faithfulness import (
    cross_faithfulness,
    edge_counts,
    faithfulness_curve,
    faithfulness_curves,
)
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.selection import greedy, select, top_edges
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import circuit_logits
from tests.support.tiny import tiny_hf, tiny_items

N_EXAMPLES = 3


@pytest.fixture(scope="module")
def hf():
    return tiny_hf()


@pytest.fixture(scope="module")
def model(hf):
    return wrap_model(hf, attention="full")


@pytest.fixture(scope="module")
def items():
    return tiny_items(N_EXAMPLES, reads=2, seed=3)  # of a clear effect, so f is well defined


@pytest.fixture(scope="module")
def circuit(model, items):
    return attribute(model, items).circuit


def literal_metric(hf, item, mask, graph):
    """Logit difference of one item with only the mask's edges intact, written out."""
    kept = {name for name, intact in zip(graph.names, mask, strict=True) if intact}
    clean, corrupted = torch.tensor([item.clean]), torch.tensor([item.corrupted])
    logits = circuit_logits(hf, clean, corrupted, kept, causal=False)[0]
    reads = zip(item.reads, item.answers, item.distractors, strict=True)
    return np.mean([float(logits[p, a[0]] - logits[p, d[0]]) for p, a, d in reads])


def literal_f(hf, items, mask, graph):
    """Faithfulness of one circuit, written out."""
    full, empty = np.ones(graph.n_edges, dtype=bool), np.zeros(graph.n_edges, dtype=bool)
    means = [
        np.mean([literal_metric(hf, item, m, graph) for item in items]) for m in (mask, full, empty)
    ]
    return (means[0] - means[2]) / (means[1] - means[2])


@pytest.mark.parametrize("selection", ["top", "greedy"])
@pytest.mark.parametrize("by", ["signed", "absolute"])
def test_a_curve_equals_the_literal_runs(hf, model, items, circuit, by, selection):
    fractions = (0.3, 0.6)
    curve = faithfulness_curve(
        model, items, circuit, fractions=fractions, by=by, selection=selection
    )
    choose = {"top": top_edges, "greedy": greedy}[selection]
    for point, fraction in enumerate(fractions):
        mask = choose(circuit, int(fraction * circuit.graph.n_edges), by)
        assert curve.n_edges[point] == mask.sum()
        expected = [literal_metric(hf, item, mask, circuit.graph) for item in items]
        np.testing.assert_allclose(curve.values[point], expected, atol=1e-5, rtol=1e-4)
        f = literal_f(hf, items, mask, circuit.graph)
        assert curve.faithfulness[point] == pytest.approx(f, abs=1e-4, rel=1e-4)
    assert np.ptp(curve.faithfulness) > 1e-2
    assert (curve.by, curve.selection) == (by, selection)


def test_all_edges_are_faithful_and_none_is_not(model, items, circuit):
    curve = faithfulness_curve(model, items, circuit, fractions=(0.0, 1.0))
    np.testing.assert_allclose(curve.faithfulness, [0, 1], atol=1e-5)
    np.testing.assert_allclose(curve.values, [curve.empty, curve.full], atol=1e-5)
    assert curve.n_edges.tolist() == [0, circuit.graph.n_edges]
    assert np.abs(curve.full - curve.empty).max() > 1e-2


@pytest.mark.parametrize("ablation", [Ablation.ZERO, Ablation.MEAN])
def test_without_resampling_the_empty_circuit_is_a_run_of_its_own(model, items, circuit, ablation):
    curve = faithfulness_curve(
        model, items, circuit, fractions=(0.0, 0.5, 1.0), ablation=ablation, reference=items
    )
    resampled = faithfulness_curve(model, items, circuit, fractions=(0.0,))
    np.testing.assert_allclose(curve.faithfulness[[0, 2]], [0, 1], atol=1e-5)
    assert np.abs(curve.empty - resampled.empty).max() > 1e-3
    assert len(curve.values) == 3


def test_several_rankings_share_runs_and_change_nothing(model, items, circuit):
    other = Circuit(circuit.graph, circuit.scores[::-1].copy())
    both = faithfulness_curves(model, items, [circuit, other], fractions=(0.1, 0.4))
    for one, alone in zip((circuit, other), both, strict=True):
        again = faithfulness_curve(model, items[::-1], one, fractions=(0.1, 0.4), batch_size=2)
        np.testing.assert_allclose(alone.values, again.values, atol=1e-5)
    assert np.abs(both[0].values - both[1].values).max() > 1e-3


def test_steps_of_an_example_are_averaged_by_their_reads(model, items, circuit):
    """One example asked at once or in two steps has the same metric."""
    (item,) = tiny_items(1, reads=3)

    def part(step, chosen):
        cut = {name: getattr(item, name)[chosen] for name in ("reads", "answers", "distractors")}
        return dataclasses.replace(item, step=step, **cut)

    whole = faithfulness_curve(model, [item], circuit, fractions=(0.2,))
    parts = [part(0, slice(0, 2)), part(3, slice(2, 3))]
    split = faithfulness_curve(model, parts, circuit, fractions=(0.2,))
    np.testing.assert_allclose(split.values, whole.values, atol=1e-5)
    np.testing.assert_allclose(split.correct, whole.correct, atol=1e-6)


def test_completeness_equals_the_literal_runs(hf, model, items, circuit):
    mask = select(circuit, 40, "absolute")
    found = completeness(model, items, mask, n_subsets=3, seed=5)
    assert found.n_edges == 40
    assert found.circuit == pytest.approx(
        literal_f(hf, items, mask, circuit.graph), abs=1e-4, rel=1e-4
    )
    assert found.complement == pytest.approx(literal_f(hf, items, ~mask, circuit.graph), abs=1e-4)
    # the subsets are those of the seed: size first, then members
    rng = np.random.default_rng(5)
    edges = np.flatnonzero(mask)
    sizes = rng.integers(1, 40, 3, endpoint=True)
    assert found.removed.tolist() == sizes.tolist()
    for row, size in enumerate(sizes):
        removed = np.zeros_like(mask)
        removed[rng.choice(edges, size, replace=False)] = True
        pair = [literal_f(hf, items, m & ~removed, circuit.graph) for m in (mask, mask | ~mask)]
        assert found.circuit_without[row] == pytest.approx(pair[0], abs=1e-4, rel=1e-4)
        assert found.model_without[row] == pytest.approx(pair[1], abs=1e-4, rel=1e-4)
        assert found.incompleteness[row] == pytest.approx(abs(pair[0] - pair[1]), abs=2e-4)
    assert list(found.frame()["removed"]) == sizes.tolist()


def test_the_whole_model_is_complete(model, items, circuit):
    found = completeness(model, items, np.ones(circuit.graph.n_edges, dtype=bool), n_subsets=2)
    assert found.circuit == pytest.approx(1, abs=1e-5)
    assert found.complement == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(found.incompleteness, 0, atol=1e-5)


def test_minimality_is_the_loss_of_each_edge(hf, model, items, circuit):
    mask = select(circuit, 40, "absolute", "greedy")
    found = minimality(model, items, mask)
    whole = literal_f(hf, items, mask, circuit.graph)
    assert found.circuit == pytest.approx(whole, abs=1e-4, rel=1e-4)
    assert found.edges == [n for n, kept in zip(circuit.graph.names, mask, strict=True) if kept]
    for name, loss in zip(found.edges, found.loss, strict=True):
        less = mask.copy()
        less[circuit.graph.index(name)] = False
        expected = whole - literal_f(hf, items, less, circuit.graph)
        assert loss == pytest.approx(expected, abs=1e-4, rel=1e-4)
    assert np.abs(found.loss).max() > 1e-3
    some = minimality(model, items, mask, sample=2, seed=1)
    assert len(some.edges) == 2
    every = found.frame().set_index("edge")["loss"]
    np.testing.assert_allclose(some.loss, every[some.edges], atol=1e-5)


def test_an_edge_that_nothing_reaches_is_not_needed(model, items):
    graph = Graph.for_model(model)
    mask = np.zeros(graph.n_edges, dtype=bool)
    mask[[graph.index("input->logits"), graph.index("a0.h2->m1")]] = True
    mask[[graph.index("input->a0.h1<v>"), graph.index("a0.h1->logits")]] = True
    found = minimality(model, items, mask).frame().set_index("edge")["loss"]
    assert found["a0.h2->m1"] == pytest.approx(0, abs=1e-5)
    assert abs(found["a0.h1->logits"]) > 1e-3


def test_one_models_ranking_inside_another(hf, items, circuit):
    """Cross-faithfulness is the other model's curve; controls have as many edges."""
    torch.manual_seed(1)
    other_hf = tiny_hf()
    with torch.no_grad():
        for parameter in other_hf.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    other = wrap_model(other_hf, attention="full")
    cross = cross_faithfulness(other, items, circuit, fractions=(0.1, 0.5), n_random=2, seed=4)
    alone = faithfulness_curve(other, items, circuit, fractions=(0.1, 0.5))
    np.testing.assert_allclose(cross.curve.values, alone.values, atol=1e-5)
    rng = np.random.default_rng(4)
    for control in cross.random:
        shuffled = Circuit(circuit.graph, rng.permutation(circuit.scores))
        expected = faithfulness_curve(other, items, shuffled, fractions=(0.1, 0.5))
        np.testing.assert_allclose(control.values, expected.values, atol=1e-5)
        assert control.n_edges.tolist() == cross.curve.n_edges.tolist()
    frame = cross.frame(draws=20)
    assert frame["ranking"].tolist() == ["circuit"] * 2 + ["random 0"] * 2 + ["random 1"] * 2


def test_edges_at_each_fraction_are_rounded_down():
    assert edge_counts(1108, (0.001, 0.01, 1.0)).tolist() == [1, 11, 1108]
    assert edge_counts(100, (0.29,)).tolist() == [29]  # 0.29 · 100 is 28.999… in floating point
    for wrong in ((), (1.2,), (-0.1,), (np.nan,)):
        with pytest.raises(CircuitError, match="from 0 to 1"):
            edge_counts(10, wrong)
    for wrong in ((0.2, 0.1), (0.1, 0.1)):
        with pytest.raises(CircuitError, match="ascend"):
            edge_counts(10, wrong)


def test_what_is_refused(model, items, circuit):
    graph = Graph(1, 1, 1)
    small = Circuit(graph, np.zeros(graph.n_edges, dtype=np.float32))
    with pytest.raises(CircuitError, match="graph isn't the model's"):
        faithfulness_curve(model, items, small)
    with pytest.raises(CircuitError, match="Unknown ranking"):
        faithfulness_curve(model, items, circuit, by="size")
    with pytest.raises(CircuitError, match="Unknown selection"):
        faithfulness_curve(model, items, circuit, selection="best")
    none = np.zeros(circuit.graph.n_edges, dtype=bool)
    with pytest.raises(CircuitError, match="no edges"):
        completeness(model, items, none)
    with pytest.raises(CircuitError, match=f"mask of {circuit.graph.n_edges} edges"):
        minimality(model, items, none[1:])
    with pytest.raises(CircuitError, match="at least one edge to try"):
        minimality(model, items, ~none, sample=0)
    same = [dataclasses.replace(item, corrupted=item.clean) for item in items]
    with pytest.raises(CircuitError, match="same metric"):
        completeness(model, same, ~none, n_subsets=1)
