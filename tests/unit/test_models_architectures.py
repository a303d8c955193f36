"""Every architecture: what loading proves about it, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    MixtralConfig,
    Olmo2Config,
    Olmo3Config,
    OPTConfig,
    PhiConfig,
)

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import ConfigNames, at, projections
from mechshift_lib.models.architectures import (
    ANATOMIES,
    GEMMA,
    GPT2,
    GPT_NEOX,
    LLAMA,
    QWEN2,
    UNDESCRIBED,
    register,
)
from mechshift_lib.models.loading import load_folder, wrap_model
from mechshift_lib.models.shape import shape_of
from tests.support.dream import DreamAttention, DreamConfig, DreamModel
from tests.support.literal import embedding, run
from tests.support.llada import LLaDAConfig, LLaDAModelLM
from tests.support.tiny import CASES, FULL_ONLY, GROUPED, VOCABULARY, tiny_hf

ALL = tuple(dict.fromkeys(architecture for architecture, _ in CASES))


def tokens(rows=2, length=6):
    return torch.arange(rows * length).reshape(rows, length)


@pytest.mark.parametrize(("architecture", "attention"), CASES)
@pytest.mark.parametrize("kv", ["ungrouped", "grouped"])
def test_logits_are_those_of_the_literal_transformer(architecture, attention, kv):
    model = wrap_model(tiny_hf(architecture), attention=attention, kv=kv)
    expected, _ = run(model.hf, embedding(model.hf, tokens()), causal=attention == "causal")
    torch.testing.assert_close(model.logits(tokens()), expected, atol=1e-5, rtol=1e-4)
    other, _ = run(model.hf, embedding(model.hf, tokens()), causal=attention != "causal")
    assert (other - expected).abs().max() > 1e-2


@pytest.mark.parametrize("architecture", GROUPED)
def test_ungrouping_leaves_the_logits_as_they_are(architecture):
    grouped = wrap_model(tiny_hf(architecture), attention="full", kv="grouped")
    single = wrap_model(tiny_hf(architecture), attention="full")
    torch.testing.assert_close(single.logits(tokens()), grouped.logits(tokens()))
    assert (grouped.n_kv_heads, single.n_kv_heads) == (2, 2)
    assert (grouped.shape.n_kv_heads, single.shape.n_kv_heads) == (2, 4)
    wide = [at(single.anatomy.layer(single.hf, 1), path) for path in projections(single.anatomy)]
    assert sum(x.out_features for x in wide) == 3 * single.n_heads * single.d_head


@pytest.mark.parametrize("architecture", ALL)
def test_numbers_of_every_configuration(architecture):
    model = wrap_model(tiny_hf(architecture, layers=3), attention="full")
    width = 12 if architecture == "qwen3" else 8
    assert (model.n_layers, model.n_heads, model.d_model, model.d_head) == (3, 4, 32, width)
    assert model.d_mlp == (128 if architecture == "gpt2" else 48)
    assert (model.max_positions, model.vocab_size) == (32, VOCABULARY)


def test_a_number_that_the_configuration_lacks_is_named():
    with pytest.raises(ModelError, match=r"no number 'num_attention_heads'.*architectures\.py"):
        shape_of(LLaDAConfig(), replace(LLAMA, model_type="llada"))


@pytest.mark.parametrize("architecture", FULL_ONLY)
def test_attention_that_is_full_by_its_code_cannot_be_declared_causal(architecture):
    with pytest.raises(ModelError, match="the first token sees the last: declare 'full'"):
        wrap_model(tiny_hf(architecture), attention="causal")


def test_a_port_that_became_causal_is_refused_where_full_attention_is_declared(monkeypatch):
    """What happened to Dream when a hook of its code was removed from transformers."""
    monkeypatch.setattr(DreamAttention, "causal", True)
    with pytest.raises(ModelError, match="the first token doesn't see the last"):
        wrap_model(tiny_hf("dream"), attention="full")
    assert wrap_model(tiny_hf("dream"), attention="causal").attention == "causal"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_padding_on_either_side_leaks_nothing(architecture, attention, side):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    kept = torch.ones(2, 8, dtype=torch.long)
    inside = slice(0, 6) if side == "right" else slice(2, 8)
    kept[:, 6:] = 0
    kept = kept if side == "right" else kept.flip(1)
    padded = []
    for fill in (1, 30):
        ids = torch.full((2, 8), fill)
        ids[:, inside] = tokens()
        padded.append(ids)
    if model.anatomy.padding == "none":
        with pytest.raises(ModelError, match="ignores padding masks: give inputs of one length"):
            model.logits(padded[0], attention_mask=kept)
        whole = torch.ones(2, 6, dtype=torch.long)
        assert torch.equal(model.logits(tokens(), attention_mask=whole), model.logits(tokens()))
        return
    first, second = (model.logits(ids, attention_mask=kept)[:, inside] for ids in padded)
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    torch.testing.assert_close(first, model.logits(tokens()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ALL)
def test_a_layer_can_be_skipped_with_what_it_would_return(architecture):
    model = wrap_model(tiny_hf(architecture, layers=3), attention="full")
    anatomy, lm = model.anatomy, model.lm
    arguments = model.arguments(tokens())
    with torch.no_grad(), lm.trace(**arguments):
        stream = at(anatomy.layer(lm, 2), anatomy.attn_norm).input.save()
    with torch.no_grad(), lm.trace(**arguments):
        anatomy.layer(lm, 0).skip(anatomy.returned(stream * 0))
        anatomy.layer(lm, 1).skip(anatomy.returned(stream))
        logits = lm.output.logits.save()
    torch.testing.assert_close(logits, model.logits(tokens()), atol=1e-6, rtol=1e-5)


def test_a_tied_unembedding_gets_a_module_that_shares_its_weights():
    torch.manual_seed(0)
    model = wrap_model(LLaDAModelLM(LLaDAConfig(weight_tying=True)), attention="full")
    unembed = at(model.hf, model.anatomy.unembed)
    assert unembed.weight is model.hf.get_input_embeddings().weight
    expected, _ = run(model.hf, embedding(model.hf, tokens()), causal=False)
    torch.testing.assert_close(model.logits(tokens()), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_of_half_precision_is_no_misfit(architecture, dtype):
    assert wrap_model(tiny_hf(architecture).to(dtype), attention="full").hf.dtype == dtype


NEVER_PARALLEL = {"config": ConfigNames()}


@pytest.mark.parametrize(
    ("architecture", "anatomy", "changes", "message"),
    [
        ("gpt2", GPT2, {"embed": "transformer.wte"}, "input of ln_1 in layer 0 isn't the sum"),
        ("gpt2", GPT2, {"norm": "rms"}, "output of ln_1 in layer 0 isn't that of an RMSNorm"),
        ("gpt2", GPT2, {"fused_layout": "interleaved"}, "isn't each head's v"),
        ("gpt2", GPT2, {"final_norm": "transformer.h.1.ln_2"}, "in their order"),
        ("llama", LLAMA, {"norm": "layer"}, "layer 0 isn't that of a LayerNorm"),
        ("llama", LLAMA, {"v": LLAMA.k, "k": LLAMA.v}, "in their order"),
        ("llama", LLAMA, {"mlp_out": "mlp.gate_proj"}, r"mlp\.gate_proj has shape \(48, 32\)"),
        ("llama", LLAMA, {"mlp_out": LLAMA.o}, "in their order"),
        ("llama", LLAMA, {"mlp_norm": LLAMA.attn_norm}, "in their order"),
        ("llama", LLAMA, {"unembed": "score"}, "has no attribute 'score'"),
        ("llama", LLAMA, {"o": "mlp.down_proj"}, r"mlp\.down_proj has shape \(32, 48\)"),
        ("qwen2", QWEN2, {"attn": "attention"}, "has no attribute 'attention'"),
        ("pythia", GPT_NEOX, {"fused_layout": "concatenated"}, "isn't each head's v"),
        ("pythia", GPT_NEOX, NEVER_PARALLEL, "post_attention_layernorm in layer 0 isn't the sum"),
        (
            "pythia-sequential",
            GPT_NEOX,
            {**NEVER_PARALLEL, "parallel": True},
            "post_attention_layernorm in layer 0 isn't the sum",
        ),
    ],
)
def test_an_anatomy_that_is_wrong_is_refused_in_one_sentence(
    monkeypatch, architecture, anatomy, changes, message
):
    monkeypatch.setitem(ANATOMIES, anatomy.model_type, replace(anatomy, **changes))
    with pytest.raises(ModelError, match=message) as caught:
        wrap_model(tiny_hf(architecture))
    assert "architectures.py" in str(caught.value)
    assert "\n" not in str(caught.value)


SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.15,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


UNGROUPED = {**SMALL, "num_key_value_heads": None}

OPT = replace(
    LLAMA,
    model_type="opt",
    embed="model.decoder.embed_tokens",
    layers="model.decoder.layers",
    attn_norm="self_attn_layer_norm",
    o="self_attn.out_proj",
    mlp_norm="final_layer_norm",
    mlp="fc2",
    mlp_out="fc2",
    final_norm="model.decoder.final_layer_norm",
    norm="layer",
)
PHI = replace(
    LLAMA,
    model_type="phi",
    o="self_attn.dense",
    mlp_norm="input_layernorm",
    mlp_out="mlp.fc2",
    final_norm="model.final_layernorm",
    norm="layer",
    parallel=True,
)


BETWEEN = replace(GEMMA, mlp_norm="pre_feedforward_layernorm")


@pytest.mark.parametrize(
    ("anatomy", "config", "message"),
    [
        (LLAMA, GraniteConfig(**SMALL, residual_multiplier=0.5), "isn't the sum"),
        (LLAMA, GraniteConfig(**SMALL, embedding_multiplier=2.0), "isn't the sum"),
        (LLAMA, GraniteConfig(**SMALL, logits_scaling=3.0), "aren't the unembedding"),
        (
            BETWEEN,
            Gemma2Config(**SMALL, head_dim=8),
            "input of pre_feedforward_layernorm in layer 0",
        ),
        (BETWEEN, Gemma3TextConfig(**SMALL, head_dim=8), "input of pre_feedforward_layernorm in"),
        (LLAMA, Olmo2Config(**SMALL), "no attribute 'input_layernorm'"),
        (LLAMA, Olmo3Config(**SMALL), "no attribute 'input_layernorm'"),
        (LLAMA, MixtralConfig(**SMALL, num_local_experts=2), "no attribute 'down_proj'"),
        (OPT, OPTConfig(**UNGROUPED, ffn_dim=48, word_embed_proj_dim=32), "isn't the sum"),
        (PHI, PhiConfig(**SMALL), "in their order"),
    ],
)
def test_architectures_that_cannot_be_described_are_refused(monkeypatch, anatomy, config, message):
    """Scaled streams or logits, norms behind, positions without a module, shared norms, experts.

    What is said without an anatomy, and what comes out where one is tried all the same.
    """
    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match=f"Architecture '{config.model_type}' can't be") as caught:
        wrap_model(hf)
    assert UNDESCRIBED[config.model_type] in str(caught.value)
    assert len(str(caught.value)) <= 400
    anatomy = replace(anatomy, model_type=config.model_type)
    monkeypatch.setitem(ANATOMIES, anatomy.model_type, anatomy)
    with pytest.raises(ModelError, match=message) as caught:
        wrap_model(hf)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", UNDESCRIBED)
def test_every_family_that_cannot_be_described_is_one(kind):
    assert kind in CONFIG_MAPPING
    assert kind not in ANATOMIES


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("gemma", {"gain": "weight"}, "isn't that of an RMSNorm with its gain"),
        ("gemma", {"gain": "none"}, "not a norm with no gain"),
        ("llama", {"gain": "one-plus"}, "isn't that of an RMSNorm with one plus its gain"),
        ("olmo", {"gain": "weight"}, "not a norm with a gain"),
        ("olmo", {"epsilon": None}, "not a norm with no gain"),
        ("olmo", {"epsilon": 1.0}, "isn't that of a LayerNorm alone"),
        (
            "phi3",
            {"fused_layout": "interleaved"},
            "each of its 4 query heads, but this model has 2",
        ),
    ],
)
def test_what_a_family_does_otherwise_is_proven(monkeypatch, architecture, changes, message):
    hf = tiny_hf(architecture)
    anatomy = replace(ANATOMIES[hf.config.model_type], **changes)
    monkeypatch.setitem(ANATOMIES, anatomy.model_type, anatomy)
    with pytest.raises(ModelError, match=message):
        wrap_model(hf, kv="grouped")


def test_numbers_that_a_model_must_leave_unset():
    hf = tiny_hf("olmo")
    assert wrap_model(hf).n_layers == 2
    hf.config.clip_qkv = 8.0
    with pytest.raises(ModelError, match="This olmo model sets 'clip_qkv'"):
        wrap_model(hf)


def test_weights_that_are_nan_are_said():
    hf = tiny_hf()
    with torch.no_grad():
        hf.model.norm.weight[0] = torch.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        wrap_model(hf)


def test_registering(monkeypatch):
    monkeypatch.setattr("mechshift_lib.models.architectures.ANATOMIES", dict(ANATOMIES))
    register(LLAMA)
    with pytest.raises(ModelError, match="'llama' is known already"):
        register(replace(LLAMA, embed="model.embed"))


def test_pythia_loads_with_the_unembedding_as_it_is_published(tmp_path):
    hf = tiny_hf("pythia")
    hf.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    published = {name.replace("lm_head", "embed_out"): value for name, value in weights.items()}
    assert "embed_out.weight" in published
    save_file(published, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load_folder(tmp_path)
    torch.testing.assert_close(model.logits(tokens()), hf(tokens()).logits.detach())
    assert model.anatomy.parallel


def test_a_model_that_only_automodel_knows_loads_from_a_folder(tmp_path):
    AutoConfig.register("Dream", DreamConfig, exist_ok=True)
    AutoModel.register(DreamConfig, DreamModel, exist_ok=True)
    hf = tiny_hf("dream")
    hf.save_pretrained(tmp_path)
    model = load_folder(tmp_path, attention="full")
    torch.testing.assert_close(model.logits(tokens()), hf(tokens()).logits.detach())
