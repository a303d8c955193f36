"""What is said of masked tokens is what the training log ends with."""

import json

import numpy as np
import pytest

from mechshift_lib.analyses import Study
from mechshift_lib.analyses.masked_loss import general_table, losses_table
from mechshift_lib.analyses.words.masked_loss import losses
from mechshift_lib.plots.masked_loss import plot_losses
from tests.support.study import make_pair

LAST = {
    "mask_loss": [0.5, 0.75, 1.0, 1.5],
    "text_loss": [0.25, 0.5, None, 2.0],
    "general_loss": [1.5, 2.5, 3.5, 5.0],
    "general_right": [0.625, 0.5, 0.25, 0.125],
    "general_infilling": 0.75,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("masked")
    make_pair(root, seeds=(0, 1))
    for seed, more in ((0, 0.0), (1, 0.25)):
        last = LAST | {"mask_loss": [x + more for x in LAST["mask_loss"]]}
        last["general_infilling"] -= more
        lines = [{"step": 0, "mask_loss": [9.0] * 4}, {"step": 1} | last]
        folder = root / f"data/models/toy/seed{seed}"
        (folder / "mdm/training.jsonl").write_text("\n".join(map(json.dumps, lines)))
        (folder / "continued/training.jsonl").write_text(json.dumps({"general_next": 1.75}))
    return Study.open("toy", "book", str(root / "results"), root=root)


def test_the_last_line_of_every_log_counts(study):
    table = losses_table(study)
    assert len(table) == 2 * (4 + 3 + 4)
    own = table[(table.seed == 1) & (table.text == "answers")]
    assert own.loss.tolist() == [0.75, 1.0, 1.25, 1.75]
    assert own.right.isna().all()
    text = table[(table.seed == 0) & (table.text == "task texts")]
    assert text.low.tolist() == [0.0, 0.25, 0.75]  # a bin without a masked token has no loss
    general = table[(table.seed == 0) & (table.text == "general text")]
    assert general.right.tolist() == LAST["general_right"]


def test_general_text(study):
    table = general_table(study)
    assert table.infilling.tolist() == [0.75, 0.5]
    assert table.continued.tolist() == [1.75, 1.75]
    assert np.isnan(table.arm).all()  # it has no log


def test_what_is_said_and_drawn(study):
    table = losses_table(study)
    found = losses(table, general_table(study))
    assert "answers 0.50 to 0.75 with few masks, 1.50 to 1.75 with most" in found.said
    assert "general text 1.50 with few masks, 5.00 with most" in found.said
    assert "the very token in 50 to 75 % of cases (n = 0 blanks)" in found.said
    assert "the control 1.75" in found.said
    assert found.table is not None
    assert "right" in found.table
    figure = plot_losses(table)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["answers", "task texts", "general text"]
    assert [len(ax.lines) for ax in figure.axes] == [2, 2, 2]
    assert all(ax.get_ylim()[1] > table.loss.max() for ax in figure.axes)


def test_without_general_text_nothing_is_said_of_it(study):
    table = losses_table(study)
    own = table[table.text != "general text"]
    found = losses(own, general_table(study).iloc[:0])
    assert "general" not in found.said
    assert "right" not in found.table
