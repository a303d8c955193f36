"""The dial: differences that are known beforehand, ends of real folders, words."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mechshift_lib.analyses import Study, dial
from mechshift_lib.analyses import trajectory_files as files
from mechshift_lib.analyses import trajectory_points as measuring
from mechshift_lib.analyses.words import dial as words
from mechshift_lib.cli import app
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.plots.dial import plot_dial

from ..support.study import make_pair
from ..support.trajectories import ENDS, WAYS, make_dial, make_trajectory

RECIPE = """
variants:
  mdm-causal:
    source: {kind: folder, path: "data/models/toy/seed{seed}/mdm-causal"}
    attention: causal
    readout: shifted-mask
    mask_token: "[MASK]"
training:
  kind: scratch
  architecture: {kind: qwen2, hidden_size: 16, intermediate_size: 16, layers: 1, heads: 2,
    kv_heads: 1}
  mix: {ioi: 1, countdown: 1}
  diffusion: {weighting: cart}
  variants:
    mdm-causal: {attention: causal}
  arm: {steps: 2, batch: 4, lr: 1.0e-2, warmup: 1}
  post: {steps: 3, batch: 4, lr: 1.0e-2, warmup: 1}
  trajectory: [0.34]
"""


def _study(root: Path, recipe: str = RECIPE, seeds: tuple[int, ...] = (0, 1, 2)) -> Study:
    make_pair(root, seeds=seeds, tasks=("ioi", "countdown"))
    path = root / "data/pairs/toy.yaml"
    path.write_text(path.read_text("utf-8") + recipe, encoding="utf-8")
    return Study.open("toy", results=str(root / "results"), pool="all", root=root)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = _study(tmp_path_factory.mktemp("dial"))
    for seed in made.pair.seeds:
        make_trajectory(made, seed)
        make_dial(made, seed)
    return made


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    return dial.followed(dial.usable(study))


#: Share of the quarter circle away from the ARM's circuit after the last step that all have.
ANGLES = ENDS | {"arm": 0.0, "continued": 0.0, "mdm": WAYS[-2]}


def test_models_stand_as_far_from_the_arm_as_they_were_made(table: pd.DataFrame) -> None:
    assert sorted(set(table.step)) == [0, 10, 20]  # the variants' training goes no further
    assert set(table.model) == set(ANGLES)
    assert len(table) == 3 * 4 * (1 + 2 * 4)
    last = dial.last(table)
    for model, way in ANGLES.items():
        own = last[last.model == model]
        assert len(own) == 3 * 4
        np.testing.assert_allclose(own.cosine, np.cos(way * np.pi / 2), atol=1e-3)
        if model in ENDS:
            np.testing.assert_allclose(own.displacement, 10 * way)
            np.testing.assert_allclose(own.listed, 1 - way)
    assert last[last.model == "arm"].jaccard.eq(1).all()
    deep = last[last["read"] == "countdown/last number"].groupby("model").depth.mean()
    assert deep["mdm"] > deep["arm"]


def test_each_part_of_the_training_is_one_difference(table: pd.DataFrame) -> None:
    found = dial.turned(dial.last(table))
    cue = found[found.measure == "cue"].set_index("part")
    # Control and MDM keep 0.9 and 0.9 - 0.8 * 0.5 of the cue there, the variants 0.7 and 0.5.
    assert cue.difference.to_dict() == pytest.approx(
        {"objective": 0.7 - 0.9, "attention": 0.5 - 0.7, "what is masked": 0.5 - 0.5}
    )
    assert cue["read"].eq("").all()
    assert found.n.eq(3).all()
    circuit = found[(found.measure == "circuit") & (found["read"] == "ioi/the answer")].set_index(
        "part"
    )
    for part, model, base in dial.TURNS:
        expected = np.cos(ANGLES[model] * np.pi / 2) - np.cos(ANGLES[base] * np.pi / 2)
        assert circuit.difference[part] == pytest.approx(expected, abs=2e-3)
    # A model that isn't there leaves out the differences that need it, no other.
    less = dial.turned(dial.last(table[table.model != "mdm-answers"]))
    assert set(less.part) == {"objective", "attention"}


def test_a_sentence_for_each_part_over_the_trainings(table: pd.DataFrame) -> None:
    last = dial.last(table)
    told = words.finding(dial.turned(last), last, 40)
    assert told.said.startswith("After 20 of 40 steps, the probability of the number that is left")
    whole = words.finding(dial.turned(last), last, 20)
    assert whole.said.startswith("At the end of the post-training (20 steps), the probability")
    assert "3 trainings" in told.said
    assert (
        "-20 [no spread] with the masked objective, -20 [no spread] with attention that opens"
        in told.said
    )
    assert (
        "Of 12 changes of the circuit's cosine with the ARM's, 8 are clear of 0, the largest "
        in (told.said)
    )
    turned = dial.turned(last)
    one = (turned.measure == "circuit") & (turned.part != "attention")
    turned.loc[one, "low"] = -1.0
    turned.loc[one, "high"] = 1.0
    turned.loc[(turned.part == "attention") & (turned["read"] != "ioi/the answer"), "low"] = 0.0
    turned = turned[turned.measure != "cue"]
    few = words.finding(turned, last, 40).said
    assert "steps, no cue was asked. Of 12 changes" in few
    assert "1 is clear of 0: -0.18" in few
    assert "with attention that opens (IOI, the answer) (means" in few
    assert told.table is not None
    assert "attention: MDM − MDM, causal attention" in told.table.columns
    assert len(told.table) == 4 + 4 + 1
    stand = words.stand(last).set_index("model")
    assert stand.loc["MDM, causal attention", "‖Δθ‖"] == "3, 3, 3"
    assert stand.loc["MDM, answers masked only", "IOI (%)"] == "50, 50, 50"
    fig = plot_dial(last[last.model != "arm"])
    rows = [text.get_text() for text in fig.axes[0].get_yticklabels()]
    assert rows[-1] == "Countdown,\nlast number"


def test_of_other_models_or_questions_nothing_is_shown(tmp_path: Path) -> None:
    study = _study(tmp_path, seeds=(0,))
    make_dial(study, 0)
    assert dial.usable(study) == []
    assert dial.steps([]) == []
    make_trajectory(study, 0)
    assert [one.seed for one in dial.usable(study)] == [0]
    make_dial(study, 0, arm="another ARM")
    assert dial.usable(study) == []
    make_dial(study, 0)
    folder = tmp_path / "data/models/toy/seed0"
    shutil.copy(folder / "arm/model.safetensors", folder / "mdm/model.safetensors")
    assert dial.usable(study) == []


def test_checkpoints_that_are_there_are_measured_written_and_read(tmp_path: Path) -> None:
    study = _study(tmp_path, seeds=(0,))
    with pytest.raises(ModelError, match="No checkpoint of mdm-causal of seed 0"):
        dial.points(study, 0)
    folder, work = tmp_path / "data/models/toy/seed0", tmp_path / "results/training/toy/seed0"
    shutil.copytree(folder / "mdm", work / "mdm-causal/step-00001")
    points = dial.points(study, 0)
    assert [(p.model, p.step) for p in points] == [("arm", 0), ("mdm-causal", 1)]
    shutil.copytree(folder / "mdm", folder / "mdm-causal")
    points = dial.points(study, 0)
    assert [(p.model, p.step) for p in points[1:]] == [("mdm-causal", 1), ("mdm-causal", 3)]
    amount = measuring.Amount(accuracy=20, circuit=4, groups=4, steps=2, batch=8)
    wanted = [*points[:2], measuring.Point("mdm", 1, folder / "mdm")]
    _, causal, full = measuring.measure_all(study, 0, amount, wanted, progress=False)
    # The same weights, but no token may see a later one.
    assert causal.row["weights"] == full.row["weights"]
    assert np.abs(full.scores - causal.scores).max() > 1e-3
    measured = measuring.measure_all(study, 0, amount, points, progress=False)
    files.write(study, 0, measured, amount, tmp_path, files.DIAL)
    assert files.read("toy", 0, tmp_path) is None
    found = files.read("toy", 0, tmp_path, files.DIAL)
    assert found is not None
    assert found.table.model.tolist() == ["arm", "mdm-causal", "mdm-causal"]


def test_a_pair_without_variants_has_no_dial(tmp_path: Path) -> None:
    plain = RECIPE.replace("  variants:\n    mdm-causal: {attention: causal}\n", "")
    study = _study(tmp_path, plain, seeds=(0,))
    with pytest.raises(ConfigError, match="no variants of its MDM"):
        dial.points(study, 0)
    result = CliRunner().invoke(app, ["trajectory", "toy", "--dial", "--checkout", str(tmp_path)])
    assert result.exit_code == 2
    assert "no variants of its MDM" in result.stderr
    assert words.NOTHING.startswith("This pair has no variants")
