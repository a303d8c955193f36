"""From step to step: which circuits are compared, and what of them stays."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import Study, steps, verdicts
from mechshift_lib.analyses.words import steps as words
from mechshift_lib.comparison.overlap import shared_attribution
from tests.support.study import make_pair


def made(moved, n=40, noise=0.05, seed=0):
    """Two states of two positions; of each vector the part ``moved`` lies elsewhere later."""
    rng = np.random.default_rng(seed)
    before, after = np.array([1.0, 0, 1, 0]), np.array([1 - moved, moved, 1 - moved, moved])
    means = {(0, "nothing"): before, (0, "others"): after}
    means |= {(2, "nothing"): after, (2, "left"): after}
    return {key: x + noise * rng.normal(size=(n, 4)) for key, x in means.items()}


def test_states_are_those_that_differ():
    assert steps.orders(0, 3) == {"nothing": [[0], [1, 2]], "others": [[1, 2], [0]]}
    assert set(steps.orders(1, 3)) == {"nothing", "left", "others"}
    assert set(steps.orders(2, 3)) == {"nothing", "left"}


def test_a_position_is_compared_with_itself_or_with_the_next():
    found = made(0.0)
    same = steps.compared(found, same_position=True)
    assert same == [((0, "nothing"), (0, "others")), ((2, "nothing"), (2, "left"))]
    arm = {(0, "left"): found[0, "others"], (2, "left"): found[2, "left"]}
    assert steps.compared(arm, same_position=False) == [((0, "left"), (2, "left"))]


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_what_moves_elsewhere_isn_t_kept(moved):
    rows = steps.rows_of(made(moved), same_position=True)
    assert rows.kept.tolist() == pytest.approx([1 - moved, 1.0], abs=0.03)
    assert rows[["position", "from", "to"]].to_numpy().tolist() == [
        [0, "nothing", "others"],
        [2, "nothing", "left"],
    ]
    mean = steps.mean_kept(made(moved), same_position=True)
    assert mean["kept"] == pytest.approx(rows.kept.mean())
    assert mean["low"] < 1 - moved / 2 < mean["high"]
    wide = steps.mean_kept(made(moved, noise=0.3), same_position=True)
    assert wide["high"] - wide["low"] > mean["high"] - mean["low"]


def test_examples_without_a_metric_at_a_position_are_left_out():
    found = made(0.2)
    found[0, "others"][5:] = np.nan
    rows = steps.rows_of(found, same_position=True)
    assert rows.n.tolist() == [5, 40]
    found[0, "others"][3:] = np.nan  # fewer than can be compared
    assert steps.rows_of(found, same_position=True).position.tolist() == [2]


def test_shared_attribution_by_hand():
    a, b = np.array([[2.0, -2.0, 0.0]]), np.array([[1.0, 1.0, 2.0]])
    assert shared_attribution(a, b) == pytest.approx([0.5])
    assert shared_attribution(a, -3 * a) == pytest.approx([1.0])
    assert np.isnan(shared_attribution(a, np.zeros((1, 3)))).all()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("steps")
    make_pair(root, tasks=("ioi", "infilling"), seeds=(0,))
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


def test_an_mdm_is_asked_with_other_tokens_revealed(study):
    model, example = study.model("mdm", 0), study.examples("infilling", 0)[0]
    asked = dict(steps.asked(model, example, 0, (0, 1)))
    assert set(asked) == {(0, "nothing"), (0, "others"), (1, "nothing"), (1, "left")}
    bare, full = asked[0, "nothing"], asked[0, "others"]
    assert bare.reads == full.reads
    assert bare.clean[-2:] == (model.mask_id, model.mask_id)
    assert full.clean[-2:] == (model.mask_id, example.answer[1])
    arm = steps.asked(study.model("arm", 0), example, 0, (0, 1))
    assert [key for key, _ in arm] == [(0, "left"), (1, "left")]


def test_tables_and_words_of_a_pair(study):
    tables = steps.tables(study)
    assert set(tables["trainings"].task) == {"infilling"}, "IOI's answer has one token"
    assert tables["trainings"].model.tolist() == ["mdm", "arm"]
    assert tables["rows"].n.eq(6).all()
    told = words.steps(tables["trainings"])
    assert "means over 1 training, n = 6 each" in told.said
    shown = words.comparisons(tables["rows"])
    assert shown.what.tolist() == [
        "token 1: nothing revealed → all revealed",
        "token 2: nothing revealed → its left revealed",
        "token 1 → 2",
    ]
    assert words.steps(pd.DataFrame()) is words.NONE


@pytest.mark.parametrize(
    ("mdm", "arm", "said"),
    [(0.97, 0.8, "reproduced"), (0.97, 0.99, "not reproduced"), (0.7, 0.5, "not reproduced")],
)
def test_staying_must_be_more_than_the_arm_s_circuits_do(study, monkeypatch, mdm, arm, said):
    rows = [
        ("countdown", seed, model, value + 0.002 * (seed - 1) * (model == "mdm"))
        for seed in range(3)
        for model, value in (("mdm", mdm), ("arm", arm + 1e-3))
    ]
    table = pd.DataFrame(rows, columns=["task", "seed", "model", "kept"])
    monkeypatch.setattr(steps, "tables", lambda _: {"trainings": table})
    (verdict,) = verdicts.of(study, "C5")
    assert (verdict.outcome, verdict.of, verdict.n) == (said, "trainings", 3)
    monkeypatch.setattr(steps, "tables", lambda _: {"trainings": table[table.seed == 0]})
    (verdict,) = verdicts.of(study, "C5")
    assert verdict.outcome == "undecided"
    assert "1 of at least 3" in verdict.missing
