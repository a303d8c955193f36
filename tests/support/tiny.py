"""Tiny random models and items, built in code."""

from __future__ import annotations

import random

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mechshift_lib.models.readout import Item

VOCABULARY = 40
ARCHITECTURES = ("llama", "qwen2", "gpt2")


def tiny_hf(architecture: str = "qwen2", *, seed: int = 0, layers: int = 2) -> PreTrainedModel:
    """A random model: width 32, 4 heads, Llama and Qwen2 with 2 key/value heads.

    Weights are large enough for attention patterns and norms to matter; biases and gains are
    random too.
    """
    torch.manual_seed(seed)
    if architecture == "gpt2":
        config = GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=32,
            n_embd=32,
            n_layer=layers,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.15,
        )
        model: PreTrainedModel = GPT2LMHeadModel(config)
    else:
        kind, build = {
            "llama": (LlamaConfig, LlamaForCausalLM),
            "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        }[architecture]
        config = kind(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            initializer_range=0.15,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif parameter.ndim == 1:
                parameter.normal_(1, 0.2)
    return model.eval()


def tiny_items(n: int, *, length: int = 8, seed: int = 0, reads: int = 1) -> list[Item]:
    """Random items whose corrupted input differs at positions 2 and 4."""
    draw = random.Random(seed)
    items = []
    for index in range(n):
        clean = [draw.randrange(VOCABULARY) for _ in range(length)]
        corrupted = list(clean)
        for position in (2, 4):
            corrupted[position] = (
                clean[position] + 1 + draw.randrange(VOCABULARY - 1)
            ) % VOCABULARY
        tokens = draw.sample(range(VOCABULARY), 2 * reads)
        items.append(
            Item(
                example=index,
                step=0,
                clean=tuple(clean),
                corrupted=tuple(corrupted),
                reads=tuple(range(length - reads, length)),
                answers=tuple((t,) for t in tokens[:reads]),
                distractors=tuple((t,) for t in tokens[reads:]),
            )
        )
    return items
