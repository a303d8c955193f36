"""EAP-IG beside exact patching over trainings: same questions, errors, contrasts, words, figure."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from mechshift_lib.analyses import Study, shift, trust_trainings
from mechshift_lib.analyses.scores import measured, scores
from mechshift_lib.analyses.trust import EXACT
from mechshift_lib.analyses.trust_trainings import BEYOND, CONTRAST, ESTIMATED, METHODS
from mechshift_lib.analyses.words import trust_trainings as words
from mechshift_lib.plots.trust_trainings import plot_trainings
from tests.support.study import make_pair

TASKS = ("ioi", "countdown")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("trust")
    budget = {"circuit_examples": 4, "estimator": "exact"}
    make_pair(root, tasks=TASKS, seeds=(0,), budget=budget)
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


def test_the_same_questions_are_asked_with_the_same_effects(study):
    exact = measured(study, "countdown", "mdm", 0)
    found = trust_trainings.estimate(study, "countdown", "mdm", 0)
    columns = ["example", "position", "step"]
    assert found.items[columns].equals(exact.items[columns])
    np.testing.assert_allclose(found.items.effect, exact.items.effect, atol=1e-4)
    assert found.scores.shape == exact.scores.shape
    assert not np.allclose(found.scores, exact.scores, rtol=0.01)


def test_an_estimate_that_is_exact_errs_nowhere(study):
    exact = {name: scores(study, "ioi", name, 0) for name in trust_trainings.MODELS}
    found = trust_trainings.compared(exact, exact)
    assert found["agreement"][["spearman", "jaccard"]].to_numpy() == pytest.approx(1)
    told = [found[name].assign(task="ioi", seed=0) for name in ("likeness", "depth")]
    table = trust_trainings.readings(*told)
    assert set(table.reading) == set(trust_trainings.READINGS)
    assert table.error.abs().max() == 0


def test_a_circuit_that_is_noise_only_has_no_error_and_is_said_so():
    likeness, depth = made([0.1, 0.2, 0.4])
    likeness.loc[likeness.circuit == "mdm", "cosine"] = np.nan
    table = trust_trainings.readings(likeness, depth)
    assert np.isnan(value(table, "cosine", "ioi", "mdm")).all()
    assert value(table, "jaccard", "ioi", "mdm") == pytest.approx([0.05, 0.1, 0.2])
    said = words.finding(table, trust_trainings.over_trainings(table), "EAP-IG(5)").said
    assert "by – on IOI and – on Countdown" in said
    assert "nan" not in said


def test_every_circuit_of_a_training_is_compared_once(study, monkeypatch):
    found = trust_trainings.tables(study)
    pairs = set(itertools.product(TASKS, trust_trainings.MODELS))
    agreement = found["agreement"]
    assert set(zip(agreement.task, agreement.circuit, strict=True)) == pairs
    assert agreement.jaccard.between(0, 1).all()
    assert agreement.spearman.lt(0.999).all()
    assert set(found["likeness"].method) == set(METHODS)
    exact = shift.likeness(study)
    own = found["likeness"].query("method == @EXACT")
    np.testing.assert_allclose(
        own.sort_values(["task", "circuit", "read"]).cosine,
        exact.sort_values(["task", "circuit", "read"]).cosine,
    )

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(trust_trainings, "attribute", refuse)
    trust_trainings.tables(study)


def test_a_pair_without_exact_circuits_has_nothing_to_compare(study):
    budget = study.pair.budgets["book"].model_copy(update={"estimator": "eap-ig"})
    pair = study.pair.model_copy(update={"budgets": {"book": budget}})
    assert trust_trainings.tables(replace(study, pair=pair)) == {}


def made(errors, control=0.02, tasks=TASKS):
    """Likeness and depth by both methods; EAP-IG errs by ``errors``, one a training, on IOI."""
    likeness, depth = [], []
    for task, (seed, error), method in itertools.product(tasks, enumerate(errors), METHODS):
        about = {"task": task, "seed": seed, "method": method}
        off = error * (method == ESTIMATED) * (task == "ioi")
        for circuit, exact in (("mdm", 0.6 if task == "ioi" else 0.5), ("continued", 0.8)):
            value = exact + off + control * (circuit == "continued") * (method == ESTIMATED)
            alike = {"cosine": value, "jaccard": value / 2, "read": shift.ALL}
            likeness.append(about | {"circuit": circuit} | alike)
        for circuit, lies in (("arm", 0.5), ("mdm", 0.4 - off), ("continued", 0.5)):
            deep = {"circuit": circuit, "edges": shift.WITHOUT, "depth": lies}
            depth.append(about | deep)
    return pd.DataFrame(likeness), pd.DataFrame(depth)


def value(table, reading, task, circuit, column="error"):
    chosen = (table.reading == reading) & (table.task == task) & (table.circuit == circuit)
    return table[chosen][column].tolist()


def test_errors_of_what_is_concluded():
    errors = [0.1, 0.2, 0.4]
    table = trust_trainings.readings(*made(errors))
    assert value(table, "cosine", "ioi", "mdm") == pytest.approx(errors)
    assert value(table, "jaccard", "ioi", "mdm") == pytest.approx([x / 2 for x in errors])
    assert value(table, "earlier", "ioi", "mdm") == pytest.approx(errors)
    assert value(table, "cosine", "countdown", "mdm") == pytest.approx([0, 0, 0])
    # What both err by is gone once the control's is taken off.
    for task in TASKS:
        assert value(table, "cosine", task, BEYOND) == pytest.approx([-0.02] * 3)
    assert value(table, "cosine", CONTRAST, "mdm") == pytest.approx(errors)
    assert value(table, "cosine", CONTRAST, BEYOND, EXACT) == pytest.approx([0.1] * 3)


def test_intervals_are_over_trainings():
    errors = [0.1, 0.2, 0.4]
    over = trust_trainings.over_trainings(trust_trainings.readings(*made(errors)))
    span = ttest_1samp(errors, 0).confidence_interval(0.95)
    found = over[(over.reading == "cosine") & (over.task == "ioi") & (over.circuit == "mdm")]
    (row,) = found.to_dict("records")
    assert row["error"] == pytest.approx(np.mean(errors))
    assert (row["low"], row["high"], row["n"]) == (
        pytest.approx(span.low),
        pytest.approx(span.high),
        3,
    )
    assert row[ESTIMATED] - row[EXACT] == pytest.approx(row["error"])
    two = trust_trainings.over_trainings(trust_trainings.readings(*made(errors[:2])))
    assert two.low.isna().all()


def test_one_task_and_no_control_have_no_contrast():
    likeness, depth = made([0.1], tasks=("ioi",))
    there = [frame[frame.circuit != "continued"] for frame in (likeness, depth)]
    table = trust_trainings.readings(*there)
    assert set(table.task) == {"ioi"}
    assert set(table.circuit) == {"mdm"}
    said = words.finding(table, trust_trainings.over_trainings(table), "EAP-IG(5)").said
    assert "by +0.100 on IOI (above 0: too alike)." in said
    assert "control" not in said
    assert "1 training, which decides nothing" in said


def agreed(seeds):
    rows = itertools.product(TASKS, range(seeds), trust_trainings.MODELS)
    return pd.DataFrame(
        [
            {"task": t, "seed": s, "circuit": c, "spearman": 0.5 + 0.1 * s, "jaccard": 0.4}
            for t, s, c in rows
        ]
    )


def test_words_and_table_say_the_errors():
    readings = trust_trainings.readings(*made([0.1, 0.2, 0.4]))
    over = trust_trainings.over_trainings(readings)
    said = words.finding(readings, over, "EAP-IG(5)").said
    assert "+0.233 [" in said
    assert "+0.000 [no spread] on Countdown" in said
    assert "beyond the control's by -0.020 [no spread] on IOI" in said
    assert "is +0.100 by exact patching and +0.100 by EAP-IG(5)" in said
    assert "both have the same sign in 3 of 3 trainings" in said
    agreement = agreed(3)
    table = words.every(agreement, trust_trainings.agreements(agreement), readings, over)
    assert not table[["what", "task", "model"]].duplicated().any()
    ranks = table[table.what == words.READINGS["spearman"]]
    assert ranks["mean"].to_numpy() == pytest.approx(0.6)
    assert ranks["training 2"].to_numpy() == pytest.approx(0.7)
    row = table[(table.what == words.READINGS["cosine"]) & (table.task == "IOI")]
    assert row[row.model == "MDM"]["training 1"].tolist() == pytest.approx([0.2])
    assert "IOI minus Countdown" in set(table.task)


def test_the_figure_has_a_dot_for_every_training():
    readings = trust_trainings.readings(*made([0.1, 0.2, 0.4]))
    cosines = readings[readings.reading == "cosine"]
    over = trust_trainings.over_trainings(cosines)
    fig = plot_trainings(agreed(3), cosines, over, "EAP-IG(5)")
    left, right = fig.axes
    small = [line for line in right.lines if len(line.get_xdata()) == 3]
    assert len(small) == 3 * 3, "MDM, control and their difference, on two tasks and between them"
    drawn = sorted(x for line in small for x in line.get_xdata())
    np.testing.assert_allclose(drawn, sorted(cosines.error))
    assert [text.get_text() for text in left.get_yticklabels()] == [
        "IOI",
        "Countdown",
        "IOI − Countdown",
    ]
    assert len([line for line in left.lines if len(line.get_xdata()) == 3]) == 2 * 3
