"""Likeness and depth in every training, and the claims' contrasts over trainings."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import shift
from mechshift_lib.analyses.scores import Scores, edges_of
from mechshift_lib.circuits.graph.graph import Graph

GRAPH = Graph(n_layers=4, n_heads=2, n_kv_heads=2)
EDGES = edges_of(GRAPH)


def scored(name: str, by_read: np.ndarray, reads: list[int]) -> Scores:
    by_example = np.nanmean(by_read, axis=0).astype(np.float32)
    return Scores(
        circuit=name,
        graph=GRAPH,
        edges=EDGES,
        examples=np.arange(len(by_example)),
        by_example=by_example,
        steps=np.array([0]),
        by_step=by_example.mean(axis=0, keepdims=True),
        reads=np.array(reads),
        by_read=by_read.astype(np.float32),
        effect=np.ones(len(reads)),
        shares=True,
    )


def drawn(truth: np.ndarray, seed: int) -> np.ndarray:
    return truth + 0.1 * np.random.default_rng(seed).normal(size=(12, len(EDGES)))


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """The MDM is the ARM at read 0 and unlike it at read 1; the control lacks read 1."""
    rng = np.random.default_rng(0)
    truth, other = rng.normal(size=(2, len(EDGES)))
    arm = scored("arm", np.stack([drawn(truth, 1), drawn(truth, 2)]), [0, 1])
    mdm = scored("mdm", np.stack([drawn(truth, 3), drawn(other, 4)]), [0, 1])
    control = scored("continued", drawn(truth, 5)[None], [0])
    return shift.compared({"arm": arm, "mdm": mdm, "continued": control})


def test_circuits_are_compared_at_the_positions_that_both_have(
    tables: dict[str, pd.DataFrame],
) -> None:
    rows = tables["likeness"].set_index(["circuit", "read"])
    assert list(rows.index) == [
        *[("mdm", read) for read in ("all", "0", "1")],
        *[("continued", read) for read in ("all", "0")],
    ]
    assert rows.cosine["mdm", "0"] == pytest.approx(1, abs=0.02)
    assert abs(rows.cosine["mdm", "1"]) < 0.3
    assert rows.cosine["mdm", "1"] < rows.cosine["mdm", "all"] < 0.95
    assert rows.cosine["continued", "all"] == rows.cosine["continued", "0"]
    assert rows.jaccard["mdm", "0"] > rows.jaccard["mdm", "1"]


def test_depth_is_told_with_and_without_edges_from_the_embedding() -> None:
    truth = np.where(EDGES.source < 0, 5.0, 0.0)
    late = np.flatnonzero(EDGES.source_depth == EDGES.source_depth.max())[:2]
    truth[late] = 20.0
    found = shift.compared({"arm": scored("arm", drawn(truth, 1)[None], [0])})["depth"]
    by = found.set_index("edges").depth
    assert by[shift.WITHOUT] == pytest.approx(EDGES.source_depth.max(), abs=0.02)
    assert 0 < by[shift.WITH] < by[shift.WITHOUT]


def likeness(seeds: int, *circuits: str, gap: float = 0.3) -> pd.DataFrame:
    """IOI is ``gap`` more alike in the MDM; the control loses a third of it; 0 apart at read 0."""
    share = {"mdm": 1.0, "continued": 1 / 3, "matched": 2 / 3}
    return pd.DataFrame(
        [
            {"task": task, "seed": s, "circuit": c, "read": read, "cosine": value + 0.01 * s}
            for s in range(seeds)
            for c in circuits
            for task, read, value in (
                ("ioi", "all", 0.9),
                ("ioi", "0", 0.9),
                ("countdown", "all", 0.9 - gap * share[c] + 0.02 * (s % 2)),
                ("countdown", "0", 0.9),
            )
        ]
    )


def test_contrasts_are_of_trainings() -> None:
    table = likeness(4, *shift.OTHERS)
    found = shift.over_trainings(shift.differences(table))
    assert {name: round(c.effect, 3) for name, c in found.items()} == {
        "mdm": 0.29,
        "mdm-continued": 0.2,
        "matched-continued": 0.1,
        "mdm-matched": 0.1,
    }
    assert all((c.n, c.of) == (4, "trainings") for c in found.values())
    first = shift.over_trainings(shift.differences(table, read="0"))
    assert first["mdm"].effect == pytest.approx(0)
    shown = shift.contrast_table(shift.differences(table)).set_index("contrast")
    assert shown.flips["mdm"] == 1 / 16
    assert shown.low["mdm"] < 0.29 < shown.high["mdm"]


def test_what_a_training_lacks_is_left_out() -> None:
    table = likeness(3, "mdm", "continued")
    lacking = table[~((table.circuit == "continued") & (table.seed == 1))]
    found = shift.over_trainings(shift.differences(lacking))
    assert {name: c.n for name, c in found.items()} == {"mdm": 3, "mdm-continued": 2}
    assert math.isnan(found["mdm-continued"].low)
    assert shift.differences(table[table.task == "ioi"]).empty
    assert shift.over_trainings(pd.DataFrame()) == {}


def test_earlier_is_positive_and_needs_room() -> None:
    depth = {"arm": 0.3, "mdm": 0.2, "continued": 0.28}
    table = pd.DataFrame(
        [
            {"task": "countdown", "seed": s, "circuit": c, "edges": e, "depth": d + 0.01 * s}
            for s in range(3)
            for c, d in depth.items()
            for e in (shift.WITH, shift.WITHOUT)
        ]
    )
    found = shift.over_trainings(shift.earlier(table, "countdown"))
    assert found["mdm"].effect == pytest.approx(0.1)
    assert found["mdm-continued"].effect == pytest.approx(0.08)
    assert shift.room(table, "countdown", 0.3)
    assert not shift.room(table, "countdown", 0.301)
    assert not shift.room(table, "ioi", 0.0)
