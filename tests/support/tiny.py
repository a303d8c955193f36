"""Tiny random models and items, built in code."""

from __future__ import annotations

import random

import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mechshift_lib.models.readout import Item
from tests.support.dream import DreamConfig, DreamModel
from tests.support.llada import LLaDAConfig, LLaDAModelLM

VOCABULARY = 40

#: One of each layout, for tests of many other cases.
ARCHITECTURES = ("llama", "qwen2", "gpt2")

#: Attend as they are told to.
EITHER_WAY = (*ARCHITECTURES, "qwen3", "pythia", "pythia-sequential")

#: One of each habit that the others don't have, in one attention: each test of :data:`CASES`
#: takes its time.
ONE_WAY = {"mistral": "full", "phi3": "causal", "gemma": "full", "olmo": "causal"}

#: Attend in both directions by their code.
FULL_ONLY = ("dream", "llada")

#: Have fewer key/value heads than query heads.
GROUPED = ("llama", "qwen2", "qwen3", *ONE_WAY, "dream", "llada")

#: Every architecture, in every attention that it can have but for :data:`ONE_WAY`.
CASES = (
    *((a, attention) for a in EITHER_WAY for attention in ("causal", "full")),
    *ONE_WAY.items(),
    *((a, "full") for a in FULL_ONLY),
)

LLAMA_LIKE = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "olmo": (OlmoConfig, OlmoForCausalLM),
}


def tiny_hf(architecture: str = "qwen2", *, seed: int = 0, layers: int = 2) -> PreTrainedModel:
    """A random model: width 32, 4 heads, those of :data:`GROUPED` with 2 key/value heads.

    Heads are 8 wide but for Qwen3's, which are 12. Weights are large enough for attention patterns
    and norms to matter; biases and gains are random too.
    """
    torch.manual_seed(seed)
    model = _build(architecture, layers)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif parameter.ndim == 1:
                parameter.normal_(1, 0.2)
    return model.eval()


def _build(architecture: str, layers: int) -> PreTrainedModel:
    common = {"vocab_size": VOCABULARY, "initializer_range": 0.15}
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    if architecture == "gpt2":
        gpt2 = {"n_positions": 32, "n_embd": 32, "n_layer": layers, "n_head": 4}
        return GPT2LMHeadModel(GPT2Config(**common, **tokens, **gpt2))
    if architecture == "llada":
        return LLaDAModelLM(LLaDAConfig(**common, n_layers=layers))
    if architecture == "dream":
        return DreamModel(DreamConfig(**common, num_hidden_layers=layers))
    common |= tokens | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
    }
    if architecture.startswith("pythia"):
        parallel = architecture == "pythia"
        neox = {"use_parallel_residual": parallel, "rotary_pct": 0.5}
        return GPTNeoXForCausalLM(GPTNeoXConfig(**common, **neox))
    kind, build = LLAMA_LIKE[architecture]
    own = {
        "qwen3": {"head_dim": 12},
        "gemma": {"head_dim": 8, "tie_word_embeddings": False},
        "phi3": {"pad_token_id": 1},
    }.get(architecture, {})
    return build(kind(**common, num_key_value_heads=2, **own))


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
