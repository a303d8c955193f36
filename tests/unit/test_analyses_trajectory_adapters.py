"""Trajectories of a pair whose models are adapters of one published model."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from mechshift_lib.analyses import Study, training
from mechshift_lib.analyses import trajectory_files as files
from mechshift_lib.analyses import trajectory_points as measuring
from mechshift_lib.diffusion.train import train_pair
from mechshift_lib.errors import ConfigError
from mechshift_lib.tasks import get_task

from ..support.study import make_pair

AMOUNT = measuring.Amount(accuracy=8, circuit=4, groups=4, steps=1, batch=8)
TRAINING = {
    "kind": "adapter",
    "rank": 2,
    "alpha": 4,
    "arm": {"steps": 1, "batch": 4, "lr": 1e-2, "warmup": 1},
    "mix": {"ioi": 1, "countdown": 1},
    "diffusion": {"weighting": "1/t"},
    "post": {"steps": 2, "batch": 4, "lr": 1e-2, "warmup": 1},
    "eval_examples": 2,
    "trajectory": [0.5],
    "matmul": "float32",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("adapted")
    make_pair(root, seeds=(0,), tasks=("ioi", "countdown"), layers=1, width=16)
    models = root / "data/models/toy/seed0"
    (models / "arm").rename(models / "base")
    path = root / "data/pairs/toy.yaml"
    pair = yaml.safe_load(path.read_text("utf-8"))
    for role in ("arm", "mdm", "continued"):
        pair[role]["source"]["path"] = "data/models/toy/seed0/base"
        pair[role]["adapter"] = f"adapters/seed{{seed}}/{role}"
    path.write_text(yaml.safe_dump(pair | {"training": TRAINING}), encoding="utf-8")
    made = Study.open("toy", results=str(root / "results"), pool="all", root=root)
    torch.set_num_threads(1)
    train_pair(made.pair, 0, root=root, progress=False, device="cpu")
    return made


def test_every_point_is_measured_and_written(study: Study) -> None:
    found = measuring.measure_all(study, 0, AMOUNT, progress=False)
    table = pd.DataFrame([one.row for one in found])
    assert list(zip(table.model, table.step, strict=True)) == [
        ("arm", 0), ("mdm", 0), ("mdm", 1), ("mdm", 2), ("continued", 1), ("continued", 2),
    ]  # fmt: skip
    assert table.displacement[:2].tolist() == [0, 0]
    assert (table.displacement[2:] > 0).all()
    assert table.weights[0] == table.weights[1] != table.weights[2]
    files.write(study, 0, found, AMOUNT, study.root)
    again = files.read("toy", 0, study.root)
    assert again is not None
    assert files.is_of(again, study)
    assert again.reads == ("ioi/0", "countdown/0", "countdown/2", "countdown/4")
    assert again.scores.shape[:3] == (6, 4, 4)


def test_the_distance_is_that_of_the_merged_weights(study: Study) -> None:
    arm, *_, last = measuring.points(study, 0)

    def merged(point: measuring.Point) -> dict[str, torch.Tensor]:
        base = AutoModelForCausalLM.from_pretrained(study.root / "data/models/toy/seed0/base")
        whole = PeftModel.from_pretrained(base, str(point.folder)).merge_and_unload()
        return dict(whole.named_parameters())

    one, other = merged(arm), merged(last)
    squares = sum(float((other[k].double() - one[k].double()).square().sum()) for k in one)
    assert measuring.moved(arm.folder, last.folder) == pytest.approx(squares**0.5, rel=1e-4)


def test_the_taught_arm_has_a_row_of_its_training(study: Study) -> None:
    table = training.training_table(study).set_index("role")
    assert table.steps.to_dict() == {"arm": 1, "mdm": 2, "continued": 2}
    assert table.peak["arm"] == 1e-2
    assert table.moved[["mdm", "continued"]].gt(0).all()


class Letters:
    """Each character is a token, and a space belongs to the sign behind it but not to a digit."""

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_countdown_is_read_at_its_numbers_wherever_they_stand() -> None:
    def example(text: str) -> SimpleNamespace:
        ids = tuple(map(ord, text))
        return SimpleNamespace(answer=ids, distractor=ids, info={"numbers": (3, 5, 1), "target": 7})

    one, other, long = map(example, (" 3+ 5- 1", " 9+ 2- 7", " 1+ 12- 7"))
    assert measuring.places("countdown", Letters(), [one, other]) == (1, 4, 7)  # type: ignore[arg-type]
    assert measuring.places("ioi", Letters(), [one]) == (0,)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="numbers of one digit"):
        measuring.places("countdown", Letters(), [one, long])  # type: ignore[arg-type]
    assert measuring._decisive(get_task("countdown"), Letters(), one, 0) == []  # type: ignore[arg-type]
