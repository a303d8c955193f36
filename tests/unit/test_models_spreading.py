"""A spread model: its weights anywhere, and the same numbers, to the bit.

There is one device here. With weights on disk, the hooks that bring them in are at work, and
outside of its modules a model has no weights to be read: what reads one past ``tensor_of`` fails.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.neurons import attribute_neurons
from mechshift_lib.circuits.attribution.nodes import attribute_nodes
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curve
from mechshift_lib.circuits.evaluation.node_sets import answers_without
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.cutting import cut_attention
from mechshift_lib.circuits.patching.paths import patch_paths
from mechshift_lib.circuits.tracing.patterns import attention_patterns
from mechshift_lib.config import load_pair
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.models import spreading
from mechshift_lib.models.loading import LoadedModel, load_folder, wrap_model
from mechshift_lib.models.weights import tensor_of
from mechshift_lib.semantics.activations import stream_at
from mechshift_lib.semantics.components import Unembedding, written
from mechshift_lib.semantics.lens import lens_logits, read_answers
from mechshift_lib.semantics.neurons import neuron_activations
from mechshift_lib.semantics.rules import Text
from tests.support.llada import LLaDAModelLM
from tests.support.tiny import tiny_hf, tiny_items

ITEMS = tiny_items(3)
#: All weights on disk.
EVERYTHING = {"": "disk"}


def tiny(architecture: str, attention: Any = "causal", **options: Any) -> LoadedModel:
    return wrap_model(tiny_hf(architecture), attention=attention, **options)


def numbers(found: Any) -> list[np.ndarray]:
    """Every array in a result, in order."""
    if isinstance(found, torch.Tensor):
        return [found.detach().numpy()]
    if isinstance(found, np.ndarray):
        return [found] if found.dtype.kind in "fiub" else []
    if isinstance(found, dict):
        return [x for value in found.values() for x in numbers(value)]
    if isinstance(found, list | tuple):
        return [x for value in found for x in numbers(value)]
    if hasattr(found, "to_numpy"):
        return numbers(found.select_dtypes("number").to_numpy())
    return numbers(list(vars(found).values())) if hasattr(found, "__dict__") else []


def same(one: Any, other: Any) -> None:
    pairs = list(zip(numbers(one), numbers(other), strict=True))
    assert pairs
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("architecture", "attention", "kv"),
    [
        ("llama", "causal", "ungrouped"),
        ("llama", "causal", "grouped"),
        ("gpt2", "causal", "ungrouped"),
        ("pythia", "full", "ungrouped"),
        ("gemma", "full", "ungrouped"),
    ],
)
def test_scores_are_the_same_to_the_bit_with_all_weights_on_disk(
    architecture: str, attention: str, kv: str
) -> None:
    plain = tiny(architecture, attention, kv=kv)
    away = tiny(architecture, attention, kv=kv, device_map=EVERYTHING)
    assert {p.device.type for p in away.hf.parameters()} == {"meta"}
    assert away.device == torch.device("cpu")
    for method in ("eap", "eap-ig", "eap-ig-activations", "clean-corrupted"):
        same(*(attribute(x, ITEMS, method=method, steps=2) for x in (plain, away)))
    exact = [attribute(x, ITEMS, method="exact").by_example for x in (plain, away)]
    np.testing.assert_allclose(*exact, atol=1e-5)  # traced where weights aren't at hand


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_every_analysis_runs_with_all_weights_on_disk(architecture: str) -> None:
    """Bit for bit: nothing reads a weight where it lies, or sends an activation elsewhere."""
    plain, away = tiny(architecture), tiny(architecture, device_map=EVERYTHING)
    circuit = attribute(plain, ITEMS).circuit
    prompts = [list(item.clean) for item in ITEMS]
    texts = [Text(tuple(ids), tuple(map(str, ids)), "filler", None) for ids in prompts]
    nodes = ["a0.h1", "m0"]
    asked = {
        "nodes": lambda m: attribute_nodes(m, ITEMS),
        "neurons": lambda m: attribute_neurons(m, ITEMS),
        "attention": lambda m: attention_patterns(m, torch.tensor(prompts)),
        "patched": lambda m: patch_nodes(m, ITEMS),
        "paths": lambda m: patch_paths(m, ITEMS, nodes[:1], ["logits"]),
        "cut": lambda m: cut_attention(m, ITEMS, [[[0, 1]] * len(ITEMS)]),
        "without": lambda m: np.array(answers_without(m, prompts, [1] * 3, [nodes] * 3)),
        "streams": lambda m: stream_at(m, prompts, [[0, 3]] * 3, 2),
        "neuron values": lambda m: neuron_activations(m, texts, 2),
        "lens": lambda m: read_answers(m, ITEMS, None, 2),
        "written": lambda m: written(m, ITEMS, Unembedding.of(m)),
    }
    for ablation in ("resample", "zero", "mean", "optimal"):
        asked[ablation] = lambda m, a=ablation: faithfulness_curve(
            m, ITEMS, circuit, fractions=(0.1, 0.5), ablation=a
        )
    for name, work in asked.items():
        one, other = (numbers(work(m)) for m in (plain, away))
        assert one, name
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_layers_may_be_torn_apart_and_weights_shared() -> None:
    hf = tiny_hf("qwen2")
    hf.config.tie_word_embeddings = True
    hf.tie_weights()
    torn = {"": "cpu", "model.layers.0.mlp": "disk", "model.layers.1.self_attn.q_proj": "disk"}
    away = wrap_model(hf, device_map=torn)
    kinds = {name: p.device.type for name, p in away.hf.named_parameters()}
    assert kinds["model.layers.0.mlp.up_proj.weight"] == "meta"
    assert kinds["model.layers.0.self_attn.q_proj.weight"] == "cpu"
    assert kinds["model.layers.1.self_attn.q_proj.weight"] == "meta"
    again = tiny_hf("qwen2")
    again.config.tie_word_embeddings = True
    again.tie_weights()
    same(attribute(wrap_model(again), ITEMS), attribute(away, ITEMS))


def test_auto_leaves_a_model_that_fits_as_it_is_and_respects_a_limit() -> None:
    plain = tiny("llama", device_map="auto")
    assert plain.plain
    few = tiny("llama", device_map="auto", max_memory={"cpu": "70KB"})
    kinds = {name: p.device.type for name, p in few.hf.named_parameters()}
    assert set(kinds.values()) == {"cpu", "meta"}
    same(attribute(tiny("llama"), ITEMS), attribute(few, ITEMS))


def test_what_is_on_disk_goes_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading.tempfile, "mkdtemp", lambda prefix: str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    away = tiny("llama", device_map=EVERYTHING)
    down = away.hf.model.layers[0].mlp.down_proj
    held = tensor_of(down, "weight")
    assert held is not None
    torch.testing.assert_close(held, tiny_hf("llama").model.layers[0].mlp.down_proj.weight)
    assert any((tmp_path / "weights").iterdir())
    del away, down
    gc.collect()
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("device_map", "said"),
    [
        ({"modle": "cpu"}, "names 'modle', which this model doesn't have: name modules such as"),
        ({"model": "cpu"}, "gives no place to 1 weights, such as lm_head.weight"),
        ({"": "gpu"}, "Unknown device 'gpu'"),
        ({"": "cuda:0"}, "isn't available on this machine"),
        ({"": 1}, "'cuda:1' isn't available on this machine"),
    ],
)
def test_a_map_that_cannot_be_followed_is_refused(device_map: Any, said: str) -> None:
    if torch.cuda.is_available() and "isn't available" in said:
        device_map = {"": "cuda:99"}
    with pytest.raises(ModelError, match=said.replace("(", r"\(")):
        tiny("llama", device_map=device_map)


def test_code_that_uses_a_weight_past_its_module_is_refused() -> None:
    """A tied LLaDA unembeds by its embedding's weights, wherever they are."""
    config = tiny_hf("llada").config
    config.weight_tying = True
    torch.manual_seed(0)
    tied = LLaDAModelLM(config).eval()
    with pytest.raises(ModelError, match="llada model uses weights past their modules"):
        wrap_model(tied, attention="full", device_map=EVERYTHING)


