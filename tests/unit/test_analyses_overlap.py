"""The comparison of circuits, on synthetic scores whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import seeds
from mechshift_lib.analyses.overlap import ALL, TOP, at_reference, compare_scores
from mechshift_lib.analyses.scores import Scores, edges_of
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.plots.overlap import plot_overlap_reference

GRAPH = Graph(n_layers=4, n_heads=2, n_kv_heads=2)
N = 24


def make(name, truth, noise, seed):
    rng = np.random.default_rng(seed)
    by_example = (truth + noise * rng.normal(size=(N, truth.size))).astype(np.float32)
    return Scores(
        circuit=name,
        graph=GRAPH,
        edges=edges_of(GRAPH),
        examples=np.arange(N),
        by_example=by_example,
        steps=np.array([0]),
        by_step=by_example.mean(axis=0, keepdims=True),
        reads=np.array([0]),
        by_read=by_example[None],
        effect=np.array([1.0]),
        shares=True,
    )


@pytest.fixture(scope="module")
def truths():
    """ARM: late edges strong; MDM: early edges strong; weights distinct."""
    edges = edges_of(GRAPH)
    ramp = np.linspace(1, 2, len(edges))
    late = ramp * (edges.source_depth >= 0.5)
    early = ramp[::-1] * (edges.source_depth < 0.5)
    return late, early


@pytest.fixture(scope="module")
def tables(truths):
    late, early = truths
    found = {
        "arm": make("arm", late, 0.05, 1),
        "mdm": make("mdm", early, 0.05, 2),
        "continued": make("continued", late, 0.05, 3),
    }
    return compare_scores(found, draws=60, seed=0)


def test_disjoint_circuits_have_no_overlap_and_equal_ones_much(tables):
    reference = at_reference(tables["edges"]).set_index("comparison")
    assert reference.loc["arm-mdm"].jaccard == 0
    assert reference.loc["arm-continued"].jaccard > 0.6
    assert reference.loc["arm-halves"].jaccard > 0.5
    assert reference.loc["arm-mdm-halves"].jaccard == 0


def test_noiseless_circuits_give_certain_numbers(truths):
    late, early = truths
    found = {"arm": make("arm", late, 0, 1), "mdm": make("mdm", late + 0.01 * early, 0, 2)}
    frames = compare_scores(found, draws=20, seed=0)
    reference = at_reference(frames["edges"]).set_index("comparison")
    assert (reference.jaccard == 1).all()
    np.testing.assert_allclose(reference.low, 1)
    depth = frames["depth"]
    np.testing.assert_allclose(depth.low, depth.high, atol=1e-6)


def test_every_comparison_has_every_budget_its_n_and_its_chance(tables):
    edges = tables["edges"]
    sizes = edges.groupby("comparison").size()
    assert sizes.nunique() == 1
    assert set(sizes.index) == {
        "arm-mdm",
        "arm-continued",
        "arm-halves",
        "mdm-halves",
        "arm-mdm-halves",
    }
    halves = edges.comparison.str.contains("halves")
    assert (edges.n[halves] == N // 2).all()
    assert (edges.n[~halves] == N).all()
    assert edges.jaccard.between(0, 1).all()
    assert edges.low.between(0, 1).all()
    assert edges.chance.between(0, 1).all()


def test_a_circuit_of_early_edges_lies_earlier(tables):
    depth = tables["depth"].set_index(["circuit", "end", "edges"])
    for edges in (TOP, ALL):
        arm, mdm, control = (depth.loc[(c, "source", edges)] for c in ("arm", "mdm", "continued"))
        assert mdm.high < arm.low
        assert abs(control.depth - arm.depth) < abs(mdm.depth - arm.depth) / 4


def test_head_usage_counts_each_head_once(tables):
    heads = tables["heads"]
    assert len(heads) == GRAPH.n_layers
    used = heads[["arm_only", "mdm_only", "shared"]].sum(axis=1)
    assert (used <= GRAPH.n_heads).all()


def test_component_share_and_jaccard_are_two_readings_of_one_overlap(tables):
    components = tables["components"]
    np.testing.assert_allclose(components.jaccard, components.share / (2 - components.share))
    assert (components.k == 3).all()


def test_the_same_seed_gives_the_same_tables(truths):
    late, early = truths
    found = {"arm": make("arm", late, 0.2, 1), "mdm": make("mdm", early, 0.2, 2)}
    first, again = (compare_scores(found, draws=20, seed=5) for _ in range(2))
    for name, frame in first.items():
        assert frame.equals(again[name])


def test_of_several_pairs_of_trainings_one_mean_is_shown_and_all_intervals():
    row = {"task": "ioi", "n": 8, "count": 5, "chance": 0.02}
    reference = pd.DataFrame(
        [row | {"comparison": "arm-mdm", "jaccard": 0.5, "low": 0.4, "high": 0.6}]
    )
    pairs = [
        ("arm-mdm", 0.5, 0.4, 0.6),
        ("arm-seeds", 0.2, 0.1, 0.25),
        ("arm-seeds", 0.4, 0.3, 0.5),
    ]
    by_seed = pd.DataFrame(
        [
            row | {"comparison": name, "jaccard": value, "low": low, "high": high, "seed": seed}
            for seed, (name, value, low, high) in enumerate(pairs)
        ]
    )
    found = seeds.with_seeds(reference, by_seed).set_index("comparison")
    assert found.index.tolist() == ["arm-mdm", "arm-seeds"]
    shown = found.loc["arm-seeds", ["jaccard", "low", "high", "count"]]
    assert shown.tolist() == pytest.approx([0.3, 0.1, 0.5, 5])
    assert len(plot_overlap_reference(found.reset_index()).axes[0].collections) == 2
    assert seeds.with_seeds(reference, by_seed[:1]) is reference
