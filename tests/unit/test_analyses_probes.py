"""Labels, cells and tables of the probes, from examples and tables made by hand."""

import numpy as np
import pandas as pd
import pytest

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


def test_the_layer_is_chosen_on_validation():
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


def test_held_out_examples_have_no_say_in_the_layer():
    rows = [("ioi", "arm", 0, 0.5, 1.0), ("ioi", "arm", 1, 0.7, 0.2), ("ioi", "arm", 2, 0.7, 0.9)]
    rows += [("ioi", "mdm", 0, 0.9, 0.1), ("ioi", "mdm", 1, 0.1, 0.8)]
    table = pd.DataFrame(rows, columns=["task", "model", "layer", "validation", "accuracy"])
    assert probe_tables.preferred(table, ["task", "model"]).layer.to_list() == [1, 0]


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


def test_later_tokens_are_read_over_several_splits_and_told_by_training(study):
    splits = probe_tables.in_splits(study, "countdown")
    assert splits.index.tolist() == [(0, i) for i in range(probes.SPLITS)]
    # The first split is that of the single cells.
    prior = probes.probed_input(study, "countdown").cells
    ahead = prior[prior.target > prior.step]
    assert splits.input.iloc[0] == pytest.approx(ahead.accuracy.mean())
    found = probes.probed(study, "countdown", "mdm")
    own = probe_tables.chosen(found, "own")
    assert splits["mdm/own"].iloc[0] == pytest.approx(own.accuracy.mean())
    table = probe_tables.plan_table(study).set_index("what")
    both = splits["mdm/now"] - splits["arm/now"]
    row = table.loc["mdm/now - arm/now"]
    assert (row.value, row.n) == (pytest.approx(both.mean()), 1)
    assert (row.least, row.most) == (pytest.approx(both.min()), pytest.approx(both.max()))
    assert np.isnan(row.low), "one training has no interval"


def test_taking_directions_out_is_measured_on_held_out_examples(study):
    table = probes.amnesic(study, "countdown", "mdm")
    assert set(table.layer) == {1}
    assert len(table) == 12
    summary = probe_tables.amnesic_table(study)
    row = summary[summary.model == "mdm"].iloc[0]
    assert row.extra == pytest.approx(row.control - row.without)
    assert row["rank"] >= 1


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
