"""Training of the small pairs: the ARM, the MDM made from it, and the control trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mechshift_lib.config import ROOT, FolderSource, Pair
from mechshift_lib.diffusion.corpus import draws_of
from mechshift_lib.diffusion.loop import Run, train_stage
from mechshift_lib.diffusion.recipe import STAGES, Architecture, Recipe, Scratch, Stage
from mechshift_lib.errors import ConfigError
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

#: Where checkpoints and logs of unfinished stages lie, relative to the checkout.
WORK = Path("results") / "training"
#: Stages that every training has after the ARM's.
FOLLOWED: tuple[Stage, ...] = ("mdm", "continued")


def kept(
    pair: Pair, recipe: Recipe, seed: int, stage: Stage, work: Path = ROOT / WORK
) -> dict[int, Path]:
    """Steps after which a stage's model is kept besides its end, and the folder of each.

    Args:
        pair: the pair.
        recipe: what is trained.
        seed: training seed.
        stage: any but the ARM's.
        work: where unfinished stages lie.
    """
    steps = sorted({max(1, round(part * recipe.post.steps)) for part in recipe.trajectory})
    return {s: work / pair.name / f"seed{seed}" / stage / f"step-{s:05d}" for s in steps}


def build_model(architecture: Architecture, tokenizer: Any, seed: int) -> PreTrainedModel:
    """A freshly initialised Qwen2 or Llama model; the seed decides its weights."""
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": architecture.hidden_size,
        "intermediate_size": architecture.intermediate_size,
        "num_hidden_layers": architecture.layers,
        "num_attention_heads": architecture.heads,
        "num_key_value_heads": architecture.kv_heads,
        "max_position_embeddings": architecture.max_positions,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    if architecture.kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape))
    return LlamaForCausalLM(LlamaConfig(**shape))


def save_folder(run: Run, folder: Path, log: Path | None = None) -> None:
    """Write an ordinary Hugging Face folder, whole or not at all, in half precision."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if run.diffusion is not None and run.diffusion.attention == "full":
        run.model.config.is_causal = False
    state = {k: v.detach().to(torch.float16) for k, v in run.model.state_dict().items()}
    run.model.save_pretrained(temporary, state_dict=state)
    run.tokenizer.save_pretrained(temporary)
    if log is not None:
        shutil.copyfile(log, temporary / "training.jsonl")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def train_scratch(
    pair: Pair,
    recipe: Scratch,
    seed: int,
    *,
    stages: Sequence[Stage] = STAGES,
    root: Path = ROOT,
    work: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict[Stage, Path]:
    """Train a small pair: ``arm`` from scratch, then ``continued`` and ``mdm`` from it.

    A stage whose folder exists is not trained again; an interrupted one goes on from its last
    checkpoint and ends as if it had never been interrupted. ``continued`` sees the MDM's token
    sequences in the MDM's order. Where the control was trained before, ``mdm`` also leaves
    ``matched``: itself after the first step at which it is as far from the ARM as the control ends
    (:func:`mechshift_lib.diffusion.loop.displacement`).

    Args:
        pair: the pair; its paths say where the models go.
        recipe: what is trained.
        seed: decides weights, batches and masks.
        stages: which models to make.
        root: folder that the pair's paths are relative to.
        work: where checkpoints and logs of unfinished stages lie (default: ``results/training``).
        device: where to train.
        progress: show a progress bar.

    Returns:
        The folder of each model.

    Raises:
        ConfigError: the pair has no such seed, or no ARM to start from.
    """
    work = root / WORK if work is None else work
    tokenizer = build_word_tokenizer()
    folders: dict[Stage, Path] = {}
    for stage in stages:
        folders[stage] = folder = _folder(pair, stage, seed, root)
        if folder.exists():
            continue
        if stage == "arm":
            model, optimisation = build_model(recipe.architecture, tokenizer, seed), recipe.arm
        else:
            arm = _folder(pair, "arm", seed, root)
            if not arm.exists():
                raise ConfigError(f"Stage {stage!r} starts from the ARM: train stage 'arm' first.")
            model = AutoModelForCausalLM.from_pretrained(arm, dtype=torch.float32)
            optimisation = recipe.post
        torch.nn.Module.to(model, device)
        run = Run(
            pair=pair,
            recipe=recipe,
            stage=stage,
            optimisation=optimisation,
            seed=seed,
            model=model,
            tokenizer=tokenizer,
            draws=draws_of(pair, recipe.mix),
            mask_id=int(tokenizer.mask_token_id),
        )
        stage_work = work / pair.name / f"seed{seed}" / stage
        stage_work.mkdir(parents=True, exist_ok=True)
        keep: dict[int, Path] = {}
        if stage != "arm":
            keep = kept(pair, recipe, seed, stage, work)
        log = train_stage(
            run,
            stage_work,
            keep=keep,
            keep_at=_matched(folder) if stage == "mdm" else None,
            save=save_folder,
            progress=progress,
        )
        save_folder(run, folder, log)
    return folders


def _matched(mdm: Path) -> tuple[float, Path] | None:
    """How far the control beside this MDM ended from the ARM, and where its match goes."""
    log = mdm.with_name("continued") / "training.jsonl"
    if not log.is_file():
        return None
    last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    return float(last["displacement"]), mdm.with_name("matched")


def _folder(pair: Pair, stage: Stage, seed: int, root: Path) -> Path:
    source = pair.model(stage, seed).source
    if not isinstance(source, FolderSource):
        raise ConfigError(f"Pair {pair.name!r} takes its {stage} from elsewhere: nothing to train.")
    return root / source.path
