"""Faithfulness of circuits in every training: curves, areas, halves and margins by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from mechshift_lib.analyses import Study, faithfulness_tables
from mechshift_lib.analyses import faithfulness as analysis
from mechshift_lib.circuits.evaluation.curve import faithfulness
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.margins import side
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from tests.support.study import make_pair

SIZES = analysis.SIZES


def evaluated(seed=0, n=6):
    """Random metrics of an own, a foreign and a random circuit, for ``n`` examples."""
    rng = np.random.default_rng(seed)
    full, empty = rng.normal(3, 1, n), rng.normal(-1, 1, n)
    larger = [size for size in SIZES if size >= analysis.RANDOM_FROM]
    rows = []
    for circuit, sizes in (("mdm", SIZES), ("arm", SIZES), ("random", larger)):
        for fraction in sizes:
            for i in rng.permutation(n):
                value = full[i] if fraction == 1 else rng.normal()
                rows.append(
                    {"circuit": circuit, "fraction": fraction, "example": i + 40, "value": value}
                    | {"full": full[i], "empty": empty[i], "correct": float(i % 2)}
                    | {"count": max(1, int(fraction * 100))}
                )
    return pd.DataFrame(rows)


def test_curves_are_ratios_of_means_and_areas_start_at_nothing():
    found = evaluated()
    drawn = faithfulness_tables.curves(found, draws=10)
    for circuit, (sizes, values) in drawn.items():
        part = found[found.circuit == circuit]
        wide = part.pivot(index="fraction", columns="example", values="value")
        first = part.drop_duplicates("example").sort_values("example")
        literal = faithfulness(wide.to_numpy(), first["full"].to_numpy(), first["empty"].to_numpy())
        np.testing.assert_allclose(values[0], literal)
        assert values[0, -1] == pytest.approx(1)
        heights = np.array([0, *literal])
        widths = np.diff([0, *sizes])
        by_hand = float((widths * (heights[1:] + heights[:-1]) / 2).sum())
        assert faithfulness_tables.area(sizes, values)[0] == pytest.approx(by_hand)
    assert len(drawn["random"][0]) < len(drawn["mdm"][0])


def test_all_circuits_are_drawn_over_the_same_examples():
    found = evaluated()
    twin = found[found.circuit == "mdm"].assign(circuit="arm")
    drawn = faithfulness_tables.curves(pd.concat([found[found.circuit != "arm"], twin]), draws=20)
    lost = faithfulness_tables.losses(drawn, "mdm").set_index("circuit")
    assert lost.loc["arm", ["loss", "low", "high"]].to_list() == [0, 0, 0]


def halves(first, second):
    """Metrics of a circuit in 8 examples, those at even places and the others: size -> value."""
    rows = [
        {"circuit": "mdm", "fraction": f, "example": i, "value": (second if i % 2 else first)[f]}
        | {"full": 1.0, "empty": 0.0, "correct": float(f > 0.01), "count": 1}
        for f in first
        for i in range(8)
    ]
    return pd.DataFrame(rows)


def test_a_size_is_judged_on_the_examples_that_did_not_choose_it():
    found = halves({0.01: 0.9, 0.1: 0.5, 1.0: 1.0}, {0.01: 0.2, 0.1: 0.86, 1.0: 1.0})
    (row,) = faithfulness_tables.chosen_sizes(found, draws=20).to_dict("records")
    assert (row["first"], row["second"]) == (0.01, 0.1)
    assert row["faithfulness"] == pytest.approx((0.2 + 0.5) / 2)  # each below what chose it
    assert (row["right"], row["accuracy"], row["whole"]) == (4, 0.5, 1)
    exact = binomtest(4, 8).proportion_ci(method="exact")
    assert (row["right_low"], row["right_high"]) == pytest.approx((exact.low, exact.high))
    never = halves({0.01: 0.0, 1.0: 1.0}, {0.01: 0.0, 1.0: 1.0})
    (row,) = faithfulness_tables.chosen_sizes(never, draws=20).to_dict("records")
    assert (row["first"], row["faithfulness"]) == (0.01, 0)  # the whole model is no circuit


def concluded(own, lost, control):
    """Conclusions from one number a training."""
    sizes = [{"task": "t", "seed": s, "model": "mdm", "faithfulness": x} for s, x in enumerate(own)]
    losses = [
        {"task": "t", "seed": s, "model": m, "circuit": "arm", "loss": x}
        for m, values in (("mdm", lost), ("continued", control))
        for s, x in enumerate(values)
    ]
    tables = {"sizes": pd.DataFrame(sizes), "losses": pd.DataFrame(losses)}
    return faithfulness_tables.conclusions(tables).set_index(["what", "model"])


def test_conclusions_are_over_trainings_and_one_training_is_open():
    own, lost, control = [0.95, 0.96, 0.97], [0.30, 0.32, 0.31], [0.28, 0.31, 0.30]
    found = concluded(own, lost, control)
    assert found.side["faithful", "mdm"] == "above"
    assert found.side["loss", "mdm"] == "above"
    assert found.side["beyond", "mdm"] == "below"  # it differs, by less than matters
    half = student.ppf(0.99, 2) * np.std(own, ddof=1) / np.sqrt(3)
    assert found.low["faithful", "mdm"] == pytest.approx(np.mean(own) - half)
    single = concluded(own[:1], lost[:1], control[:1])
    assert (single.side == "open").all()
    assert single.value["beyond", "mdm"] == pytest.approx(0.02)


def test_an_interval_that_reaches_both_sides_is_open():
    wide = contrast_over_seeds([0.0, 1.0, 2.0], "x")
    assert [side(wide, margin) for margin in (-99, 1, 99)] == ["above", "open", "below"]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("faithfulness")
    make_pair(root, tasks=("ioi",), seeds=(0, 1))
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


def test_every_training_is_evaluated_on_examples_of_its_own(study):
    tables = faithfulness_tables.tables(study)
    curves = tables["curves"]
    assert set(curves.seed) == {0, 1}
    assert set(curves.model) == {"arm", "mdm", "continued"}
    assert set(curves[curves.model == "continued"].circuit) == {"continued", "arm", "random"}
    whole = curves[curves.fraction == 1]
    np.testing.assert_allclose(whole.faithfulness, 1, atol=1e-5)
    for seed in (0, 1):
        assert len(analysis.held_out(study, "ioi", seed)) == study.budget.faithfulness_examples
    assert analysis.separate(study)
    assert set(faithfulness_tables.conclusions(tables).what) == {"faithful", "loss", "beyond"}


def test_random_rankings_differ_and_stay_the_same(study):
    graph = Graph.for_model(study.model("arm", 0))
    first, again, other = (analysis.random_ranking(graph, k).scores for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
