"""The training loop: batches, resumption, shift, and a pair trained from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mechshift_lib.config import Pair, load_pair
from mechshift_lib.diffusion import loop
from mechshift_lib.diffusion.corpus import Batch, collate, draw_batch, draws_of
from mechshift_lib.diffusion.recipe import Scratch, recipe_of
from mechshift_lib.diffusion.scratch import build_model
from mechshift_lib.diffusion.train import train_pair
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

TRAINING = {
    "kind": "scratch",
    "architecture": {
        "kind": "qwen2",
        "hidden_size": 16,
        "intermediate_size": 16,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
    },
    "mix": {"ioi": 1, "countdown": 1, "filler": 1},
    "diffusion": {"weighting": "cart", "anneal_steps": 4},
    "arm": {"steps": 6, "batch": 6, "lr": 1e-2, "warmup": 2},
    "post": {"steps": 8, "batch": 6, "lr": 1e-2, "warmup": 2},
    "groups": 2,
    "log_every": 1,
    "eval_every": 100,
    "eval_examples": 2,
    "checkpoint_every": 3,
    "trajectory": [0.25, 0.5],
    "variants": {"mdm-answers": {"masked": "answers"}, "mdm-causal": {"attention": "causal"}},
    "matmul": "float32",
}
STAGES = ("arm", "continued", "mdm", "mdm-answers", "mdm-causal")


def micro(**changes: Any) -> Pair:
    pair = load_pair("tiny-qwen").model_dump(mode="json")
    pair["training"] = TRAINING | changes
    for name in TRAINING["variants"]:
        path = pair["mdm"]["source"]["path"].replace("/mdm", f"/{name}")
        pair["variants"][name] = pair["mdm"] | {"source": {"kind": "folder", "path": path}}
    return Pair.model_validate(pair)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    train_pair(micro(), 0, root=root, progress=False, device="cpu")
    return root


def test_trained_folders_are_ordinary_and_complete(trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = trained / "data/models/tiny-qwen/seed0"
    for stage in STAGES:
        model = AutoModelForCausalLM.from_pretrained(folder / stage)
        assert type(model).__name__ == "Qwen2ForCausalLM"
        assert getattr(model.config, "is_causal", True) == (stage not in ("mdm", "mdm-answers"))
        assert AutoTokenizer.from_pretrained(folder / stage).mask_token == "[MASK]"
        assert {t.dtype for t in weights(folder / stage).values()} == {torch.float16}
        last = records(folder / stage / "training.jsonl")[-1]
        assert set(last["accuracy"]) == set(micro().tasks)
        assert ("mask_loss" in last) == ("text_loss" in last) == stage.startswith("mdm")
        assert last["tokens"] > 0
    for stage in ("mdm", "continued"):
        work = trained / "results/training/tiny-qwen/seed0" / stage
        assert {path.name for path in work.glob("step-*")} == {"step-00002", "step-00004"}


def moved(folder: Path) -> float:
    arm, other = weights(folder.with_name("arm")), weights(folder)
    return float(sum((other[k].float() - arm[k].float()).square().sum() for k in arm) ** 0.5)


def test_displacement_is_how_far_the_weights_went(trained: Path) -> None:
    folder = trained / "data/models/tiny-qwen/seed0"
    for stage in STAGES[1:]:
        logged = [line["displacement"] for line in records(folder / stage / "training.jsonl")]
        assert logged[-1] == pytest.approx(moved(folder / stage), rel=2e-3)
        assert logged[0] < logged[-1]


def test_the_match_is_the_first_mdm_as_far_as_the_control(trained: Path) -> None:
    folder = trained / "data/models/tiny-qwen/seed0"
    control = records(folder / "continued/training.jsonl")[-1]["displacement"]
    log = records(folder / "mdm/training.jsonl")
    if log[-1]["displacement"] < control:  # it never got there
        assert not (folder / "matched").exists()
        return
    [at] = [line for line in log if line.get("kept") == "matched"]
    assert at["displacement"] >= control
    assert all(x["displacement"] < control for x in log if x["step"] < at["step"])
    assert moved(folder / "matched") == pytest.approx(at["displacement"], rel=2e-3)


def test_stages_change_the_arm_differently(trained: Path) -> None:
    folder = trained / "data/models/tiny-qwen/seed0"
    arm, mdm, continued = (weights(folder / s) for s in ("arm", "mdm", "continued"))
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(arm[name], mdm[name])
    assert not torch.equal(arm[name], continued[name])
    assert not torch.equal(mdm[name], continued[name])


def test_a_finished_stage_is_not_trained_again(trained: Path) -> None:
    path = trained / "data/models/tiny-qwen/seed0/arm/model.safetensors"
    before = path.stat().st_mtime_ns
    train_pair(micro(), 0, root=trained, stages=("arm",), progress=False)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("stage", ["arm", "mdm"])
def test_a_killed_run_ends_like_an_uninterrupted_one(
    stage: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stage == "mdm":
        train_pair(micro(), 0, root=tmp_path, stages=("arm",), progress=False)
    real, calls = loop.gradient_step, []

    def dies(run: loop.Run, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
        calls.append(step)
        if step == 5 and calls.count(5) == 1:
            raise KeyboardInterrupt
        return real(run, optimizer, step)

    monkeypatch.setattr(loop, "gradient_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_pair(micro(), 0, root=tmp_path, stages=(stage,), progress=False)
    assert not (tmp_path / "data/models/tiny-qwen/seed0" / stage).exists()
    train_pair(micro(), 0, root=tmp_path, stages=(stage,), progress=False)
    # It went on from the checkpoint after 3 steps, not from the start.
    assert calls[:8] == [0, 1, 2, 3, 4, 5, 3, 4]
    whole, resumed = (root / "data/models/tiny-qwen/seed0" / stage for root in (trained, tmp_path))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert records(whole / "training.jsonl") == records(resumed / "training.jsonl")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    work = tmp_path / "work"
    folder = work / "tiny-qwen/seed0/arm"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(ModelError, match="delete it"):
        train_pair(micro(), 0, root=tmp_path, work=work, stages=("arm",), progress=False)


def test_continued_sees_exactly_the_tokens_of_the_mdm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[np.ndarray]] = {}
    real = loop.Run.losses

    def spy(run: loop.Run, batch: Any, step: int) -> Any:
        seen.setdefault(run.stage, []).append(batch.ids)
        return real(run, batch, step)

    monkeypatch.setattr(loop.Run, "losses", spy)
    train_pair(micro(), 0, root=tmp_path, progress=False)
    assert len(seen["mdm"]) == len(seen["continued"]) == 8
    for one, other in zip(seen["mdm"], seen["continued"], strict=True):
        assert np.array_equal(one, other)
    assert not any(np.array_equal(seen["arm"][i], seen["mdm"][i]) for i in range(6))


def test_the_mdm_starts_from_an_arm() -> None:
    with pytest.raises(ConfigError, match="train stage 'arm' first"):
        train_pair(micro(), 0, root=Path("/nonexistent"), work=Path("/tmp"), stages=("mdm",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mix": {"chess": 1}}, "no task of it"),
        ({"wings": 2}, "wings"),
        ({"variants": {"mdm": {}}}, "is a stage already"),
        ({"variants": {"x": {"masked": "prompts"}}}, r"variants\.x\.masked"),
        ({"arm": {"steps": 0, "batch": 1, "lr": 1}}, r"training\.scratch\.arm\.steps"),
    ],
)
def test_a_wrong_recipe_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(micro(**change))


def test_shipped_recipes_are_valid_and_can_be_shortened() -> None:
    for name in ("tiny-qwen", "tiny-llama", "smollm2-135m"):
        assert recipe_of(load_pair(name)).post.steps > 50
        assert recipe_of(load_pair(name), 7).post.steps == 7


def test_batches_depend_on_seed_phase_and_step_alone() -> None:
    pair, tokenizer = micro(), build_word_tokenizer()
    mix = {"ioi": 1.0, "filler": 1.0}
    draws = draws_of(pair, mix)

    def ids(*key: Any) -> list[list[int]]:
        return draw_batch(draws, mix, tokenizer, 8, key).ids.tolist()

    assert ids(0, "post", 3) == ids(0, "post", 3)
    assert ids(0, "post", 3) != ids(1, "post", 3)
    assert ids(0, "post", 3) != ids(0, "arm", 3)
    assert ids(0, "post", 3) != ids(0, "post", 4)


def test_the_text_but_its_start_or_only_answers_can_be_masked() -> None:
    tokenizer = build_word_tokenizer()
    for name in ("countdown", "filler", "infilling-native"):
        mix = {name: 1.0}
        batch = draw_batch(draws_of(micro(), mix), mix, tokenizer, 5, (0, "post", 0))
        assert (batch.ids[:, 0] == tokenizer.bos_token_id).all()
        lengths = batch.present.sum(1)
        text = batch.maskable("text")
        assert (text.sum(1) == lengths - 1).all()
        assert not text[:, 0].any()
        maskable = batch.maskable("answers")
        n = maskable.sum(1)
        if name == "countdown":
            # An equation with three numbers: 5 tokens, the last of the text.
            assert (n == 5).all()
            assert maskable[:, -5:].all()
        else:
            assert (n == lengths - 1).all()
            assert (maskable == text).all()
        assert not (maskable & ~batch.present).any()


def test_a_sentence_is_said_once_with_its_filler_in_place() -> None:
    mix = {"infilling-native": 1.0}
    tokenizer = build_word_tokenizer()
    batch = draw_batch(draws_of(micro(), mix), mix, tokenizer, 20, (0, "post", 0))
    for ids in batch.ids:
        text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        assert " bought a " in text
        assert "_" not in text
        assert text.count("bought") == 1


def test_variants_differ_in_what_they_say(trained: Path) -> None:
    recipe = recipe_of(micro())
    assert recipe.stages == STAGES
    assert recipe.diffusion_of("arm") is None
    assert recipe.diffusion_of("mdm").masked == "text"  # type: ignore[union-attr]
    assert recipe.diffusion_of("mdm-answers").masked == "answers"  # type: ignore[union-attr]
    causal = recipe.diffusion_of("mdm-causal")
    assert causal is not None
    assert (causal.attention, causal.weighting) == ("causal", "cart")
    folder = trained / "data/models/tiny-qwen/seed0"
    found = [weights(folder / stage)["lm_head.weight"] for stage in STAGES[2:]]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_parts_cover_the_batch_and_are_cut_to_their_longest() -> None:
    batch = collate([([1] * n, 1) for n in (9, 3, 5, 2)], pad_id=0)
    assert batch.present.sum(1).tolist() == [2, 3, 5, 9]
    assert batch.parts(2) == [(slice(0, 2), 3), (slice(2, 4), 9)]
    assert batch.n_tokens == 19


def test_an_mdm_learns_to_copy_through_the_shift(tmp_path: Path) -> None:
    """Loss falls on one repeated batch, so gradients reach what the shifted logits read."""
    pair = micro(mix={"ioi": 1}, diffusion={"weighting": "1/t", "masked": "answers"})
    post = {"steps": 60, "batch": 6, "lr": 1e-2, "warmup": 2}
    pair = pair.model_copy(update={"training": pair.training | {"post": post}})
    original = draw_batch

    def fixed(draws: Any, mix: Any, tokenizer: Any, size: int, key: Any) -> Any:
        return original(draws, mix, tokenizer, size, (0, "post", 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_batch", fixed)
        train_pair(pair, 0, root=tmp_path, stages=("arm", "mdm"), progress=False)
    log = records(tmp_path / "data/models/tiny-qwen/seed0/mdm/training.jsonl")
    assert log[-1]["token_loss"] < 0.3 * log[0]["token_loss"]


def test_of_a_stated_share_of_texts_only_the_answer_is_masked() -> None:
    """Of the others every token but the first is; without such texts nothing else changes."""
    seen: dict[float, list[tuple[np.ndarray, Any]]] = {}
    for share in (0.0, 0.3, 1.0):
        diffusion = TRAINING["diffusion"] | {"answers_only": share}
        pair = micro(diffusion=diffusion, mix={"countdown": 1})
        run = stage_run(pair)
        seen[share] = []
        for step in range(40):
            batch = run.batch(step)
            seen[share].append((masked_tokens(run, batch, step), batch.answer))
    none, some, every = (
        np.concatenate([(where & ~answer).any(1) for where, answer in seen[share]])
        for share in (0.0, 0.3, 1.0)
    )
    assert not every.any()
    assert none.mean() > 0.9  # few draws happen to mask the answer alone
    assert 0.6 < some.mean() / none.mean() < 0.8
    # What is masked of the other texts is what is masked without any share.
    untouched = np.concatenate(
        [(a[0] == b[0]).all(1) for a, b in zip(seen[0.0], seen[0.3], strict=True)]
    )
    assert untouched.mean() > 0.6


def stage_run(pair: Pair) -> loop.Run:
    """The MDM's stage of a pair, on an untrained model."""
    recipe, tokenizer = recipe_of(pair), build_word_tokenizer()
    assert isinstance(recipe, Scratch)
    return loop.Run(
        pair=pair,
        recipe=recipe,
        stage="mdm",
        optimisation=recipe.post,
        seed=0,
        model=build_model(recipe.architecture, tokenizer, 0),
        tokenizer=tokenizer,
        draws=draws_of(pair, recipe.mix),
        mask_id=int(tokenizer.mask_token_id),
    )


def masked_tokens(run: loop.Run, batch: Batch, step: int) -> np.ndarray:
    """Which tokens a step masks, seen from what the model is given."""
    given: list[torch.Tensor] = []

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        given.append(kwargs["input_ids"])

    handle = run.model.model.register_forward_pre_hook(note, with_kwargs=True)
    for _ in run.losses(batch, step):
        pass
    handle.remove()
    found = np.zeros(batch.ids.shape, dtype=bool)
    for (rows, width), ids in zip(batch.parts(run.recipe.groups), given, strict=True):
        found[rows, :width] = (ids == run.mask_id).numpy()
    return found