def test_memory_that_nothing_was_written_to_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operation on an empty weight gives may hold the right logits of a pass before."""
    config = tiny_hf("llada").config
    config.weight_tying = True
    monkeypatch.setattr(spreading, "differ", lambda found, expected: False)
    with pytest.raises(ModelError, match="llada model uses weights past their modules"):
        wrap_model(LLaDAModelLM(config).eval(), attention="full", device_map=EVERYTHING)


def test_a_model_that_transformers_spread_is_refused() -> None:
    hf = tiny_hf("llama")
    hf.hf_device_map = {"model": "cpu", "lm_head": "disk"}
    with pytest.raises(ModelError, match="load it without device_map, and give device_map here"):
        wrap_model(hf)


def test_a_limit_that_is_no_size_is_refused() -> None:
    with pytest.raises(ModelError, match="max_memory takes sizes such as 20GiB"):
        tiny("llama", device_map="auto", max_memory={"cpu": "plenty"})


def test_options_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    tiny_hf("llama").save_pretrained(tmp_path)
    for options, said in (
        ({"max_memory": {"cpu": "1GiB"}}, "say that, too"),
        ({"device_map": {}}, "names no module"),
        ({"device_map": "auto", "quantization": "4-bit"}, "stay on one device"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_folder(tmp_path, **options)  # type: ignore[arg-type]


def test_a_pair_may_say_where_its_models_lie() -> None:
    spec = load_pair("tiny-llama").model("arm")
    raw = spec.model_dump() | {"device_map": {"": 0, "lm_head": "cpu"}}
    assert type(spec).model_validate(raw).device_map == {"": 0, "lm_head": "cpu"}


def test_the_lens_of_a_spread_model_reads_its_own_unembedding() -> None:
    plain, away = tiny("llama"), tiny("llama", device_map=EVERYTHING)
    stream = torch.randn(2, 3, plain.d_model, generator=torch.Generator().manual_seed(0))
    same(*(lens_logits(m, stream, 1, "raw") for m in (plain, away)))
