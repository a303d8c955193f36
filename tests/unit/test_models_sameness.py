"""What loading transforms computes what its source does, and is refused where it doesn't."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from mechshift_lib.config import FolderSource, ModelSpec
from mechshift_lib.errors import ModelError
from mechshift_lib.models import adapters, checks, gguf, grouping
from mechshift_lib.models.loading import load_model, wrap_model
from mechshift_lib.models.sameness import UNGROUPING, check_same, unchanged
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.llada import LLaDAConfig, LLaDAModelLM
from tests.support.tiny import CASES, GROUPED, tiny_hf

IDS = torch.arange(12).reshape(2, 6)


def saved_adapter(base, folder, **options):
    """Save a model and an adapter of it whose parameters are random; the two as they are."""
    base.save_pretrained(folder / "base")
    options = {"r": 2, "lora_alpha": 4, "task_type": "CAUSAL_LM", **options}
    adapted = get_peft_model(base, LoraConfig(**options)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if any(part in name for part in ("lora_", "modules_to_save", "trainable_tokens")):
                parameter.add_(0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(folder / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(folder / "base")
    return PeftModel.from_pretrained(plain, str(folder / "adapter")).eval()


def spec_of(folder, **changes):
    return ModelSpec(
        **{
            "source": FolderSource(kind="folder", path=str(folder / "base")),
            "adapter": str(folder / "adapter"),
            "attention": "causal",
            "readout": "next-token",
            **changes,
        }
    )


def tied_hf():
    hf = tiny_hf()
    hf.config.tie_word_embeddings = True
    hf.tie_weights()
    assert hf.lm_head.weight is hf.model.embed_tokens.weight
    return hf


ADAPTERS = {
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "both": {"target_modules": ["embed_tokens", "lm_head"]},
    "weight-decomposed": {"target_modules": ["q_proj", "down_proj"], "use_dora": True},
    "saved whole": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    "single tokens": {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"embed_tokens": [1, 3]},
    },
}


@pytest.mark.parametrize("make", [tiny_hf, tied_hf])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_merged_adapter_computes_what_base_and_adapter_do(tmp_path, make, kind):
    adapted = saved_adapter(make(), tmp_path, **ADAPTERS[kind])
    expected = adapted(IDS).logits.detach()
    model = load_model(spec_of(tmp_path))
    torch.testing.assert_close(model.logits(IDS), expected, atol=1e-4, rtol=1e-4)
    with adapted.disable_adapter():
        assert (adapted(IDS).logits - expected).abs().max() > 0.05


def test_a_product_that_is_merged_into_embedding_and_head_is_refused(tmp_path, monkeypatch):
    """What peft does where the two share their weights and nobody parts them."""
    saved_adapter(tied_hf(), tmp_path, **ADAPTERS["head"])
    monkeypatch.setattr(adapters, "_part", lambda model: None)
    with pytest.raises(ModelError, match="Merging the adapter into the weights changed what"):
        load_model(spec_of(tmp_path))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_of_a_merged_adapter_is_no_fault(tmp_path, dtype):
    saved_adapter(tiny_hf(layers=6), tmp_path, target_modules="all-linear")
    assert load_model(spec_of(tmp_path, dtype=dtype)).n_layers == 6


def test_an_adapter_with_a_token_of_its_own(tmp_path):
    tokenizer = build_word_tokenizer()
    base = tiny_hf()
    base.resize_token_embeddings(len(tokenizer))
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<hole>"]})
    base.resize_token_embeddings(len(tokenizer))
    saved = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    adapted = get_peft_model(base, LoraConfig(r=2, **saved)).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    asked = {"attention": "full", "readout": "shifted-mask", "mask_token": "<hole>"}
    model = load_model(spec_of(tmp_path, **asked))
    assert (model.mask_id, model.vocab_size) == (len(tokenizer) - 1, len(tokenizer))
    ids = torch.tensor([[1, 2, model.mask_id]])
    expected = adapted(ids, is_causal=False).logits.detach()
    torch.testing.assert_close(model.logits(ids), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", GROUPED)
def test_heads_that_are_ungrouped_in_another_order_are_refused(monkeypatch, architecture):
    def shuffled(linear, shape, anatomy):
        wide = repeated(linear, shape, anatomy)
        last = wide.weight[-2 * shape.d_head :]
        wide.weight = nn.Parameter(torch.cat([wide.weight[: -len(last)], last.flip(0)]), False)
        return wide

    repeated = grouping._repeated
    monkeypatch.setattr(grouping, "_repeated", shuffled)
    attention = dict(CASES)[architecture]
    with pytest.raises(ModelError, match="Giving every query head its own key and value") as caught:
        wrap_model(tiny_hf(architecture), attention=attention)
    assert "kv 'grouped'" in str(caught.value)
    assert wrap_model(tiny_hf(architecture), attention=attention, kv="grouped").n_heads == 4


def test_an_unembedding_that_is_not_the_tied_embedding_is_refused(monkeypatch):
    class Other(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    hf = LLaDAModelLM(LLaDAConfig(weight_tying=True)).eval()
    monkeypatch.setattr(checks.nn, "Linear", Other)
    with pytest.raises(ModelError, match="Giving the tied unembedding a module of its own"):
        wrap_model(hf, attention="full")


class ReadByFile:
    """What transformers reads from a GGUF file, without one."""

    @staticmethod
    def from_pretrained(path, gguf_file=None, **options):
        if gguf_file is None:
            return AutoModelForCausalLM.from_pretrained(path, **options)
        return tiny_hf()

    from_config = AutoModelForCausalLM.from_config


@pytest.mark.parametrize("damaged", [False, True])
def test_dequantised_weights_are_those_of_the_file(tmp_path, monkeypatch, damaged):
    class Config(AutoConfig):
        @staticmethod
        def from_pretrained(path, gguf_file):
            config = tiny_hf().config
            config.rope_parameters = {
                **config.rope_parameters,
                "rope_theta": 3.0 if damaged else 1e4,
            }
            return config

    class Words(AutoTokenizer):
        @staticmethod
        def from_pretrained(path, gguf_file):
            return build_word_tokenizer()

    for name, stand_in in (
        ("AutoConfig", Config),
        ("AutoModelForCausalLM", ReadByFile),
        ("AutoTokenizer", Words),
    ):
        monkeypatch.setattr(gguf, name, stand_in)
    monkeypatch.setenv("MECHSHIFT_CACHE", str(tmp_path))
    if damaged:
        with pytest.raises(ModelError, match="Saving the GGUF file's weights as float32 changed"):
            gguf.as_folder(tmp_path / "small.gguf", "0" * 64)
        assert not list(tmp_path.iterdir())
    else:
        folder = gguf.as_folder(tmp_path / "small.gguf", "0" * 64)
        again = AutoModelForCausalLM.from_pretrained(folder)
        torch.testing.assert_close(again(IDS).logits, tiny_hf()(IDS).logits)


def test_logits_that_become_nan_are_refused():
    hf = tiny_hf()
    with (
        pytest.raises(ModelError, match="changed what this model computes"),
        unchanged(hf, UNGROUPING),
    ):
        hf.lm_head.weight.data[0] = torch.nan
    broken = torch.full((1, 2), torch.nan)
    check_same(UNGROUPING, broken, broken)  # said by the proof of the anatomy
    with pytest.raises(ModelError, match="changed"):
        check_same(UNGROUPING, torch.zeros(1, 2), torch.zeros(1, 3))
