"""Trajectories of a pair trained here in a few steps: measured, written, read, told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mechshift_lib.analyses import Study, trajectory
from mechshift_lib.analyses import trajectory_files as files
from mechshift_lib.analyses import trajectory_points as measuring
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.cli import app
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.diffusion.train import train_pair
from mechshift_lib.errors import ConfigError, ModelError, ResultError
from mechshift_lib.results import Store

from ..support.study import make_pair

AMOUNT = measuring.Amount(accuracy=40, circuit=5, groups=4, steps=2, batch=8)
TRAINING = """
training:
  kind: scratch
  architecture: {kind: qwen2, hidden_size: 16, intermediate_size: 16, layers: 1, heads: 2,
    kv_heads: 1}
  mix: {ioi: 1, countdown: 1}
  diffusion: {weighting: cart}
  arm: {steps: 2, batch: 4, lr: 1.0e-2, warmup: 1}
  post: {steps: 3, batch: 4, lr: 1.0e-2, warmup: 1}
  eval_examples: 2
  trajectory: [0.34]
  matmul: float32
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("trained")
    make_pair(root, seeds=(0, 1), tasks=("ioi", "countdown"))
    path = root / "data/pairs/toy.yaml"
    path.write_text(path.read_text("utf-8") + TRAINING, encoding="utf-8")
    for folder in (root / "data/models/toy/seed0").iterdir():
        folder.rename(folder.with_name(f"random-{folder.name}"))
    made = Study.open("toy", results=str(root / "results"), pool="all", root=root)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    train_pair(made.pair, 0, root=root, progress=False, device="cpu")
    torch.set_num_threads(before)
    return made


@pytest.fixture(scope="module")
def measured(study: Study) -> list[measuring.Measured]:
    return measuring.measure_all(study, 0, AMOUNT, progress=False)


def test_every_point_is_measured_and_starts_from_the_arm(
    study: Study, measured: list[measuring.Measured]
) -> None:
    table = pd.DataFrame([one.row for one in measured])
    assert list(zip(table.model, table.step, strict=True)) == [
        ("arm", 0), ("mdm", 0), ("mdm", 1), ("mdm", 3), ("continued", 1), ("continued", 3),
    ]  # fmt: skip
    assert table.displacement[:2].tolist() == [0, 0]
    assert table.weights[0] == table.weights[1] != table.weights[2]
    folders = [study.root / f"data/models/toy/seed0/{role}" for role in ("arm", "mdm")]
    arm, mdm = (load_file(f / "model.safetensors") for f in folders)
    squares = sum(float((mdm[k].float() - arm[k].float()).square().sum()) for k in arm)
    assert table.displacement[3] == pytest.approx(squares**0.5, rel=1e-5)
    assert (np.diff(table.displacement[1:4]) > 0).all()
    for name in ("accuracy/ioi", "accuracy/countdown", "listed", "targeted"):
        assert table[name].between(0, 1).all()
    assert (table.cues > 0).all()


def test_scores_are_means_over_groups_of_each_reads_examples(
    study: Study, measured: list[measuring.Measured]
) -> None:
    arm, *_, last = measuring.points(study, 0)
    assert [one.model for one in (arm, last)] == ["arm", "continued"]
    model = measuring.loaded(study, 0, last)
    asked = measuring.questions(study, 0, arm, AMOUNT)
    assert list(asked.reads) == [("ioi", 0), *(("countdown", at) for at in (0, 2, 4))]
    number = list(asked.reads).index(("countdown", 4))
    # Five examples in four groups: the first group has two.
    first, second = asked.reads["countdown", 4][:2]
    examples = asked.examples["countdown"]
    rows = []
    for i in (first, second):
        [item] = model.readout.items(examples[i], 0)
        at = item.reads.index(len(examples[i].clean) - 1 + 4)
        one = replace(
            item,
            reads=(item.reads[at],),
            answers=(item.answers[at],),
            distractors=(item.distractors[at],),
        )
        metric = study.task("countdown").metric
        rows.append(attribute(model, [one], metric=metric, method="eap-ig", steps=2).scores)
    expected = np.mean(rows, axis=0)
    np.testing.assert_allclose(
        measured[-1].scores[number, 0], expected, atol=1e-5 * np.abs(expected).max() + 1e-12
    )


