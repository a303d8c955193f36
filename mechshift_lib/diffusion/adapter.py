"""Post-training of a published model by LoRA adapters: one makes it an MDM, one is the control.

Where the recipe has a stage ``arm``, an adapter teaches the published model first what it can't do.
The pair's ARM is then the two together, and the other adapters go on from that one's weights: each
of them holds the teaching, too, and is added to the published model alone.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from mechshift_lib.config import ROOT, FolderSource, Pair, WheelSource
from mechshift_lib.diffusion.corpus import draws_of
from mechshift_lib.diffusion.loop import Run, train_stage
from mechshift_lib.diffusion.recipe import STAGES, Adapter, Stage
from mechshift_lib.diffusion.scratch import kept
from mechshift_lib.diffusion.texts import corpus_texts, cut, sampled_texts
from mechshift_lib.documents.packed import unpacked
from mechshift_lib.errors import ConfigError
from mechshift_lib.models.adapters import WEIGHTS
from mechshift_lib.models.sources import locate


def save_adapter(model: PeftModel, base: str, folder: Path, log: Path | None = None) -> None:
    """Write the adapter (float16 safetensors) and its log, whole or not at all.

    ``base`` names what it adapts, in place of a path of this machine.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = {k: v.detach().half().contiguous() for k, v in get_peft_model_state_dict(model).items()}
    save_file(state, temporary / WEIGHTS, {"format": "pt"})
    # A copy: the model goes on training where this is a checkpoint of it.
    config = copy.copy(model.peft_config["default"])
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(str(temporary))
    if log is not None:
        shutil.copyfile(log, temporary / "training.jsonl")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def train_adapters(
    pair: Pair,
    recipe: Adapter,
    seed: int,
    *,
    stages: Sequence[Stage] = STAGES,
    root: Path = ROOT,
    work: Path,
    device: str = "cpu",
    progress: bool = True,
) -> dict[Stage, Path]:
    """Train the adapters of ``arm``, where the recipe has that stage, ``continued`` and ``mdm``.

    A stage whose folder exists is not trained again; an interrupted one goes on from its last
    checkpoint, and the sampling of texts from its last batch.

    Args:
        pair: its ARM's source is the published model that all adapters are added to.
        recipe: what is trained.
        seed: decides the adapters' first weights, batches and masks; sampled texts are all seeds'.
        stages: which adapters to make.
        root: folder that the pair's paths are relative to.
        work: where checkpoints, logs and sampled texts lie.
        device: where to train.
        progress: show a progress bar.

    Returns:
        The folder of each adapter.

    Raises:
        ConfigError: the pair names no adapter for a stage, no mask token that the tokenizer has,
            or the adapter of ``arm`` isn't trained yet.
        ModelError: the published model or the corpus isn't there.
    """
    folders: dict[Stage, Path] = {}
    for stage in stages:
        if stage == "arm" and recipe.arm is None:
            continue
        adapter = pair.model(stage, seed).adapter
        if adapter is None:
            raise ConfigError(f"Pair {pair.name!r} names no adapter for {stage!r}: add one.")
        folders[stage] = folder = root / adapter
        if folder.exists():
            continue
        base, tokenizer = _published(pair, root, device)
        place = work / pair.name / f"seed{seed}" / stage
        place.mkdir(parents=True, exist_ok=True)
        texts = _texts(base, tokenizer, recipe, stage, work / pair.name / "texts", progress)
        held_out = texts.get("general", [])[: recipe.general_held_out]
        if held_out:
            texts["general"] = texts["general"][len(held_out) :]
        peft = _adapted(base, recipe, seed, None if stage == "arm" else _taught(pair, seed, root))
        run = Run(
            pair=pair,
            recipe=recipe,
            stage=stage,
            optimisation=recipe.arm if stage == "arm" and recipe.arm else recipe.post,
            seed=seed,
            # Adapters were put into ``base`` itself, which is what is trained and asked.
            model=base,
            tokenizer=tokenizer,
            draws=draws_of(pair, recipe.mix_of(stage), texts),
            mask_id=_mask_id(pair, tokenizer),
            held_out=tokenizer(held_out)["input_ids"] if held_out else (),
        )

        def save(_: Run, where: Path, peft: PeftModel = peft) -> None:
            save_adapter(peft, _base_name(pair), where)

        keep = {} if stage == "arm" else kept(pair, recipe, seed, stage, work)
        log = train_stage(run, place, keep=keep, save=save, progress=progress)
        save_adapter(peft, _base_name(pair), folder, log)
    return folders


def _published(pair: Pair, root: Path, device: str) -> tuple[PreTrainedModel, Any]:
    """The model that adapters are added to, in evaluation mode, and its tokenizer."""
    located = locate(pair.arm.source, root)
    tokenizer = AutoTokenizer.from_pretrained(located.name, **located.options)
    base = AutoModelForCausalLM.from_pretrained(
        located.name, dtype=torch.float32, **located.options
    )
    torch.nn.Module.to(base, device)
    return base.eval(), tokenizer


def _texts(
    base: PreTrainedModel,
    tokenizer: Any,
    recipe: Adapter,
    stage: Stage,
    folder: Path,
    progress: bool,
) -> dict[str, list[str]]:
    """Texts of those kinds of the stage's mix that are lists of texts."""
    texts: dict[str, list[str]] = {}
    kinds = recipe.mix_of(stage)
    if "general" in kinds or recipe.general_held_out:
        texts["general"] = sampled_texts(base, tokenizer, recipe, folder, progress)
    if "corpus" in kinds and recipe.corpus is not None:
        texts["corpus"] = cut(corpus_texts(recipe.corpus), tokenizer, recipe.general_length)
    return texts


def _adapted(base: PreTrainedModel, recipe: Adapter, seed: int, start: Path | None) -> PeftModel:
    """Put an adapter into a model: the seed's first weights, or those of the adapter ``start``.

    Raises:
        ConfigError: ``start`` is of another shape than the recipe's adapters.
    """
    torch.manual_seed(seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    peft = get_peft_model(base, config)
    if start is not None:
        saved = load_file(start / WEIGHTS)
        own = {name: value.shape for name, value in get_peft_model_state_dict(peft).items()}
        if own != {name: value.shape for name, value in saved.items()}:
            raise ConfigError(
                f"The adapter {start} isn't of rank {recipe.rank} on all linear layers: later "
                "adapters go on from it, so train it again with this recipe."
            )
        set_peft_model_state_dict(peft, {name: value.float() for name, value in saved.items()})
    return peft  # type: ignore[return-value]


def _taught(pair: Pair, seed: int, root: Path) -> Path | None:
    """The folder of the ARM's own adapter; None where the ARM is the published model.

    Raises:
        ConfigError: it isn't there yet.
    """
    adapter = pair.model("arm", seed).adapter
    if adapter is None:
        return None
    folder = unpacked(root / adapter)
    if not (folder / WEIGHTS).is_file():
        raise ConfigError("The other adapters go on from the ARM's: train stage 'arm' first.")
    return folder


def _base_name(pair: Pair) -> str:
    """What the adapters adapt, named so that it means the same on every machine."""
    source = pair.arm.source
    if isinstance(source, WheelSource):
        return f"{source.distribution}=={source.version}:{source.file}"
    return source.path if isinstance(source, FolderSource) else source.repo


def _mask_id(pair: Pair, tokenizer: Any) -> int:
    token = pair.mdm.mask_token
    if token is None or token not in tokenizer.get_vocab():
        raise ConfigError(f"Pair {pair.name!r}: its tokenizer has no mask token {token!r}.")
    return int(tokenizer.get_vocab()[token])
