"""Post-training of a pre-trained ARM by LoRA adapters: one makes it an MDM, one is the control.

No corpus of general text ships: it is sampled from the ARM itself, which also keeps the adapter
from drifting away from what the ARM knew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from mechshift_lib.config import ROOT, FolderSource, Pair, WheelSource
from mechshift_lib.diffusion.corpus import draws_of
from mechshift_lib.diffusion.loop import Run, train_stage
from mechshift_lib.diffusion.recipe import STAGES, Adapter, Stage
from mechshift_lib.errors import ConfigError
from mechshift_lib.models.sources import locate

#: How sampled texts begin; the ARM writes the rest.
OPENINGS = (
    "The city of", "In the morning", "When she was", "After the war", "My friend and",
    "Many people think", "One day a", "The best way", "It was a", "There was once",
    "They wanted to", "He looked at", "For many years", "The children were", "At the end",
)  # fmt: skip


def sample_texts(
    model: PreTrainedModel, tokenizer: Any, n: int, length: int, seed: int
) -> list[str]:
    """``n`` texts of up to ``length`` tokens sampled from an ARM (temperature 0.8, top-p 0.95)."""
    torch.manual_seed(seed)
    openings = [OPENINGS[i % len(OPENINGS)] for i in range(n)]
    texts: list[str] = []
    by_length: dict[int, list[list[int]]] = {}
    for ids in tokenizer(openings)["input_ids"]:
        by_length.setdefault(len(ids), []).append(ids)
    for n_start, starts in sorted(by_length.items()):
        ids = torch.tensor(starts, device=model.device)
        generate: Any = model.generate
        out = generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=0.8,
            top_p=0.95,
            top_k=0,
            max_new_tokens=length - n_start,
            pad_token_id=tokenizer.pad_token_id,
        )
        texts += tokenizer.batch_decode(out, skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]


def _general_texts(
    model: PreTrainedModel, tokenizer: Any, recipe: Adapter, seed: int, work: Path
) -> list[str]:
    path = work / f"general-{recipe.general_texts}x{recipe.general_length}.json"
    if not path.exists():
        texts = sample_texts(model, tokenizer, recipe.general_texts, recipe.general_length, seed)
        new = path.with_suffix(".writing")
        new.write_text(json.dumps(texts, indent=1), encoding="utf-8")
        new.replace(path)
    texts = json.loads(path.read_text(encoding="utf-8"))
    return [text for text in texts if len(tokenizer(text)["input_ids"]) > 1]


def save_adapter(model: PeftModel, base: str, folder: Path, log: Path) -> None:
    """Write the adapter (float16 safetensors) and its log, whole or not at all.

    ``base`` names what it adapts, in place of a path of this machine.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    state = {k: v.detach().half().contiguous() for k, v in get_peft_model_state_dict(model).items()}
    save_file(state, temporary / "adapter_model.safetensors", {"format": "pt"})
    config = model.peft_config["default"]
    config.base_model_name_or_path = base
    config.inference_mode = True
    config.save_pretrained(str(temporary))
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
    """Train the adapters of ``mdm`` and ``continued``; the stage ``arm`` has nothing to do.

    Args:
        pair: its ARM is the base of both adapters.
        recipe: what is trained.
        seed: decides the adapters' first weights, the sampled texts, batches and masks.
        stages: which adapters to make.
        root: folder that the pair's paths are relative to.
        work: where checkpoints, logs and sampled texts lie.
        device: where to train.
        progress: show a progress bar.

    Returns:
        The folder of each adapter.

    Raises:
        ConfigError: the pair names no adapter for a stage, or no mask token that the tokenizer
            has.
        ModelError: the ARM isn't there.
    """
    place = work / pair.name / f"seed{seed}"
    folders: dict[Stage, Path] = {}
    for stage in [stage for stage in stages if stage != "arm"]:
        adapter = pair.model(stage, seed).adapter
        if adapter is None:
            raise ConfigError(f"Pair {pair.name!r} names no adapter for {stage!r}: add one.")
        folders[stage] = folder = root / adapter
        if folder.exists():
            continue
        located = locate(pair.arm.source, root)
        tokenizer = AutoTokenizer.from_pretrained(located.name, **located.options)
        base = AutoModelForCausalLM.from_pretrained(
            located.name, dtype=torch.float32, **located.options
        )
        torch.nn.Module.to(base, device)
        (place / stage).mkdir(parents=True, exist_ok=True)
        general: list[str] = []
        if "general" in recipe.mix:
            general = _general_texts(base.eval(), tokenizer, recipe, seed, place)
        torch.manual_seed(seed)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        # Adapters are put into ``base`` itself, which is what is trained and asked.
        peft = get_peft_model(base, config)
        run = Run(
            pair=pair,
            recipe=recipe,
            stage=stage,
            optimisation=recipe.post,
            seed=seed,
            model=base,
            tokenizer=tokenizer,
            draws=draws_of(pair, recipe.mix, general),
            mask_id=_mask_id(pair, tokenizer),
        )
        log = train_stage(run, place / stage, progress=progress)
        save_adapter(peft, _base_name(pair), folder, log)
    return folders


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
