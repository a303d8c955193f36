"""Where attribution is read: places by hand, shares that add up, and what cuts cost."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mechshift_lib.analyses import Study, planning, planning_tables
from mechshift_lib.models.readout import Item, ShiftedMask
from mechshift_lib.tasks.base import Example
from tests.support.study import make_pair

MASK = 9


def test_places_of_a_canvas_by_hand():
    """Prompt of 3, answer of 4: at the second step one token stands, one is filled, two wait."""
    example = Example(
        task="t",
        clean=(1, 2, 3),
        corrupted=(1, 5, 3),
        answer=(4, 5, 6, 7),
        distractor=(5, 6, 7, 8),
        answers=((4,), (5,), (6,), (7,)),
        distractors=((5,), (6,), (7,), (8,)),
    )
    readout = ShiftedMask(MASK)
    found = [planning.places(i, 3, MASK, 1).tolist() for i in readout.items(example, 0)]
    assert found[0] == [0, 0, 0, 2, 3, 3, 3]
    assert found[1] == [0, 0, 0, 1, 2, 3, 3]
    assert found[3] == [0, 0, 0, 1, 1, 1, 2]
    arm = Item(0, 0, (1, 2, MASK, 4, 5), (1, 2, 3, 4, 5), (4,), ((1,),), ((2,),))
    assert planning.places(arm, 3, None, 1).tolist() == [0, 0, 0, 1, 1]  # nothing is a mask there


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("planning")
    make_pair(root, tasks=("ioi", "countdown"), seeds=(0,))
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


def test_shares_add_up_and_an_arm_reads_nothing_that_does_not_stand(study):
    tables = planning_tables.tables(study)
    shares = tables["shares"].set_index(["task", "model", "place"]).share
    for key, part in shares.groupby(level=["task", "model"]):
        assert part.sum() == pytest.approx(1), key
    for model in ("arm", "continued"):
        assert shares["countdown", model, "waiting"] == 0
        assert shares["countdown", model, "own"] == 0
    assert shares["countdown", "mdm", "waiting"] > 0
    assert shares["ioi", "mdm", "waiting"] == 0  # its answer is one token
    layers = tables["layers"].groupby(["task", "model"]).share.sum()
    np.testing.assert_allclose(layers, 1)
    assert set(tables["cuts"].task) == set(tables["patched"].task) == {"countdown"}


def test_a_cut_is_held_against_as_many_prompt_tokens(study):
    items, where = planning._items(study, "countdown", "mdm")
    for item, place in zip(items, where, strict=True):
        waiting = planning._positions(item, place, "waiting", 0)
        control = planning._positions(item, place, "control", 3)
        assert len(control) == len(waiting)
        assert set(control) <= set(np.flatnonzero(place == 0)) - {0, *item.reads}
        assert not set(item.reads) & set(planning._positions(item, place, "revealed", 0))


def runs(correct, positions=2):
    """Three examples, whole and cut; ``correct`` of the cut runs, kind by kind."""
    kinds = {"none": [1.0, 1.0, 1.0], **correct}
    rows = [
        {"kind": kind, "draw": 0, "example": i, "correct": value, "value": 2 * value}
        | {"positions": 0 if kind == "revealed" else positions}
        for kind, values in kinds.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_a_cut_of_nothing_has_no_number_and_no_loss_has_the_exact_interval():
    whole = [1.0, 1.0, 1.0]
    cuts = planning_tables._cuts(
        runs({"waiting": whole, "control": [1, 0.5, 1], "revealed": whole}), draws=200
    )
    by = {row["kind"]: row for row in cuts}
    assert np.isnan(by["revealed"]["lost"])
    assert np.isnan(by["revealed"]["fell"])
    waiting = by["waiting"]
    assert (waiting["lost"], waiting["low"]) == (0, 0)
    assert waiting["high"] == pytest.approx(binomtest(0, 3).proportion_ci(method="exact").high)
    assert by["control"]["lost"] == pytest.approx(0.5 / 3)
    assert by["control"]["fell"] == pytest.approx(1 / 3)
    assert by["excess"]["lost"] == pytest.approx(-0.5 / 3)
