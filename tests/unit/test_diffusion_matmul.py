"""Precision of matrix products in training: rounded, measured, chosen, and kept when resumed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mechshift_lib.config import Pair, load_pair
from mechshift_lib.diffusion import loop, matmul
from mechshift_lib.diffusion.matmul import (
    ROUNDS,
    Matmul,
    exact_products,
    faster_products,
    measured_products,
    round_products,
)
from mechshift_lib.diffusion.recipe import recipe_of
from mechshift_lib.diffusion.train import train_pair

FLOAT32_FASTER: dict[Matmul, float] = {"float32": 1.0, "bfloat16": 0.9}
BFLOAT16_FASTER: dict[Matmul, float] = {"float32": 1.0, "bfloat16": 0.7}
TRAINING = {
    "kind": "scratch",
    "architecture": {
        "kind": "llama",
        "hidden_size": 16,
        "intermediate_size": 16,
        "layers": 1,
        "heads": 2,
        "kv_heads": 2,
    },
    "mix": {"ioi": 1, "filler": 1},
    "diffusion": {"weighting": "1/t"},
    "arm": {"steps": 5, "batch": 6, "lr": 1e-2, "warmup": 2},
    "post": {"steps": 5, "batch": 6, "lr": 1e-2, "warmup": 2},
    "log_every": 2,
    "eval_examples": 2,
    "checkpoint_every": 2,
}


def micro(**changes: Any) -> Pair:
    pair = load_pair("tiny-llama").model_dump(mode="json")
    return Pair.model_validate(pair | {"training": TRAINING | changes})


def trained(root: Path, pair: Pair) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Weights of the ARM that is trained, and its log."""
    train_pair(pair, 0, root=root, stages=("arm",), progress=False, device="cpu")
    folder = root / "data/models/tiny-llama/seed0/arm"
    lines = (folder / "training.jsonl").read_text().splitlines()
    return load_file(folder / "model.safetensors"), [json.loads(line) for line in lines]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def pretend(monkeypatch: pytest.MonkeyPatch, *seconds: dict[Matmul, float]) -> None:
    """Measure as always, and then say that it took so long; a further measurement fails."""
    real, told = matmul.measured_products, iter(seconds)

    def measured(model: nn.Module, once: Any) -> dict[Matmul, float]:
        assert set(real(model, once)) == {"float32", "bfloat16"}
        return next(told)

    monkeypatch.setattr(matmul, "measured_products", measured)


def test_rounded_products_are_bfloat16_and_can_be_undone() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(8, 4))
    x = torch.randn(5, 3, 8, requires_grad=True)
    exact = layer(x)
    exact.sum().backward()
    grad, weight_grad = x.grad.clone(), layer[0].weight.grad.clone()  # type: ignore[union-attr]
    x.grad, layer[0].weight.grad = None, None
    round_products(layer)
    rounded = layer(x)
    rounded.sum().backward()
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
    assert torch.allclose(x.grad, grad, atol=0.02)  # type: ignore[arg-type]
    assert torch.allclose(layer[0].weight.grad, weight_grad, rtol=0.02, atol=0.05)  # type: ignore[arg-type]
    assert torch.allclose(layer[0].bias.grad, torch.full((4,), 30.0))  # type: ignore[arg-type]
    exact_products(layer)
    assert torch.equal(layer(x), exact)


def test_auto_is_what_a_recipe_says_by_default() -> None:
    assert recipe_of(micro()).matmul == "auto"
    for name in ("tiny-qwen", "tiny-llama", "smollm2-135m"):
        assert recipe_of(load_pair(name)).matmul == "auto"


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"float32": 1.0, "bfloat16": 0.84}, "bfloat16"),
        ({"float32": 1.0, "bfloat16": 0.86}, "float32"),
        ({"float32": 1.0, "bfloat16": 7.0}, "float32"),
    ],
)
def test_bfloat16_is_chosen_where_it_is_clearly_faster(
    seconds: dict[Matmul, float], chosen: str
) -> None:
    assert faster_products(seconds) == chosen


@pytest.mark.parametrize(
    ("cost", "rounds"), [({"float32": 3.0, "bfloat16": 1.0}, ROUNDS), ({"bfloat16": 7.0}, 1)]
)
def test_the_best_round_counts_and_a_clear_loser_is_not_timed_again(
    cost: dict[str, float], rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that the passes themselves move: each round is dearer than the one before, and the
    first pass of each precision isn't timed.
    """
    layer, clock, calls = nn.Linear(4, 4), [0.0], []
    monkeypatch.setattr(matmul.time, "process_time", lambda: clock[0])

    def once() -> None:
        precision = "bfloat16" if "forward" in vars(layer) else "float32"
        calls.append(precision)
        clock[0] += cost.get(precision, 1.0) + calls.count(precision) - 2

    found = measured_products(layer, once)
    assert calls == ["float32", "bfloat16"] * (1 + rounds)
    assert found == {name: cost.get(name, 1.0) for name in ("float32", "bfloat16")}


def test_measuring_changes_neither_weights_nor_gradients_nor_random_numbers() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    x, before = torch.randn(4, 8), {k: v.clone() for k, v in model.state_dict().items()}
    state, seen = torch.get_rng_state(), []

    def once() -> None:
        out = model(x)
        seen.append(out.dtype)
        out.sum().backward()

    seconds = measured_products(model, once)
    assert all(value > 0 for value in seconds.values())
    assert torch.equal(torch.get_rng_state(), state)
    assert same(model.state_dict(), before)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize(
    ("seconds", "chosen"), [(FLOAT32_FASTER, "float32"), (BFLOAT16_FASTER, "bfloat16")]
)
def test_a_measured_training_equals_one_that_was_told(
    seconds: dict[Matmul, float], chosen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, told_log = trained(tmp_path / "told", micro(matmul=chosen))
    assert told_log[0]["matmul"] == chosen
    assert told_log[0]["matmul_seconds"] == {}
    pretend(monkeypatch, seconds)
    weights, log = trained(tmp_path / "measured", micro())
    assert same(weights, told)
    assert log[0].pop("matmul_seconds") == seconds
    told_log[0].pop("matmul_seconds")
    assert log == told_log
    assert not any("matmul" in line for line in log[1:])


def test_a_resumed_stage_keeps_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, whole_log = trained(tmp_path / "whole", micro(matmul="bfloat16"))
    pretend(monkeypatch, BFLOAT16_FASTER)  # once: a second measurement has nothing to say
    real, calls = loop.gradient_step, itertools.count()

    def dies(run: loop.Run, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(run, optimizer, step)

    monkeypatch.setattr(loop, "gradient_step", dies)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "resumed", micro())
    weights, log = trained(tmp_path / "resumed", micro())
    assert same(weights, whole)
    assert log[0]["matmul_seconds"] == BFLOAT16_FASTER
    assert [line["loss"] for line in log] == [line["loss"] for line in whole_log]


def test_all_stages_of_a_seed_multiply_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, BFLOAT16_FASTER)
    train_pair(micro(), 0, root=tmp_path, progress=False, device="cpu")
    for stage in ("arm", "mdm", "continued"):
        log = tmp_path / f"data/models/tiny-llama/seed0/{stage}/training.jsonl"
        first = json.loads(log.read_text().splitlines()[0])
        assert first["matmul"] == "bfloat16"
        assert first["matmul_seconds"] == BFLOAT16_FASTER
