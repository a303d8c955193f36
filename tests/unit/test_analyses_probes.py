"""Labels, cells and sentences of the probes' pages, from examples and tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import narrative_probes as told
from mechshift_lib.analyses import probe_tables, probes
from mechshift_lib.analyses.probes import NUMBER, STEP, Probed
from mechshift_lib.analyses.study import Study
from mechshift_lib.plots.probes import plot_later, plot_map
from mechshift_lib.tasks import Example
from tests.support.study import make_pair


def example(answer, right=None, clean=(1, 2, 3)):
    answers = tuple((a,) for a in answer) if right is None else right
    wrong = tuple((99,) for _ in answer)
    return Example("ioi", clean, clean, answer, (98,) * len(answer), answers, wrong)


def test_labels_are_tokens_and_where_many_are_right_how_many():
    one = [example((5, 6)), example((7, 6))]
    labels = probes.token_labels(one)
    assert labels[0].tolist() == [5, 7]
    assert labels[1].tolist() == [6, 6]
    many = [example((1,), (tuple(range(n)),)) for n in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert probes.token_labels(many)[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_control_tasks_word_stands_where_most_differ():
    prompts = [(1, 2, 5, 9), (1, 2, 6, 9), (0, 1, 3, 7, 9)]
    assert probes.words([example((1,), clean=p) for p in prompts]).tolist() == [5, 6, 7]


def cells(rows):
    columns = ["place", "step", "target", "layer", "validation", "accuracy"]
    return pd.DataFrame(rows, columns=columns)


def test_the_layer_is_chosen_on_validation_and_later_tokens_are_averaged():
    table = cells(
        [
            ("now", 0, 0, 0, 0.9, 1.0),
            ("now", 0, 1, 0, 0.9, 0.5),
            ("now", 0, 1, 1, 0.5, 1.0),
            ("now", 0, NUMBER, 1, 0.5, 1.0),
            ("own", 0, 1, 1, 0.5, 0.0),
        ]
    )
    hits = np.array([[1, 1], [1, 0], [1, 1], [1, 1], [0, 0]], dtype=float)
    found = Probed(table, hits)
    picked = probe_tables.chosen(found, "now")
    assert picked[picked.target == 1].layer.tolist() == [0]
    wanted = pd.MultiIndex.from_tuples([(0, 1)], names=["step", "target"])
    assert probe_tables.planned(found, "now", wanted).tolist() == [1, 0]
    assert probe_tables.planned(found, "own", wanted).tolist() == [0, 0]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("probes")
    make_pair(root, tasks=("countdown",), seeds=(0,), budget={"behaviour_examples": 40})
    return Study.open("toy", results=str(root / "results"), root=root)


def test_what_cannot_be_known_is_at_chance_and_what_is_given_is_read(study):
    prior = probes.probed_input(study, "countdown").cells
    assert set(prior.place) == {"input"}
    for role in ("arm", "mdm"):
        found = probes.probed(study, "countdown", role)
        table = found.cells
        np.testing.assert_allclose(found.hits.mean(1), table.accuracy)
        # Before the first layer the position knows its own token, the same in all examples.
        first = table[(table.layer == 0) & (table.step == 0) & (table.place == "now")]
        number = first[first.target == NUMBER]
        assert (number.accuracy <= 0.5).all()
    assert "own" not in set(probes.probed(study, "countdown", "arm").cells.place)
    steps = probes.probed(study, "countdown", "mdm").cells.query("place == 'prompt-end'")
    assert set(steps.target) == {STEP}
    # The prompt's last token is the same at every step; a layer later the canvas is seen.
    at_input = steps[steps.layer == 0].accuracy.iloc[0]
    assert at_input == pytest.approx(1 / 5)
    assert steps[steps.layer > 0].accuracy.max() > 0.4


def test_taking_directions_out_is_measured_on_held_out_examples(study):
    table = probes.amnesic(study, "countdown", "mdm")
    assert set(table.layer) == {1}
    assert len(table) == 12
    summary = probe_tables.amnesic_table(study)
    row = summary[summary.model == "mdm"].iloc[0]
    assert row.extra == pytest.approx(row.control - row.without)
    assert row["rank"] >= 1


def plan(mdm_arm, mdm_continued, own=0.3, half=0.05):
    values = {"input": 0.5, "arm/now": 0.5, "mdm/now": 0.6, "mdm/own": 0.9}
    values |= {"mdm/now - arm/now": mdm_arm, "mdm/own - input": own}
    values |= {} if mdm_continued is None else {"mdm/now - continued/now": mdm_continued}
    rows = [{"task": "countdown", "what": k, "value": v} for k, v in values.items()]
    frame = pd.DataFrame(rows)
    return frame.assign(low=frame.value - half, high=frame.value + half, n=9)


def test_the_mdm_holds_more_only_where_both_intervals_say_so():
    assert "holds more of what comes later" in told.plan(plan(0.1, 0.1))
    assert "can't be told apart" in told.plan(plan(0.1, 0.0))
    assert "holds less of what comes later" in told.plan(plan(-0.1, -0.1))
    assert "holds more of what comes later" in told.plan(plan(0.1, None))
    assert "continued" not in told.plan(plan(0.1, None))


def test_what_the_input_gives_already_is_no_plan():
    assert "MDM holds more than a linear look" in told.plan(plan(0.1, 0.1, own=0.3))
    assert "no more than a linear look" in told.plan(plan(0.1, 0.1, own=0.0))
    assert "MDM holds less than a linear look" in told.plan(plan(0.1, 0.1, own=-0.3))
    assert "nothing to plan" in told.plan(plan(0.1, 0.1).iloc[:0])


def amnesia(extra, low):
    row = {"task": "ioi", "model": "mdm", "layer": 1, "rank": 3, "whole": 1.0, "without": 0.4}
    return pd.DataFrame([row | {"control": 0.9, "extra": extra, "extra_low": low, "n": 9}])


def test_use_is_claimed_only_beyond_the_control():
    assert "beyond the control at layer 1" in told.amnesia(amnesia(0.5, 0.3))
    assert "nowhere beyond the control" in told.amnesia(amnesia(0.1, -0.1))


def test_maps_write_their_accuracies_into_the_cells():
    rows = [
        {"model": m, "place": p, "step": s, "target": t, "layer": 0, "accuracy": 0.25 * t, "n": 9}
        for m, p in (("arm", "now"), ("mdm", "own"), ("input", "input"))
        for s, t in ((0, 0), (0, 1), (1, 1))
    ]
    for fig in (plot_later(pd.DataFrame(rows), "countdown"), plot_map(pd.DataFrame(rows), "ioi")):
        written = [text.get_text() for ax in fig.axes for text in ax.texts]
        assert set(written) <= {"0", "25"}
        assert "25" in written
