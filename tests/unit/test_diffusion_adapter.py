"""Adapters trained on a tiny ARM: what is saved, what moves, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mechshift_lib.config import Pair, load_pair
from mechshift_lib.diffusion import loop
from mechshift_lib.diffusion.adapter import OPENINGS, sample_texts
from mechshift_lib.diffusion.recipe import Architecture
from mechshift_lib.diffusion.scratch import build_model
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


def micro(mask_token: str = "[MASK]") -> Pair:
    pair = load_pair("tiny-llama").model_dump(mode="json")
    arm = {"kind": "folder", "path": "base"}
    for role in ("arm", "mdm", "continued"):
        pair[role]["source"] = arm
    pair["mdm"] |= {"adapter": "adapters/seed{seed}/mdm", "mask_token": mask_token}
    pair["continued"]["adapter"] = "adapters/seed{seed}/continued"
    return Pair.model_validate(pair | {"training": TRAINING, "tasks": ["ioi"], "task_options": {}})


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


def test_a_missing_mask_token_is_named(tmp_path: Path) -> None:
    make_base(tmp_path)
    with pytest.raises(ConfigError, match="no mask token '<hole>'"):
        train_pair(micro("<hole>"), 0, root=tmp_path, stages=("mdm",), progress=False)


def test_sampled_texts_begin_with_the_openings_and_repeat_with_the_seed() -> None:
    tokenizer = build_word_tokenizer()
    model = build_model(SHAPE, tokenizer, seed=3).eval()
    one, two, other = (sample_texts(model, tokenizer, 5, 12, seed) for seed in (0, 0, 1))
    assert one == two
    assert one != other
    assert len(one) == 5
    assert len(OPENINGS) >= 5
