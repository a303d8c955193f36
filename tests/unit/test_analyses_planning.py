"""What places carry and what cuts cost: places by hand, sums, halves, exact intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mechshift_lib.analyses import Study, planning, planning_tables
from mechshift_lib.analyses.planning import PLACES
from mechshift_lib.analyses.scores import single_reads
from mechshift_lib.models.readout import Item, Mask, ShiftedMask
from mechshift_lib.tasks.base import Example
from tests.support.study import make_pair

MASK = 9
PROMPT, REVEALED, OWN, WAITING, READ = range(5)


def asked(readout):
    """Items of a prompt of 3 and an answer of 4, one a step."""
    example = Example(
        task="t",
        clean=(1, 2, 3),
        corrupted=(1, 5, 3),
        answer=(4, 5, 6, 7),
        distractor=(5, 6, 7, 8),
        answers=((4,), (5,), (6,), (7,)),
        distractors=((5,), (6,), (7,), (8,)),
    )
    return readout.items(example, 0)


def test_places_of_a_canvas_by_hand():
    found = [planning.places(item, 3, MASK).tolist() for item in asked(ShiftedMask(MASK))]
    assert found[0] == [PROMPT, PROMPT, READ, OWN, WAITING, WAITING, WAITING]
    assert found[1] == [PROMPT, PROMPT, PROMPT, READ, OWN, WAITING, WAITING]
    assert found[3] == [PROMPT, PROMPT, PROMPT, REVEALED, REVEALED, READ, OWN]
    in_place = [planning.places(item, 3, MASK).tolist() for item in asked(Mask(MASK))]
    assert in_place[1] == [PROMPT, PROMPT, PROMPT, REVEALED, READ, WAITING, WAITING]
    # Nothing is a mask to an ARM, and nothing behind its read is seen.
    arm = Item(0, 0, (1, 2, MASK, 4, 5), (1, 2, 3, 4, 5), (3,), ((1,),), ((2,),))
    assert planning.places(arm, 2, None).tolist() == [PROMPT, PROMPT, REVEALED, READ, -1]


def test_later_tokens_stand_at_waiting_masks_and_where_an_arm_read_earlier_ones():
    item = asked(ShiftedMask(MASK))[1]  # reads token 1; tokens 2 and 3 wait at positions 5 and 6
    assert planning.later_places(item, 3, 1, MASK, 2) == [(5, 1, 2), (6, 1, 3)]
    assert planning.later_places(item, 3, 2, None, 2) == [(2, 0, 2), (3, 1, 2)]
    assert planning.later_places(item, 3, 0, None, 2) == []


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("planning")
    make_pair(root, tasks=("ioi", "countdown"), seeds=(0, 1))
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


@pytest.fixture(scope="module")
def tables(study):
    return planning_tables.tables(study)


def test_at_last_the_read_carries_all_of_it(tables):
    share = (
        tables["layers"].set_index(["task", "seed", "model", "place", "layer"]).share.sort_index()
    )
    last = tables["layers"].layer.max()
    for task, seed, model in {key[:3] for key in share.index}:
        here = share[task, seed, model]
        assert here["read", last] == pytest.approx(1, abs=1e-4)
        assert here["prompt", last] == pytest.approx(0, abs=1e-4)
    waits = tables["carried"][tables["carried"].place == "waiting"]
    assert set(waits.model) == {"mdm"}
    assert set(waits.task) == {"countdown"}  # IOI's answer is one token
    assert set(tables["carried"].seed) == {0, 1}


def test_read_and_used_are_of_the_same_cells(tables):
    cells = tables["cells"]
    assert (cells.target > cells.step).all()
    assert set(cells.layer) == {1}  # of 2 layers the first input and the last are left out
    assert set(cells.model) == {"arm", "mdm", "continued"}
    assert not cells.duplicated(["task", "seed", "model", "step", "target", "layer"]).any()


def test_a_cut_is_held_against_as_many_prompt_tokens(study):
    runs = planning.cut(study, "countdown", "mdm", 0)
    taken = runs.pivot(index=["example", "read"], columns="kind", values="positions")
    np.testing.assert_array_equal(taken.waiting, taken["waiting-control"])
    assert (taken["none"] == 0).all()
    assert set(planning.cut(study, "countdown", "arm", 0).kind) == {
        "none",
        "revealed",
        "revealed-control",
    }


def test_single_reads_are_what_is_asked(study):
    items = planning._items(study, "countdown", "arm", 0)
    example = study.examples("countdown", 0)[items[0][2]]
    model = study.model("arm", 0)
    assert len(single_reads(model, example, 0)) == len([1 for _, _, i in items if i == items[0][2]])
    assert [item.example for item, _, _ in items] == list(range(len(items)))


def runs(correct, positions=2):
    """Three examples of two items, whole and cut; ``correct`` of the first items, kind by kind."""
    kinds = {"none": [1.0, 1.0, 1.0], **correct}
    rows = [
        {"kind": kind, "example": i, "read": read, "correct": value if read == 0 else 1.0}
        | {"value": 2 * value, "positions": 0 if kind == "none" else positions * (read == 0)}
        for kind, values in kinds.items()
        for i, value in enumerate(values)
        for read in (0, 1)
    ]
    return pd.DataFrame(rows)


def test_accuracies_are_exact_and_of_items_that_lose_something():
    found = runs({"waiting": [1.0, 1.0, 1.0], "waiting-control": [1.0, 0.0, 1.0]})
    table = planning_tables.accuracies(found).set_index("kind")
    exact = binomtest(3, 3).proportion_ci(method="exact")
    assert (table.low["waiting"], table.high["waiting"]) == pytest.approx((exact.low, exact.high))
    assert (table.right["waiting-control"], table.n["waiting-control"]) == (2, 3)
    (row,) = planning_tables.beyond(found, draws=200).to_dict("records")
    assert row["lost"] == pytest.approx(-1 / 3)  # the control costs more
    assert row["fell"] == pytest.approx(-2 / 3)
    none_lost = runs({"waiting": [1.0] * 3, "waiting-control": [1.0] * 3})
    (row,) = planning_tables.beyond(none_lost, draws=200).to_dict("records")
    assert row["lost"] == 0
    assert row["high"] == pytest.approx(binomtest(0, 3).proportion_ci(method="exact").high)


def effects(by_layer):
    """Effects of waiting masks by layer and example, of a gap of 1 each."""
    return pd.DataFrame(
        [
            {"example": i, "read": 0, "place": "waiting", "layer": layer, "effect": x, "whole": 1.0}
            for layer, values in enumerate(by_layer)
            for i, x in enumerate(values)
        ]
    )


def test_a_layer_is_chosen_on_one_half_and_measured_on_the_other():
    table = effects([[0, 0, 0, 0], [0.9, 0.1, 0.9, 0.1], [0.2, 0.7, 0.2, 0.7], [0, 0, 0, 0]])
    (peak,) = planning_tables.peaks(table, draws=50).to_dict("records")
    assert (peak["layer"], peak["n"]) == (1, 2)
    assert peak["share"] == pytest.approx(0.1)  # neither the largest nor of all examples
    (held,) = planning_tables.carried(table, draws=50).to_dict("records")
    assert held["share"] == pytest.approx((0.5 + 0.45) / 2)
    assert PLACES[WAITING] == held["place"]


def test_ranks_agree_by_hand():
    rows = [
        {"task": "t", "seed": 0, "model": m, "step": s, "target": 5, "layer": k, "input": 0.5}
        | {"accuracy": s + 10 * k, "used": sign * (s + 10 * k) ** 3}
        for m, sign in (("mdm", 1), ("arm", -1)) for s in range(10) for k in (1, 2)
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    found = planning_tables.agreement(table).set_index("model")
    assert found["rank"].to_dict() == pytest.approx({"mdm": 1, "arm": -1})
    assert found.within.to_dict() == pytest.approx({"mdm": 1, "arm": -1})
    few = planning_tables.agreement(table[table.step < 2])
    assert few["rank"].isna().all()
    over = planning_tables.over_trainings(planning_tables.agreement(table), "rank", [])
    compared = over.set_index(["model", "base"]).value
    assert compared["mdm", "arm"] == pytest.approx(2)
    assert np.isnan(over.low).all()  # one training has no interval
