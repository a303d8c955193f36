"""Small random models saved as masked diffusion models are published: names, classes and quirks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.dream import DreamConfig, DreamModel
from tests.support.llada import LLaDAConfig, LLaDAModelLM

#: Numbers of all of them, by the names of a pair's file.
SIZE = {"layers": 2, "heads": 4, "kv_heads": 2, "width": 32, "head_width": 8, "hidden": 48}
_LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.15,
}


def tokenizer_with(mask: str) -> PreTrainedTokenizerFast:
    """The word tokenizer with a mask token of another name, behind its own tokens."""
    tokenizer = build_word_tokenizer()
    tokenizer.add_special_tokens({"mask_token": mask})
    return tokenizer


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | changes))


def _bidirectional(model: PreTrainedModel) -> PreTrainedModel:
    model.config.is_causal = False
    return model


def save_arm(folder: Path, kind: str) -> PreTrainedModel:
    """An ARM of the family that an MDM is made from, saved as it is published."""
    torch.manual_seed(1)
    tokenizer = build_word_tokenizer()
    n = len(tokenizer)
    model: PreTrainedModel
    if kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=n, n_positions=64, n_embd=32, n_layer=2, n_head=4, n_inner=48)
        )
    elif kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=n, head_dim=8, **_LLAMA))
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(vocab_size=n, **_LLAMA))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=n, **_LLAMA))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def save_dream(folder: Path) -> PreTrainedModel:
    """Dream: a class, a tokenizer and a configuration of its own, found through ``auto_map``."""
    torch.manual_seed(0)
    tokenizer = tokenizer_with("<|mask|>")
    numbers = _LLAMA | {"rope_theta": 1e6}
    model = DreamModel(DreamConfig(vocab_size=len(tokenizer), **numbers)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    code = {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.X"}
    edit(folder / "config.json", auto_map=code, mask_token_id=len(tokenizer) - 1)
    (folder / "modeling_dream.py").write_text("raise RuntimeError('this code must not run')\n")
    return model


def save_llada(folder: Path) -> PreTrainedModel:
    """LLaDA: names of its own for weights and numbers."""
    torch.manual_seed(0)
    tokenizer = tokenizer_with("<|mdm_mask|>")
    model = LLaDAModelLM(
        LLaDAConfig(
            vocab_size=len(tokenizer),
            n_kv_heads=4,
            mlp_hidden_size=48,
            max_sequence_length=64,
            rope_theta=5e5,
        )
    ).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    code = {"AutoModelForCausalLM": "modeling_llada.LLaDAModelLM"}
    edit(folder / "config.json", auto_map=code, block_type="llama", embedding_size=None)
    return model


def save_a2d(folder: Path, kind: str) -> PreTrainedModel:
    """Tiny-A2D: a Qwen2 or Qwen3 under a type of its own, with its code beside it."""
    torch.manual_seed(0)
    tokenizer = tokenizer_with("<|mask|>")
    model: PreTrainedModel
    if kind == "qwen3":
        config = Qwen3Config(vocab_size=len(tokenizer), head_dim=8, **_LLAMA)
        model = Qwen3ForCausalLM(config).eval()
    else:
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **_LLAMA)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    edit(
        folder / "config.json",
        model_type=f"a2d-{kind}",
        architectures=[f"A2D{kind.capitalize()}LMHeadModel"],
        auto_map={"AutoModelForMaskedLM": "modeling.A2D"},
    )
    (folder / "modeling.py").write_text("raise RuntimeError('this code must not run')\n")
    return _bidirectional(model)


def save_diffugpt(folder: Path, *, extra: int = 0) -> PreTrainedModel:
    """DiffuGPT: a GPT-2 within a module of its own, its causal masks saved among the weights.

    Args:
        extra: rows of the embedding behind the tokenizer's tokens, of which the first is the mask;
            config.json doesn't count them.
    """
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer()
    n = len(tokenizer)
    config = GPT2Config(
        vocab_size=n + extra, n_positions=64, n_embd=32, n_layer=2, n_head=4, n_inner=48
    )
    model = GPT2LMHeadModel(config).eval()
    tensors = {"embed_tokens.weight": model.transformer.wte.weight.detach().clone()}
    for name, value in model.transformer.state_dict().items():
        if not name.startswith("wte."):
            tensors[f"denoise_model.{name}"] = value.clone()
    for layer in range(2):
        tensors[f"denoise_model.h.{layer}.attn.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    model.config.save_pretrained(folder)
    edit(folder / "config.json", vocab_size=n, architectures=["DiscreteDiffusionModel"])
    tokenizer.save_pretrained(folder)
    return _bidirectional(model)


def save_diffullama(folder: Path) -> PreTrainedModel:
    """DiffuLLaMA: a plain Llama whose mask is a token of its vocabulary, known by its id."""
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer()
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **_LLAMA)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return _bidirectional(model)
