"""A post-training as it goes: known ways, half of the behaviour, layers, words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import Study, trajectory
from mechshift_lib.analyses.words import trajectory as words
from mechshift_lib.comparison.cka import linear_cka
from mechshift_lib.plots.trajectory import plot_signals, plot_similarity, read_label

from ..support.study import make_pair
from ..support.trajectories import make_trajectory


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("followed")
    make_pair(root, tasks=("ioi", "countdown"), seeds=(0, 1))
    made = Study.open("toy", results=str(root / "results"), pool="all", root=root)
    make_trajectory(made, 0, circuit=0.5)
    return made


@pytest.fixture(scope="module")
def found(study: Study) -> list[trajectory.Trajectory]:
    return trajectory.usable(study)


@pytest.fixture(scope="module")
def circuits(found: list[trajectory.Trajectory]) -> pd.DataFrame:
    return trajectory.circuits(found)


def test_only_trainings_with_a_trajectory_of_their_models_are_followed(
    study: Study, found: list[trajectory.Trajectory]
) -> None:
    assert [one.seed for one in found] == [0]
    assert trajectory.absent(study) == [1]
    assert words.left_out([1], 1).endswith(
        "There is no trajectory of seed 1, as those models are now."
    )
    assert words.left_out([], 5) == "This page follows 5 trainings."
    assert "follows 1 training, which decides nothing." in words.left_out([1], 1)
    assert "`mechshift trajectory` makes one" in words.left_out([0, 1], 0)


def test_similarity_and_depth_follow_the_circuit(circuits: pd.DataFrame) -> None:
    mdm = circuits[(circuits.model == "mdm") & (circuits["read"] == "countdown/last number")]
    turned = np.sqrt([0.0, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(mdm.cosine, np.cos(turned * np.pi / 2), atol=1e-3)
    # Of a quarter circle, along its chord: (1 - cos + sin) / 2.
    along = (1 - np.cos(turned * np.pi / 2) + np.sin(turned * np.pi / 2)) / 2
    np.testing.assert_allclose(mdm.way, along, atol=1e-3)
    assert mdm.jaccard.iloc[0] == 1
    assert mdm.jaccard.iloc[-1] == 0
    assert mdm.depth.iloc[-1] > mdm.depth.iloc[0]
    control = circuits[
        (circuits.model == "continued") & (circuits["read"] == "countdown/last number")
    ]
    assert control.step.tolist() == [0, 10, 20, 40]
    np.testing.assert_allclose(control.cosine, 1, atol=1e-6)
    assert control.way.isna().all()


def test_the_mdm_is_read_where_the_control_ends(circuits: pd.DataFrame) -> None:
    row = trajectory.at_the_controls_distance(circuits).set_index("read").loc["ioi/the answer"]
    # The control ends at distance 1, where the MDM has gone half of its way.
    assert row.mdm == pytest.approx(np.cos(np.sqrt(0.5) * np.pi / 2), abs=1e-3)
    assert row.continued == pytest.approx(1)
    assert row.n == 1
    assert np.isnan(row.low)
    near = circuits.assign(displacement=circuits.displacement.where(circuits.model != "mdm", 0.1))
    beyond = trajectory.at_the_controls_distance(near)
    assert beyond.mdm.isna().all()
    assert beyond.n.eq(0).all()
    assert "No MDM here" in words.similarity(beyond).said


def test_what_stands_where_when_a_part_of_the_behaviour_is_there(
    found: list[trajectory.Trajectory], circuits: pd.DataFrame
) -> None:
    assert trajectory.learnt(found) == ["ioi", "countdown"]
    table = trajectory.shares(found, circuits, "countdown")
    assert sorted(set(table.step)) == pytest.approx([20, 36])
    share = table.set_index(["curve", "read", "part"]).share
    for part in trajectory.PARTS:
        assert share["displacement", "", part] == pytest.approx(part)
        assert share["listed", "", part] == pytest.approx(part)
    angle = np.sqrt(0.5) * np.pi / 2
    along = (1 - np.cos(angle) + np.sin(angle)) / 2
    assert share["way", "countdown/first number", 0.5] == pytest.approx(along, abs=1e-3)
    assert not table["read"].str.startswith("ioi").any()
    assert "listed" not in set(trajectory.shares(found, circuits, "ioi").curve)  # Countdown's
    said = words.shares(table, "countdown")
    assert "the weights have gone 50 % of theirs, the probability of the number" in said.said
    assert "and the circuit 73 % on each (1 training, which decides nothing" in said.said
    assert "depth" not in said.said
    assert said.table is not None
    assert said.table.iloc[0].tolist() == ["the weights", "50 [50, 50]", "90 [90, 90]", "1"]


def test_steps_between_checkpoints_are_interpolated_and_small_ways_have_no_share() -> None:
    steps = np.array([0.0, 10.0, 30.0])
    assert trajectory._reached(steps, np.array([0.0, 0.2, 0.8]), 0.5) == pytest.approx(10 + 20 / 3)
    assert trajectory._reached(steps, np.array([0.8, 0.6, 0.4]), 0.5) == pytest.approx(10)
    assert np.isnan(trajectory._reached(steps, np.array([0.50, 0.90, 0.54]), 0.5))
    np.testing.assert_allclose(trajectory._shares(np.array([1.0, 0.0, 3.0])), [0, -0.5, 1])


def test_words_of_behaviour_and_signals(
    found: list[trajectory.Trajectory], circuits: pd.DataFrame
) -> None:
    table = trajectory.behaviour(found)
    said = words.behaviour(table, trajectory.reached(found))
    assert "at step 20 on IOI and at step 20 on Countdown" in said.said
    assert "100 % on IOI and 100 % on Countdown at its end" in said.said
    alone = words.behaviour(table[table.model == "mdm"], trajectory.reached(found))
    assert "no control" in alone.said
    still = words.behaviour(table, trajectory.reached(found).assign(step=np.nan))
    assert "nowhere, as it ends where it began" in still.said
    signals = trajectory.signals(found, circuits)
    text, shown = words.signals(signals).said, words.signals(signals).table
    assert "90 % in the ARM asked as an MDM, 10 % at its lowest and 10 % at the end" in text
    assert "(the control ends at 90 %)" in text
    assert shown.iloc[0].tolist() == ["the number that is left", "90 %", "10 %", "90 %"]
    assert shown["what"].tolist()[1] == "IOI, the answer, depth"
    # Made so that the circuit goes from the first layers to the last.
    assert (
        "changes by +0.50 on each in the MDM and by +0.00 on each in the control (1 training"
        in text
    )
    only = words.signals(signals[signals.model == "mdm"])
    assert "control" not in only.said
    no_cue = signals[signals.what != "cue"]
    assert words.signals(no_cue).said.startswith(
        "The mean depth of the circuit's sources changes by"
    )


def test_layers_are_compared_where_answers_are_read(study: Study) -> None:
    table = trajectory.layers(study)
    assert set(table.model) == {"mdm", "continued"}
    assert set(table.layer) == {0, 1, 2}
    # A single answer token: one position; recomputed from the streams of its six examples.
    pool = list(range(6))
    arm, control = (
        trajectory._streams(study, 0, "ioi", pool, role)[0] for role in ("arm", "continued")
    )
    assert arm[0] == control[0] == pool
    row = table[(table.seed == 0) & (table.task == "ioi") & (table.model == "continued")]
    last = row[row.layer == 2].iloc[0]
    assert last.cka == pytest.approx(linear_cka(arm[1][2], control[1][2]))
    assert last.n == 6
    said = words.layers(table)
    assert "in the MDM" in said.said
    assert "2 trainings, too few for an interval, n = " in said.said
    assert "Too few" in words.layers(table.iloc[:0]).said


def test_a_panel_for_each_read_and_a_line_for_each_training(
    found: list[trajectory.Trajectory], circuits: pd.DataFrame
) -> None:
    more = pd.concat([circuits, circuits.assign(seed=1)])
    fig = plot_similarity(more)
    titles = [ax.get_title(loc="left") for ax in fig.axes if ax.get_visible()]
    assert titles == [read_label(name) for name in dict.fromkeys(circuits["read"])]
    assert titles[-1] == "Countdown, last number"
    assert all(len(ax.lines) == 4 for ax in fig.axes if ax.get_visible())
    signals = plot_signals(trajectory.signals(found, circuits))
    assert [ax.get_visible() for ax in signals.axes] == [True] * 5 + [False]
    assert signals.axes[0].get_title(loc="left") == "the number that is left"


def test_a_trajectory_of_other_models_is_not_shown(study: Study, tmp_path: Path) -> None:
    make_pair(tmp_path, tasks=("ioi", "countdown"), seeds=(0,))
    other = Study.open("toy", results=str(tmp_path / "results"), pool="all", root=tmp_path)
    make_trajectory(other, 0)
    assert len(trajectory.usable(other)) == 1
    weights = tmp_path / "data/models/toy/seed0/mdm/model.safetensors"
    weights.write_bytes((weights.parent.parent / "arm/model.safetensors").read_bytes())
    assert trajectory.usable(other) == []
    assert trajectory.absent(other) == [0]