def test_what_is_written_is_read_and_belongs_to_the_models(
    study: Study, measured: list[measuring.Measured], tmp_path: Path
) -> None:
    path = files.write(study, 0, measured, AMOUNT, tmp_path)
    assert path == tmp_path / "data/trajectories/toy/seed0.safetensors"
    found = files.read("toy", 0, tmp_path)
    assert found is not None
    assert found.reads == ("ioi/0", "countdown/0", "countdown/2", "countdown/4")
    for i, one in enumerate(measured):
        largest = np.abs(one.scores).max()
        np.testing.assert_allclose(found.scores[i], one.scores, atol=1e-3 * largest)
        assert found.table.loc[i, "weights"] == one.row["weights"]
        assert found.table.loc[i, "listed"] == pytest.approx(one.row["listed"], rel=1e-4)
    assert found.graph == measured[0].graph
    assert found.notes["recipe"] == study.pair.training
    assert found.notes["amount"]["circuit"] == 5
    assert found.of("continued").tolist() == [0, 4, 5]
    assert found.of("mdm").tolist() == [1, 2, 3]
    assert files.is_of(found, study)
    other = found.table.assign(weights=found.table.weights.where(found.table.index != 3, "0"))
    assert not files.is_of(replace(found, table=other), study)
    assert files.read("toy", 1, tmp_path) is None
    # The same measurements give the same bytes.
    before = path.read_bytes(), path.with_suffix(".csv").read_bytes()
    files.write(study, 0, measured, AMOUNT, tmp_path)
    assert before == (path.read_bytes(), path.with_suffix(".csv").read_bytes())


def test_a_trajectory_that_is_not_whole_is_told_in_a_sentence(
    study: Study, measured: list[measuring.Measured], tmp_path: Path
) -> None:
    path = files.write(study, 0, measured, AMOUNT, tmp_path)
    table = path.with_suffix(".csv")
    text = table.read_text("utf-8")
    table.write_text("\n".join(text.splitlines()[:-1]), encoding="utf-8")
    with pytest.raises(ResultError, match="different points"):
        files.read("toy", 0, tmp_path)
    table.unlink()
    with pytest.raises(ResultError, match="is damaged"):
        files.read("toy", 0, tmp_path)
    table.write_text(text, encoding="utf-8")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ResultError, match="is damaged"):
        files.read("toy", 0, tmp_path)


