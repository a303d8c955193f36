"""Adapters trained on a tiny ARM: what is saved, what moves, and that it resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mechshift_lib.config import Pair, load_pair
from mechshift_lib.diffusion import loop, texts
from mechshift_lib.diffusion.recipe import Architecture, recipe_of
from mechshift_lib.diffusion.scratch import build_model, kept
from mechshift_lib.diffusion.train import train_pair
from mechshift_lib.errors import ConfigError
from mechshift_lib.models.loading import load_model
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

SHAPE = Architecture(
    kind="llama", hidden_size=16, intermediate_size=16, layers=2, heads=2, kv_heads=1
)
TRAINING = {
    "kind": "adapter",
    "rank": 2,
    "alpha": 4,
    "mix": {"ioi": 1, "general": 1},
    "general_texts": 6,
    "general_length": 10,
    "diffusion": {"weighting": "1/t"},
    "post": {"steps": 6, "batch": 4, "lr": 1e-2, "warmup": 1},
    "groups": 1,
    "log_every": 1,
    "eval_every": 100,
    "eval_examples": 2,
    "checkpoint_every": 2,
    "matmul": "float32",
}


#: What a recipe has more where the published model is taught first.
TAUGHT = {
    "arm": {"steps": 4, "batch": 4, "lr": 1e-2, "warmup": 1},
    "arm_mix": {"ioi": 2, "general": 1},
    "general_batch": 4,
    "general_held_out": 2,
    "trajectory": [0.3, 0.5],
}


def micro(mask_token: str = "[MASK]", **more: Any) -> Pair:
    pair = load_pair("tiny-llama").model_dump(mode="json")
    arm = {"kind": "folder", "path": "base"}
    for role in ("arm", "mdm", "continued"):
        pair[role]["source"] = arm
    pair["mdm"] |= {"adapter": "adapters/seed{seed}/mdm", "mask_token": mask_token}
    pair["continued"]["adapter"] = "adapters/seed{seed}/continued"
    if "arm" in more:
        pair["arm"]["adapter"] = "adapters/seed{seed}/arm"
    training = TRAINING | more
    return Pair.model_validate(pair | {"training": training, "tasks": ["ioi"], "task_options": {}})


def make_base(root: Path) -> None:
    tokenizer = build_word_tokenizer()
    model = build_model(SHAPE, tokenizer, seed=3)
    model.save_pretrained(root / "base")
    tokenizer.save_pretrained(root / "base")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    make_base(root)
    torch.set_num_threads(1)
    train_pair(micro(), 0, root=root, progress=False, device="cpu")
    return root


def test_adapters_are_small_half_precision_and_free_of_paths(trained: Path) -> None:
    for stage in ("mdm", "continued"):
        folder = trained / "adapters/seed0" / stage
        tensors = load_file(folder / "adapter_model.safetensors")
        # Seven linear layers in each of two blocks, two factors each.
        assert len(tensors) == 2 * 7 * 2
        assert {t.dtype for t in tensors.values()} == {torch.float16}
        assert any(t.abs().max() > 0 for name, t in tensors.items() if "lora_B" in name)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "base"
        last = json.loads((folder / "training.jsonl").read_text().splitlines()[-1])
        assert set(last["accuracy"]) == {"ioi"}


def test_adapters_load_as_the_pair_declares_and_differ_from_the_arm(trained: Path) -> None:
    ids = torch.tensor([[1, 20, 30, 40, 50]])
    pair = micro()
    arm, mdm, continued = (
        load_model(pair.model(role, 0), root=trained)  # type: ignore[arg-type]
        for role in ("arm", "mdm", "continued")
    )
    changed = ids.clone()
    changed[0, -1] = 60
    assert torch.equal(continued.logits(ids)[:, 0], continued.logits(changed)[:, 0])
    assert not torch.equal(mdm.logits(ids)[:, 0], mdm.logits(changed)[:, 0])
    assert (arm.logits(ids) - continued.logits(ids)).abs().max() > 1e-4


def test_a_killed_adapter_run_ends_like_an_uninterrupted_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    make_base(tmp_path)
    real, calls = loop.gradient_step, []

    def dies(run: loop.Run, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
        calls.append(step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(run, optimizer, step)

    monkeypatch.setattr(loop, "gradient_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_pair(micro(), 0, root=tmp_path, stages=("mdm",), progress=False)
    train_pair(micro(), 0, root=tmp_path, stages=("mdm",), progress=False)
    assert calls == [0, 1, 2, 3, 2, 3, 4, 5]
    one, other = (
        load_file(root / "adapters/seed0/mdm/adapter_model.safetensors")
        for root in (trained, tmp_path)
    )
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("taught")
    make_base(root)
    torch.set_num_threads(1)
    train_pair(micro(**TAUGHT), 0, root=root, progress=False, device="cpu")
    return root


def test_later_adapters_go_on_from_the_taught_one(taught: Path, tmp_path: Path) -> None:
    """At rate 0 the MDM is the ARM: the published model and what it was taught, exactly."""
    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "adapters/seed0/mdm")
    shutil.rmtree(tmp_path / "results")
    still = TRAINING["post"] | {"lr": 1e-30}  # type: ignore[operator]
    train_pair(
        micro(**TAUGHT, post=still), 0, root=tmp_path, stages=("mdm",), progress=False, device="cpu"
    )
    arm, still_arm, mdm = (
        load_file(root / "adapters/seed0" / stage / "adapter_model.safetensors")
        for root, stage in ((taught, "arm"), (tmp_path, "mdm"), (taught, "mdm"))
    )
    assert all(torch.equal(value, still_arm[name]) for name, value in arm.items())
    assert any(not torch.equal(value, mdm[name]) for name, value in arm.items())
    plain, own = (
        load_model(pair.model("arm", 0), root=taught).logits(torch.tensor([[1, 20, 30]]))
        for pair in (micro(), micro(**TAUGHT))
    )
    assert (plain - own).abs().max() > 1e-4


def test_the_taught_stage_has_its_own_steps_and_texts(taught: Path) -> None:
    lines = {
        stage: [
            json.loads(line)
            for line in (taught / "adapters/seed0" / stage / "training.jsonl").open()
        ]
        for stage in ("arm", "continued", "mdm")
    }
    assert [len(lines[stage]) for stage in lines] == [4, 6, 6]
    tokens = {stage: [line["tokens"] for line in found] for stage, found in lines.items()}
    assert tokens["continued"] == tokens["mdm"] != tokens["arm"][:6]


def test_checkpoints_on_the_way_are_adapters_that_load(taught: Path) -> None:
    pair = micro(**TAUGHT)
    for stage in ("mdm", "continued"):
        places = kept(pair, recipe_of(pair), 0, stage, taught / "results/training")
        assert list(places) == [2, 3]
        ids = torch.tensor([[1, 20, 30, 40]])
        found = []
        for folder in (*places.values(), taught / "adapters/seed0" / stage):
            spec = pair.model(stage, 0).model_copy(update={"adapter": str(folder)})
            found.append(load_model(spec, root=taught).logits(ids))
        assert not torch.equal(found[0], found[1])
        assert not torch.equal(found[1], found[2])


def test_the_log_says_how_general_text_is_predicted(taught: Path) -> None:
    last = {
        stage: json.loads(
            (taught / "adapters/seed0" / stage / "training.jsonl").read_text().splitlines()[-1]
        )
        for stage in ("arm", "continued", "mdm")
    }
    assert last["arm"]["general_next"] > 0
    assert last["continued"]["general_next"] > 0
    assert len(last["mdm"]["general_loss"]) == len(last["mdm"]["general_right"]) == 4
    assert 0 <= last["mdm"]["general_infilling"] <= 1
    assert "general_infilling" not in last["continued"]


def test_a_taught_run_that_is_killed_anywhere_ends_the_same(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while texts are sampled, in the teaching and in the post-training."""
    torch.set_num_threads(1)
    make_base(tmp_path)
    real, calls, deaths = loop.gradient_step, [], {3, 9, 14}

    def dies(run: loop.Run, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
        calls.append((run.stage, step))
        if len(calls) in deaths:
            raise KeyboardInterrupt
        return real(run, optimizer, step)

    sample, sampled = texts.sample_texts, []

    def sampling_dies(*arguments: Any, **named: Any) -> list[str]:
        sampled.append(named["seed"])
        if len(sampled) == 2:
            raise KeyboardInterrupt
        return sample(*arguments, **named)

    monkeypatch.setattr(loop, "gradient_step", dies)
    monkeypatch.setattr(texts, "sample_texts", sampling_dies)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            train_pair(micro(**TAUGHT), 0, root=tmp_path, progress=False, device="cpu")
    train_pair(micro(**TAUGHT), 0, root=tmp_path, progress=False, device="cpu")
    assert sampled == [0, 4, 4]  # two batches, the second one twice: it was killed
    for stage in ("arm", "continued", "mdm"):
        one, other = (root / "adapters/seed0" / stage for root in (taught, tmp_path))
        name = "adapter_model.safetensors"
        assert (one / name).read_bytes() == (other / name).read_bytes(), stage
        assert _without_seconds(one) == _without_seconds(other)


def _without_seconds(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "matmul_seconds"} for line in lines]


