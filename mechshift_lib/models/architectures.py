"""The architectures that are known: the only place with module names.

To add one, write one :class:`~mechshift_lib.models.anatomy.Anatomy` and list it in
:data:`ANATOMIES` (or :func:`register` it from outside). Loading then checks it against the model
(:func:`mechshift_lib.models.checks.check_anatomy`), and nothing else needs a change.
"""

from __future__ import annotations

from dataclasses import replace

from transformers import PretrainedConfig

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import Anatomy, ConfigNames

LLAMA = Anatomy(
    model_type="llama",
    embed="model.embed_tokens",
    layers="model.layers",
    attn="self_attn",
    attn_norm="input_layernorm",
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    o="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    mlp="mlp",
    mlp_out="mlp.down_proj",
    final_norm="model.norm",
    unembed="lm_head",
    norm="rms",
    rotary="model.rotary_emb",
)

#: Llama's names; the biases of q, k and v make no difference to where things are.
QWEN2 = replace(LLAMA, model_type="qwen2")

#: Llama's names; the norms of each head's q and k come after the projections, so readers and
#: their gradients are as in Llama.
QWEN3 = replace(LLAMA, model_type="qwen3")

#: Qwen2's names. Its own code attends in both directions whatever the configuration says, takes
#: a mask as scaled dot-product attention does, and returns a tuple from each layer.
DREAM = replace(LLAMA, model_type="Dream", layer_returns=1, padding="4d", rotary="")

#: Llama's names; layers may see through a sliding window.
MISTRAL = replace(LLAMA, model_type="mistral")

#: Llama's names but for one projection for query, key and value, grouped.
PHI3 = replace(LLAMA, model_type="phi3", q="", k="", v="", fused="self_attn.qkv_proj")

#: Llama's names; embeddings are scaled within their module, and norms add one to their weight.
GEMMA = replace(LLAMA, model_type="gemma", gain="one-plus")

#: Llama's names; LayerNorms without a gain, whose epsilon stands in their code.
OLMO = replace(
    LLAMA, model_type="olmo", norm="layer", gain="none", epsilon=1e-5, unset=("clip_qkv",)
)

GPT2 = Anatomy(
    model_type="gpt2",
    embed="transformer.drop",  # token plus position embeddings
    layers="transformer.h",
    attn="attn",
    attn_norm="ln_1",
    fused="attn.c_attn",
    o="attn.c_proj",
    mlp_norm="ln_2",
    mlp="mlp",
    mlp_out="mlp.c_proj",
    final_norm="transformer.ln_f",
    unembed="lm_head",
    norm="layer",
)

#: GPT-NeoX and Pythia: parallel or not, as the configuration says.
GPT_NEOX = Anatomy(
    model_type="gpt_neox",
    embed="gpt_neox.emb_dropout",
    layers="gpt_neox.layers",
    attn="attention",
    attn_norm="input_layernorm",
    fused="attention.query_key_value",
    fused_layout="interleaved",
    o="attention.dense",
    mlp_norm="post_attention_layernorm",
    mlp="mlp",
    mlp_out="mlp.dense_4h_to_h",
    final_norm="gpt_neox.final_layer_norm",
    unembed="lm_head",
    norm="layer",
    rotary="gpt_neox.rotary_emb",
    config=ConfigNames(parallel="use_parallel_residual"),
)

#: LLaDA: a layer holds attention and MLP without modules of their own, attends in both
#: directions, and ignores masks. Where the unembedding is tied to the embedding, loading gives
#: it a module (:func:`mechshift_lib.models.checks.untie_unembedding`).
LLADA = Anatomy(
    model_type="llada",
    embed="model.transformer.emb_drop",
    layers="model.transformer.blocks",
    attn_norm="attn_norm",
    q="q_proj",
    k="k_proj",
    v="v_proj",
    o="attn_out",
    mlp_norm="ff_norm",
    mlp="ff_out",
    mlp_out="ff_out",
    final_norm="model.transformer.ln_f",
    unembed="model.transformer.ff_out",
    norm="rms",
    layer_returns=2,
    padding="none",
    config=ConfigNames(
        n_layers="n_layers",
        n_heads="n_heads",
        n_kv_heads="n_kv_heads",
        d_model="d_model",
        max_positions="max_sequence_length",
        tied="weight_tying",
    ),
)

ANATOMIES: dict[str, Anatomy] = {
    a.model_type: a
    for a in (
        LLAMA,
        QWEN2,
        QWEN3,
        MISTRAL,
        PHI3,
        GEMMA,
        OLMO,
        DREAM,
        GPT2,
        GPT_NEOX,
        LLADA,
    )
}

_BEHIND = (
    "puts a norm behind attention and MLP, so that what a head adds to the residual stream depends "
    "on the other heads"
)
_SCALED = "multiplies what is added to the residual stream by a constant"
_ONE_NORM = "has one norm for attention and MLP together"
_EXPERTS = "has mixtures of experts, so that a layer has no one MLP"

#: Families that no anatomy describes, and why.
UNDESCRIBED: dict[str, str] = {
    "gemma2": _BEHIND,
    "gemma3_text": _BEHIND,
    "olmo2": _BEHIND,
    "olmo3": _BEHIND,
    "granite": _SCALED,
    "phi": _ONE_NORM,
    "gptj": _ONE_NORM,
    "opt": "adds positions to its embeddings outside of any module",
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "olmoe": _EXPERTS,
}


def register(anatomy: Anatomy) -> None:
    """Make an architecture known to loading.

    Raises:
        ModelError: another anatomy is known by this ``model_type``.
    """
    if ANATOMIES.setdefault(anatomy.model_type, anatomy) != anatomy:
        raise ModelError(
            f"Architecture {anatomy.model_type!r} is known already: correct it in "
            "mechshift_lib/models/architectures.py."
        )


def anatomy_of(config: PretrainedConfig) -> Anatomy:
    """The anatomy of a model by its configuration.

    Raises:
        ModelError: the architecture is unknown, or this model has what can't be described.
    """
    kind = getattr(config, "model_type", None) or type(config).__name__
    known = ", ".join(sorted(ANATOMIES, key=str.lower))
    if kind not in ANATOMIES and kind in UNDESCRIBED:
        raise ModelError(
            f"Architecture {kind!r} can't be described: it {UNDESCRIBED[kind]}. Use one of {known}."
        )
    if kind not in ANATOMIES:
        raise ModelError(
            f"Architecture {kind!r} is unknown: use one of {known}, or describe it in "
            "mechshift_lib/models/architectures.py."
        )
    anatomy = ANATOMIES[kind]
    for name in anatomy.unset:
        if getattr(config, name, None):
            raise ModelError(
                f"This {kind} model sets {name!r}, which the library can't describe: use a model "
                f"of the family without it, or one of {known}."
            )
    if not anatomy.config.parallel:
        return anatomy
    return replace(anatomy, parallel=bool(getattr(config, anatomy.config.parallel)))
