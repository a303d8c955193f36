"""A pair of tiny random models in a folder of its own, for analyses and notebooks."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

from mechshift_lib.tasks.tokenizer import build_word_tokenizer

TASKS = ("ioi", "greater-than", "countdown", "infilling")


def make_pair(
    root: Path,
    *,
    tasks: tuple[str, ...] = TASKS,
    seeds: tuple[int, ...] = (0, 1),
    layers: int = 2,
    width: int = 32,
    heads: int = 2,
    budget: dict[str, int] | None = None,
) -> str:
    """Write the pair ``toy`` below ``root``: pair file and random checkpoints. Returns its name.

    The MDM is the ARM with noise on its weights and ``continued`` is the ARM with less noise.
    """
    tokenizer = build_word_tokenizer()
    for seed in seeds:
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads // 2,
            max_position_embeddings=64,
            initializer_range=0.15,
            tie_word_embeddings=True,
        )
        model = Qwen2ForCausalLM(config)
        for role, noise in (("arm", 0.0), ("continued", 0.01), ("mdm", 0.03)):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += noise * torch.randn_like(parameter)
            folder = root / "data" / "models" / "toy" / f"seed{seed}" / role
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    source = {"kind": "folder", "path": "data/models/toy/seed{seed}/"}
    roles = {
        role: {"source": {**source, "path": source["path"] + role}}
        | (
            {"attention": "full", "readout": "shifted-mask", "mask_token": "[MASK]"}
            if role == "mdm"
            else {"attention": "causal", "readout": "next-token"}
        )
        for role in ("arm", "mdm", "continued")
    }
    small = {"behaviour_examples": 12, "circuit_examples": 6, "ig_steps": 2, "bootstrap": 20}
    small |= {"patching_examples": 3, "faithfulness_examples": 4, "trust_examples": 2}
    small |= {"ablation_examples": 3, "ablation_draws": 4, "planning_examples": 3}
    small |= {"neuron_texts": 6, "lens_examples": 4, "lens_steps": 3}
    small |= {"lens_examples": 4, "lens_steps": 3, "dictionary_steps": 12}
    small |= {"dictionary_examples": 3}
    pair = {
        "name": "toy",
        "title": "Toy",
        "description": "Random models.",
        "tasks": list(tasks),
        "seeds": list(seeds),
        **roles,
        "budgets": {"book": {**small, "batch_size": 6, **(budget or {})}},
    }
    path = root / "data" / "pairs" / "toy.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(pair), encoding="utf-8")
    return "toy"