def test_of_many_edges_what_follows_from_them_is_kept(
    study: Study,
    measured: list[measuring.Measured],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, curves = tmp_path / "whole", tmp_path / "curves"
    files.write(study, 0, measured, AMOUNT, whole)
    monkeypatch.setattr(files, "LARGEST", 100)
    path = files.write(study, 0, measured, AMOUNT, curves)
    one, other = (files.read("toy", 0, root) for root in (whole, curves))
    assert one is not None
    assert other is not None
    assert one.kept is None
    assert other.scores.shape == (*one.scores.shape[:3], 0)
    found, again = (trajectory.circuits([x]) for x in (one, other))
    assert found[["model", "step", "read", "n"]].equals(again[["model", "step", "read", "n"]])
    numbers = ["displacement", "jaccard", "cosine", "depth"]
    pd.testing.assert_frame_equal(found[numbers], again[numbers], atol=5e-3)
    assert found.way.isna().equals(again.way.isna())
    tensors = load_file(path)
    assert set(tensors) == {"jaccard", "cosine", "way", "depth"}
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    save_file({name: one[:-1] for name, one in tensors.items()}, path, metadata=notes)
    with pytest.raises(ResultError, match="curves are of different points"):
        files.read("toy", 0, curves)


def test_reads_are_named_by_their_numbers_order() -> None:
    tiny = files.place_names(["ioi/0", "countdown/0", "countdown/2", "countdown/4"])
    assert tiny == (
        "ioi/the answer",
        *(f"countdown/{x} number" for x in ("first", "second", "last")),
    )
    digits = files.place_names([f"countdown/{at}" for at in (1, 4, 7, 10)])
    assert digits[2:] == ("countdown/third number", "countdown/last number")


def test_points_are_measured_one_by_one_then_together(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What several processes share is put together without measuring again."""
    monkeypatch.setattr(Study, "open", lambda *_a, **_k: replace(study, store=Store(tmp_path)))
    calls = []
    measure = measuring.measure
    monkeypatch.setattr(
        measuring, "measure", lambda *a, **k: calls.append(a[2]) or measure(*a, **k)
    )
    command = ["trajectory", "toy", "--seed", "0", "--examples", "40", "--circuit", "5"]
    found = CliRunner().invoke(app, [*command, "--point", "mdm@1", "--point", "continued@3"])
    assert found.exit_code == 0, found.output
    assert "Measured mdm@1, continued@3 of seed 0." in found.output
    assert [(one.model, one.step) for one in calls] == [("mdm", 1), ("continued", 3)]
    wrong = CliRunner().invoke(app, [*command, "--point", "mdm@2"])
    assert wrong.exit_code == 2
    assert "choose of arm@0, mdm@0, mdm@1, mdm@3" in " ".join(wrong.stderr.split())
    measuring.measure_all(
        replace(study, store=Store(tmp_path)), 0,
        measuring.Amount(accuracy=40, circuit=5), progress=False,
    )  # fmt: skip
    assert len(calls) == 6


def test_a_missing_checkpoint_stops_after_the_others_were_measured(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = study.root / "results/training/toy/seed0/continued/step-00001"
    hidden = gone.with_name("hidden")
    fresh = replace(study, store=Store(tmp_path))
    gone.rename(hidden)
    try:
        with pytest.raises(ModelError, match="1 of 6 checkpoints of seed 0 are missing, such as"):
            measuring.measure_all(fresh, 0, AMOUNT, progress=False)
    finally:
        hidden.rename(gone)
    calls = []
    measure = measuring.measure
    monkeypatch.setattr(
        measuring, "measure", lambda *a, **k: calls.append(a[2].step) or measure(*a, **k)
    )
    measuring.measure_all(fresh, 0, AMOUNT, progress=False)
    assert calls == [1]


def test_too_few_solved_examples_are_told(study: Study) -> None:
    strict = replace(study, pool="common-correct")
    with pytest.raises(ConfigError, match="4 groups need more"):
        measuring.measure_all(strict, 0, AMOUNT, progress=False)


def test_the_command_says_what_it_lacks(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()

    def said(*arguments: str) -> str:
        result = runner.invoke(app, ["trajectory", *arguments], env={"COLUMNS": "200"})
        assert result.exit_code == 2
        return result.stderr

    assert "no folder" in said("toy", "--checkout", str(study.root / "absent"))
    assert "no seed 7" in said("toy", "--seed", "7", "--checkout", str(study.root))
    assert "aren't made here" in said("toy", "--seed", "1", "--checkout", _without_training(study))


def test_a_published_model_as_it_is_has_no_checkpoints(study: Study) -> None:
    spec = load_pair("smollm2-135m").model("arm").model_copy(update={"adapter": None})
    with pytest.raises(ConfigError, match="in folders of their own"):
        measuring.folder_of(study, spec)


def _without_training(study: Study) -> str:
    root = study.root / "plain"
    make_pair(root, seeds=(0, 1), tasks=("ioi",))
    return str(root)


SHIPPED = sorted(
    (path.parent.name, int(path.stem.removeprefix("seed")))
    for path in (ROOT / files.FOLDER).glob("*/seed*.safetensors")
)


@pytest.mark.parametrize(("pair", "seed"), SHIPPED)
def test_a_shipped_trajectory_is_of_its_models_and_recipe(pair: str, seed: int) -> None:
    found, study = files.read(pair, seed), Study.open(pair)
    assert found is not None
    assert files.is_of(found, study), "the models changed: run mechshift trajectory"
    assert found.notes["recipe"] == study.pair.training
    wanted = measuring.points(study, seed)
    expected = [(one.model, one.step) for one in wanted]
    assert list(zip(found.table.model, found.table.step, strict=True)) == expected


@pytest.mark.parametrize(
    ("pair", "role"), [("tiny-qwen", "mdm"), ("tiny-llama", "continued"), ("tiny-llama", "mdm")]
)
def test_the_ends_of_a_shipped_trajectory_are_what_its_models_say(pair: str, role: str) -> None:
    """The ARM and what it ends as, measured again from their folders: the newest training's."""
    seed = max(number for name, number in SHIPPED if name == pair)
    found, study = files.read(pair, seed), Study.open(pair)
    assert found is not None
    wanted = measuring.points(study, seed)
    amount = measuring.Amount(**found.notes["amount"])
    asked = measuring.questions(study, seed, wanted[0], amount)
    for number in (0, found.of(role)[-1]):
        again = measuring.measure(study, seed, wanted[number], wanted[0].folder, asked)
        row = found.table.loc[number]
        for name, value in again.row.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
            else:
                assert row[name] == value
        for one, other in zip(again.scores, found.scores[number], strict=True):
            np.testing.assert_allclose(one, other, atol=2e-3 * np.abs(one).max())
