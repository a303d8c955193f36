"""Passes that run where a model is served: the same tensors, no weight sent, clear refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from nnsight.modeling import huggingface
from nnsight.modeling.transformers import TransformersModel
from nnsight.schema.config import CONFIG
from torch import Tensor

from mechshift_lib.circuits.tracing import interventions, layers, patterns, received, resuming
from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.models.anatomy import gather_qkv
from mechshift_lib.models.attention import check_layers
from mechshift_lib.models.loading import LoadedModel, wrap_model
from mechshift_lib.models.proof import check_anatomy
from mechshift_lib.models.serving import Served, check_host, check_precision
from mechshift_lib.remote import CALLS, MODELS, OPTION, SIMULATED, Remote, table
from tests.support.command import assert_refused, call, make_folder
from tests.support.served import elsewhere, serving, simulated
from tests.support.small_hub import COMMIT, small_hub
from tests.support.tiny import tiny_hf, tiny_items

IDS = torch.tensor([item.clean for item in tiny_items(2)])
OTHER = torch.tensor([item.corrupted for item in tiny_items(2)])
ROWS = torch.tensor([0, 1, 1])


@pytest.fixture(scope="module", params=["gpt2", "qwen2"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return wrap_model(tiny_hf(request.param), kv="grouped")


def ends(model: LoadedModel) -> tuple[layers.LayerRun, layers.LayerRun]:
    keep = layers.STREAMS | {"qkv", "attended"}
    return layers.run_layers(model, IDS, keep), layers.run_layers(model, OTHER, keep)


def run_layers(model: LoadedModel) -> Any:
    keep = layers.STREAMS | layers.READERS | {"attended", "neurons"}
    run = layers.run_layers(model, IDS, keep, mask=torch.ones_like(IDS))
    kept = [getattr(run, name) for name in sorted(keep)]
    return [run.start, run.final_in, run.final, *kept]


def stream_before(model: LoadedModel) -> Any:
    return layers.stream_before(model, IDS, 1)


def replaced_run(model: LoadedModel) -> Any:
    cut = torch.rand(2, 11, generator=torch.manual_seed(0)) > 0.5
    return interventions.replaced_run(model, IDS, cut, layers.run_layers(model, OTHER))


def receive(model: LoadedModel) -> Any:
    clean, corrupted = ends(model)
    sent = torch.rand(3, 11, generator=torch.manual_seed(0)) > 0.5
    found = [
        received.receive(model, clean, corrupted, ROWS, sent, start, frozen_mlps=frozen)
        for start, frozen in ((0, True), (1, False))
    ]
    return [[x.final, *x.mlps.values(), *x.qkv.values()] for x in found]


def run_received(model: LoadedModel) -> Any:
    clean, corrupted = ends(model)
    sent = torch.ones(3, 11, dtype=torch.bool)
    took = received.receive(model, clean, corrupted, ROWS, sent, 0, frozen_mlps=True)
    columns = {1: [torch.arange(x.shape[-1]) < 8 for x in took.qkv[1]]}
    return received.run_received(model, clean, ROWS, took, columns, frozenset({0}), 0)


def run_from(model: LoadedModel) -> Any:
    clean = ends(model)[0]
    return [resuming.run_from(model, IDS, layer, clean.inputs[layer]) for layer in (0, 1, 2)]


def through_layer(model: LoadedModel) -> Any:
    clean, corrupted = ends(model)
    replaced = torch.tensor([True, False, True])
    return [
        resuming.through_layer(
            model, clean, x, ROWS, corrupted.heads[x][ROWS], corrupted.mlps[x][ROWS], replaced
        )
        for x in (0, 1)
    ]


def run_behind(model: LoadedModel) -> Any:
    clean, corrupted = ends(model)
    stream = clean.attn_in[1]
    qkv = gather_qkv(model.anatomy, corrupted.qkv[1], model.d_head)
    return [
        resuming.run_behind(model, IDS, 1, stream, qkv=qkv),
        resuming.run_behind(
            model, IDS, 1, stream, attended=corrupted.attended[1], mlp_normed=stream
        ),
    ]


def attention_patterns(model: LoadedModel) -> Any:
    return patterns.attention_patterns(model, IDS)


def proofs(model: LoadedModel) -> Any:
    check_anatomy(model.hf, model.lm, model.anatomy)
    check_layers(model.hf, model.lm, model.anatomy, "causal")
    return []


TRACES = (
    run_layers,
    stream_before,
    replaced_run,
    receive,
    run_received,
    run_from,
    through_layer,
    run_behind,
    attention_patterns,
    proofs,
)


def tensors(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [x for part in found for x in tensors(part)]


def same(found: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_gives_the_same_in_nnsights_simulation_and_on_a_host(
    model: LoadedModel, trace: Callable[[LoadedModel], Any]
) -> None:
    here = tensors(trace(model))
    assert same(tensors(trace(simulated(model))), here)
    model.hf.requires_grad_(True)  # as a host may have it
    try:
        with serving() as payloads:
            there = tensors(trace(elsewhere(model)))
    finally:
        model.hf.requires_grad_(False)
    assert payloads
    assert same(there, here)
    assert not any(x.requires_grad for x in there)
    weights = [x.numpy().tobytes()[:64] for x in model.hf.parameters()]
    for payload in payloads:
        assert len(payload) < 2**19
        assert not any(x in payload for x in weights)
        assert b"LoadedModel" not in payload


def test_every_trace_of_the_library_is_among_these_but_that_of_evaluation() -> None:
    places = {
        path.relative_to(ROOT / "mechshift_lib").as_posix(): text.count("lm.trace(")
        for path in sorted((ROOT / "mechshift_lib").rglob("*.py"))
        if "lm.trace(" in (text := path.read_text(encoding="utf-8"))
    }
    assert places == {
        "circuits/tracing/interventions.py": 2,  # the other is rewired_run, of evaluate
        "circuits/tracing/layers.py": 2,
        "circuits/tracing/patterns.py": 1,
        "circuits/tracing/received.py": 2,
        "circuits/tracing/resuming.py": 3,
        "models/attention.py": 1,
        "models/proof.py": 1,
        "models/serving.py": 1,
    }


def test_the_host_knows_the_model_by_the_name_of_nnsights_own_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(huggingface._ID_CACHE, "me/Tiny", "me/tiny")
    hf = tiny_hf("gpt2")
    own = object.__new__(TransformersModel)
    own.__dict__.update(
        {
            "repo_id": "me/Tiny",
            "revision": "v1",
            "kwargs": {},
            "task": "text-generation",
        }
    )
    served = Served(hf, Remote("ndif", "me/Tiny", "v1"))
    assert served.to_model_key() == own.to_model_key()
    assert json.loads(served.to_model_key().split(":", 1)[1])["repo_id"] == "me/tiny"


def test_a_model_that_is_served_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = tiny_hf("gpt2"), tiny_hf("gpt2", seed=1)
    lm = Served(there, Remote(SIMULATED, "me/tiny"))
    with pytest.raises(ConfigError, match="served in float32: say --dtype float32"):
        check_precision(lm, lm.transformer.wte, torch.bfloat16)
    with pytest.raises(ModelError, match="doesn't fit"):
        check_anatomy(here, lm, wrap_model(here).anatomy)


@pytest.mark.parametrize(
    ("architecture", "changes", "word"),
    [
        ("gpt2", {"attention": "full"}, "Full attention can't run remotely"),
        ("qwen2", {}, "say --kv grouped"),
    ],
)
def test_a_model_that_is_changed_here_is_refused(
    architecture: str, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        wrap_model(tiny_hf(architecture), remote=Remote(SIMULATED, "me/tiny"), **changes)


def test_no_key_and_no_address_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    with pytest.raises(ConfigError, match="variable NDIF_API_KEY"):
        check_host("ndif")
    with pytest.raises(ConfigError, match="address of a host"):
        check_host("ftp://x")
    monkeypatch.setattr(CONFIG.API, "APIKEY", "key")
    check_host("ndif")


def test_a_host_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(huggingface._ID_CACHE, "me/tiny", "me/tiny")
    hf = tiny_hf("gpt2")
    lm = Served(hf, Remote("http://127.0.0.1:9", "me/tiny"))
    with pytest.raises(ModelError, match="me/tiny wasn't run remotely"):
        check_precision(lm, lm.transformer.wte, torch.float32)


def test_the_book_has_the_table() -> None:
    assert table() in (ROOT / "book" / "clusters.md").read_text(encoding="utf-8")
    assert {x.name.split()[0] for x in CALLS} >= set(OPTION)


REFUSED = [
    (("--method", "eap"), "attribute", "gradients are taken behind the passes"),
    (("--attention", "full"), "patch", MODELS["attention"].why_not),
    (("--quantization", "8-bit"), "patch", MODELS["quantization"].why_not),
    (("--device", "cuda"), "patch", MODELS["device"].why_not),
    (("--device-map", "auto"), "patch", MODELS["device_map"].why_not),
    ((), "patch", "say --kv grouped"),
    ((), "evaluate", "between any two layers"),
]


def asking(command: str, name: object, root: Path) -> tuple[object, ...]:
    examples, out = root / "examples.json", ("--out", root / "out.json")
    if command == "attribute":
        return (command, "--model", name, "--examples", examples, *out)
    scores = (root / "scores.json",) if command == "evaluate" else ()
    return (command, name, examples, *scores, *out)


def test_commands_run_remotely_or_say_why_not_before_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(tmp_path)
    with small_hub(root / "model") as (address, asked):
        files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        for options, command, reason in REFUSED:
            refusal = call(
                *asking(command, f"someone/tiny@{COMMIT}", root), *options, "--remote", "local"
            )
            assert_refused(refusal, reason)
        assert_refused(
            call(*asking("patch", root / "model", root), "--remote", "local"),
            MODELS["folder"].why_not,
        )
        assert not any(path.endswith(".safetensors") for path in asked)
        remotely = ("--kv", "grouped", "--remote", "local")
        for command, options in (
            ("patch", ("--sites", "resid,head")),
            ("patch", ("--senders", "all", "--readers", "logits")),
            ("attribute", ("--method", "exact")),
        ):
            here = (*asking(command, root / "model", root), *options, "--kv", "grouped")
            there = (*asking(command, f"someone/tiny@{COMMIT}", root), *options, *remotely)
            assert call(*here)[0] == 0
            expected = (root / "out.json").read_text(encoding="utf-8")
            code, _, said = call(*there)
            assert code == 0, said
            found = json.loads((root / "out.json").read_text(encoding="utf-8"))
            assert numbers(found) == pytest.approx(numbers(json.loads(expected)), abs=1e-5)


def numbers(found: Any) -> list[float]:
    if isinstance(found, dict | list):
        parts = found.values() if isinstance(found, dict) else found
        return [x for part in parts for x in numbers(part)]
    return [found] if isinstance(found, float | int) else []
