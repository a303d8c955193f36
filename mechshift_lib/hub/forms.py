"""The forms in which masked diffusion models are published, as architectures of transformers.

The weights of Dream, Tiny-A2D and LLaDA are those of Qwen2, Qwen3 and Llama with attention in both
directions, some under other names; DiffuGPT's are those of GPT-2, and DiffuLLaMA is a plain Llama.
So they are read with transformers' own code, which is kept up, instead of the repositories', which
runs unseen and fails with newer versions. That the two compute the same is tested with small models
of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mechshift_lib.errors import ModelError

Config = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """How what was published becomes what transformers reads.

    Attributes:
        renames: pattern -> replacement for the names of weights; the first that fits is taken.
        config: the configuration that transformers reads, of the one that was published.
        tokenizer: the class of transformers for a tokenizer that has code of its own.
    """

    renames: Mapping[str, str]
    config: Callable[[Config], Config]
    tokenizer: str | None = None

    def renamed(self, name: str) -> str:
        """The name of a weight in transformers."""
        for pattern, replacement in self.renames.items():
            new, count = re.subn(pattern, replacement, name)
            if count:
                return new
        return name


def _as(model_type: str, architecture: str) -> Callable[[Config], Config]:
    """The same numbers under another architecture's name."""

    def config(published: Config) -> Config:
        kept = {key: value for key, value in published.items() if key != "auto_map"}
        return kept | {"model_type": model_type, "architectures": [architecture]}

    return config


def _unchanged(published: Config) -> Config:
    return dict(published)


#: LLaDA's names for Llama's numbers.
_LLADA_NUMBERS = {
    "hidden_size": "d_model",
    "intermediate_size": "mlp_hidden_size",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "max_position_embeddings": "max_sequence_length",
    "rms_norm_eps": "rms_norm_eps",
    "rope_theta": "rope_theta",
    "tie_word_embeddings": "weight_tying",
}
#: What LLaDA's code can do and Llama's can't, and what it must be set to.
_LLADA_PLAIN = {
    "block_type": "llama",
    "alibi": False,
    "rope": True,
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "include_bias": False,
    "include_qkv_bias": False,
    "attention_layer_norm": False,
    "clip_qkv": None,
    "scale_logits": False,
    "input_emb_norm": False,
}


def _llada(published: Config) -> Config:
    """LLaDA's configuration as Llama's.

    Raises:
        ModelError: it uses what Llama has not, or lacks a number.
    """
    other = [x for x, plain in _LLADA_PLAIN.items() if published.get(x, plain) != plain]
    lacking = [theirs for theirs in _LLADA_NUMBERS.values() if theirs not in published]
    if other or lacking:
        raise ModelError(
            f"This LLaDA {'sets ' + other[0] if other else 'lacks ' + lacking[0]} in its "
            "config.json, which can't be read as a Llama: use GSAI-ML/LLaDA-8B-Base, or describe "
            "it in mechshift_lib/hub/forms.py."
        )
    numbers: Config = {ours: published[theirs] for ours, theirs in _LLADA_NUMBERS.items()}
    kept: Config = {x: published[x] for x in ("bos_token_id", "eos_token_id") if x in published}
    rows = published.get("embedding_size") or published["vocab_size"]
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "attention_bias": False,
        "vocab_size": rows,
        "pad_token_id": None,
        **kept,
        **numbers,
    }


_BLOCK = r"^model\.transformer\.blocks\.(\d+)\."
#: Names of DiffuGPT's own module around the GPT-2 that it adapts; GPT-2's own fit none of them.
_DIFFUGPT = {
    r"^denoise_model\.": "transformer.",
    r"^embed_tokens\.": "transformer.wte.",
}
_LLADA = {
    _BLOCK + r"([qkv]_proj)\.": r"model.layers.\1.self_attn.\2.",
    _BLOCK + r"attn_out\.": r"model.layers.\1.self_attn.o_proj.",
    _BLOCK + r"ff_proj\.": r"model.layers.\1.mlp.gate_proj.",
    _BLOCK + r"up_proj\.": r"model.layers.\1.mlp.up_proj.",
    _BLOCK + r"ff_out\.": r"model.layers.\1.mlp.down_proj.",
    _BLOCK + r"attn_norm\.": r"model.layers.\1.input_layernorm.",
    _BLOCK + r"ff_norm\.": r"model.layers.\1.post_attention_layernorm.",
    r"^model\.transformer\.wte\.": "model.embed_tokens.",
    r"^model\.transformer\.ln_f\.": "model.norm.",
    r"^model\.transformer\.ff_out\.": "lm_head.",
}

#: ``model_type`` of a published configuration -> its form.
FORMS: dict[str, Form] = {
    "as it is": Form({}, _unchanged),
    "Dream": Form({}, _as("qwen2", "Qwen2ForCausalLM"), "Qwen2Tokenizer"),
    "a2d-qwen2": Form({}, _as("qwen2", "Qwen2ForCausalLM")),
    "a2d-qwen3": Form({}, _as("qwen3", "Qwen3ForCausalLM")),
    "a2d-llama": Form({}, _as("llama", "LlamaForCausalLM")),
    "llada": Form(_LLADA, _llada),
    "gpt2": Form(_DIFFUGPT, _as("gpt2", "GPT2LMHeadModel")),
}


def form_of(config: Config) -> Form:
    """The form of a published configuration; of an architecture without one, as it is."""
    return FORMS.get(str(config.get("model_type")), FORMS["as it is"])