def test_what_a_taught_pair_lacks_is_named(tmp_path: Path) -> None:
    make_base(tmp_path)
    with pytest.raises(ConfigError, match="train stage 'arm' first"):
        train_pair(micro(**TAUGHT), 0, root=tmp_path, stages=("mdm",), progress=False)
    with pytest.raises(ConfigError, match="leave some of general_texts"):
        recipe_of(micro(general_held_out=6))
    with pytest.raises(ConfigError, match="go together"):
        recipe_of(micro(mix={"ioi": 1, "corpus": 1}))
    with pytest.raises(ConfigError, match=r"'chess'.*no task of it"):
        recipe_of(micro(**TAUGHT | {"arm_mix": {"chess": 1}}))


def test_an_adapter_of_another_rank_is_no_start(taught: Path, tmp_path: Path) -> None:
    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "adapters/seed0/mdm")
    with pytest.raises(ConfigError, match="isn't of rank 3"):
        train_pair(micro(**TAUGHT, rank=3), 0, root=tmp_path, stages=("mdm",), progress=False)


def test_a_missing_mask_token_is_named(tmp_path: Path) -> None:
    make_base(tmp_path)
    with pytest.raises(ConfigError, match="no mask token '<hole>'"):
        train_pair(micro("<hole>"), 0, root=tmp_path, stages=("mdm",), progress=False)
