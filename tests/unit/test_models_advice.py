"""Folders that can't be loaded as they are: the sentence can mend the fault that it names."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from mechshift_lib.errors import ModelError, TaskError
from mechshift_lib.models.adapters import merge_adapter
from mechshift_lib.models.devices import check_device
from mechshift_lib.models.loading import load_folder, wrap_model
from mechshift_lib.tasks import get_task
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.tiny import VOCABULARY, tiny_hf


@pytest.fixture
def folder(tmp_path):
    """A model without a tokenizer, under a path that is too long for a sentence."""
    path = tmp_path / ("long" * 50) / ("name" * 50)
    tiny_hf("gpt2").save_pretrained(path)
    return path


def refusal(path, **options):
    """The one sentence that a folder is refused with."""
    with pytest.raises(ModelError) as caught:
        load_folder(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) <= 400
    assert sentence.endswith(".")
    return sentence


def test_a_pickle_of_weights_can_be_saved_as_safetensors(folder):
    hf = tiny_hf("gpt2")
    (folder / "model.safetensors").unlink()
    torch.save(hf.state_dict(), folder / "pytorch_model.bin")
    sentence = refusal(folder)
    assert "pytorch_model.bin only" in sentence
    assert "save_pretrained, which writes safetensors" in sentence
    hf.save_pretrained(folder)
    assert load_folder(folder).n_layers == 2


def test_the_folder_of_an_adapter_is_no_model(folder, tmp_path):
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    adapted = get_peft_model(tiny_hf("gpt2"), config)
    adapted.save_pretrained(tmp_path / "adapter")
    assert "is the folder of an adapter, not of a model" in refusal(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    assert load_folder(tmp_path / "merged").n_layers == 2
    shutil.copy(tmp_path / "adapter" / "adapter_config.json", folder)
    assert "holds an adapter beside the model" in refusal(folder)


def test_a_name_of_the_hub_where_a_folder_is_wanted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "hf download gpt2 --local-dir FOLDER" in refusal("gpt2")
    assert "hf download owner/name-1.5" in refusal("owner/name-1.5")
    assert "hf download OWNER/NAME" in refusal("./here/is/none")
    tiny_hf("gpt2").save_pretrained(tmp_path / "gpt2")
    assert load_folder("gpt2").n_layers == 2


def test_what_is_no_folder(folder, tmp_path):
    assert "is a file: give the folder that it lies in" in refusal(folder / "config.json")
    assert "can't be read (OSError)" in refusal(tmp_path / ("x" * 5000))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "doesn't exist" in refusal(tmp_path / "loop")
    assert "doesn't exist" in refusal("nul\0byte")


def test_shards_that_are_missing_or_links_to_nothing(folder):
    tiny_hf("gpt2").save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    assert load_folder(folder).n_layers == 2
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[1].unlink()
    assert f"lacks 1 of the files that its index names, such as {shards[1].name}" in refusal(folder)
    shards[1].symlink_to(folder / "blob")
    assert "lacks 1 of the files" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text("[" * 100_000)
    assert "is damaged (RecursionError)" in refusal(folder)


def test_the_tokenizer_of_an_old_folder(folder):
    words = {chr(33 + i): i for i in range(VOCABULARY - 1)} | {"<|endoftext|>": VOCABULARY - 1}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert load_folder(folder).tokenizer("!#")["input_ids"] == [0, 2]
    tiny_hf("llama").save_pretrained(folder)
    assert load_folder(folder).tokenizer is None  # none is needed for token ids
    sentence = refusal(folder, attention="full", readout="mask", mask_token="!")
    assert "has no tokenizer.json, so open it with the class that it was made for" in sentence
    (folder / "tokenizer.json").write_text("{")
    assert "fetch or save it again" in refusal(folder)


def test_numbers_that_float16_does_not_hold(folder):
    hf = tiny_hf("gpt2")
    hf.transformer.h[1].mlp.c_proj.bias.data[0] = 1e6
    hf.save_pretrained(folder)
    assert load_folder(folder).n_layers == 2
    assert "largest number is 65504: load it in bfloat16 or float32" in refusal(
        folder, dtype="float16"
    )
    assert load_folder(folder, dtype="bfloat16").hf.dtype == torch.bfloat16


def test_weights_that_are_named_otherwise(folder):
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 29 weights, such as lm_head.weight" in refusal(folder)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("adapter_config.json", "{", "can't be added to this model"),
        ("adapter_config.json", "[]", "can't be added to this model"),
        ("adapter_config.json", '{"peft_type": "LORA", "r": "x"}', "can't be added to this model"),
        ("adapter_config.json", '{"peft_type": "NONE"}', "can't be added to this model"),
        ("adapter_model.safetensors", "", "can't be added to this model"),
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors"),
    ],
)
def test_adapters_that_are_damaged(folder, file, content, words):
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    adapter = folder.parent / "adapter"
    get_peft_model(tiny_hf("gpt2"), config).save_pretrained(adapter)
    (adapter / file).unlink()
    if content is not None:
        (adapter / file).write_text(content)
    for path, said in ((adapter, words), (folder / ("x" * 5000), "can't be read (OSError)")):
        with pytest.raises(ModelError) as caught:
            merge_adapter(tiny_hf("gpt2"), path)
        assert said in str(caught.value)
        assert len(str(caught.value)) <= 400


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("is_causal", 0),
        ("is_causal", {"a": 1}),
        ("num_attention_heads", 0),
        ("num_attention_heads", -4),
        ("num_hidden_layers", "many"),
        ("num_hidden_layers", 0),
        ("num_key_value_heads", 3),
        ("hidden_size", 10**9),
        ("max_position_embeddings", None),
        ("sliding_window", [1]),
        ("layer_types", 3),
        ("rope_parameters", "none"),
        ("vocab_size", 0),
    ],
)
def test_configurations_that_nothing_can_be_made_of(tmp_path, number, value):
    tiny_hf("qwen2").save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, number: value}))
    said = []
    for attention in ("causal", "full"):
        try:  # nothing but a sentence; what makes no difference may load
            load_folder(tmp_path, attention=attention)
        except ModelError as error:
            said.append(str(error))
    assert said or number in ("max_position_embeddings", "sliding_window")
    assert all(len(sentence) <= 400 and "\n" not in sentence for sentence in said)


def test_code_that_fails_on_any_input(monkeypatch):
    hf = tiny_hf()
    monkeypatch.setattr(hf, "forward", lambda **inputs: 1 / 0)
    with pytest.raises(ModelError, match=r"fails on a short random input.*ZeroDivisionError"):
        wrap_model(hf)


def test_a_model_that_is_larger_than_the_memory(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    hf = tiny_hf()
    monkeypatch.setattr(hf, "to", full)
    with pytest.raises(ModelError, match="doesn't fit into the memory of 'cpu'"):
        wrap_model(hf)


@pytest.mark.parametrize("name", ["mps", "xla", "meta", "hpu", "vulkan"])
def test_devices_that_torch_knows_and_this_build_lacks(name):
    with pytest.raises(ModelError, match=f"Device '{name}' isn't available on this machine"):
        check_device(name)


@pytest.mark.parametrize("name", ["tpu", "", "cuda:x", "cpu " * 200])
def test_devices_that_there_are_not(name):
    with pytest.raises(ModelError, match="Unknown device") as caught:
        wrap_model(tiny_hf(), device=name)
    assert len(str(caught.value)) <= 400


def test_an_end_of_text_behind_every_prompt():
    from tokenizers.processors import TemplateProcessing

    tokenizer = build_word_tokenizer()
    ends = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("[BOS]", "[EOS]")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=ends
    )
    for task in ("ioi", "countdown", "infilling", "greater-than"):
        with pytest.raises(TaskError, match=r"puts \[EOS\] behind every text"):
            get_task(task).examples(tokenizer, 2, 0)
