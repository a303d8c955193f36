"""What a machine does to a command (no memory, an interrupt, damaged weights) is one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mechshift_lib import workflow
from mechshift_lib.cli.files import examples as examples_file
from mechshift_lib.cli.main import app
from mechshift_lib.config import FolderSource, ModelSpec
from mechshift_lib.errors import ResultError, out_of_memory
from mechshift_lib.results import Store, model_hash
from tests.support.command import assert_refused, call, make_folder
from tests.support.toy import heed_signals

#: What is raised where memory runs out, and a word of what is said.
NO_MEMORY = {
    "GPU": (torch.OutOfMemoryError("CUDA out of memory."), "device 'cpu'"),
    "numpy": (MemoryError("Unable to allocate 4 TiB"), "larger machine"),
    "torch": (
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate"),
        "larger machine",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("folder"))


@pytest.mark.parametrize("kind", NO_MEMORY)
def test_no_memory_is_a_sentence_and_keeps_what_is_finished(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, word = NO_MEMORY[kind]
    real, done = examples_file.attribute, []

    def full(*arguments: object, **options: object) -> object:
        done.append(1)
        if len(done) == 3:
            raise error
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(examples_file, "attribute", full)
    given = ("--model", folder / "model", "--examples", folder / "examples.json")
    out = tmp_path / "scores.json"
    refused = call("attribute", *given, "--out", out, "--batch-size", 1)
    assert_refused(refused, "memory ran out", word, "2 examples finished before")
    assert (tmp_path / "scores.partial.json").is_file()
    assert not out.exists()


def test_torch_says_no_memory_in_words_that_are_known() -> None:
    """The real thing: more than any machine has."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    with pytest.raises(MemoryError) as other:
        np.empty(2**60, dtype=np.uint8)
    assert out_of_memory(other.value)
    assert out_of_memory(RuntimeError("shape mismatch")) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_is_a_sentence_and_its_exit_code(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    heed_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), number)
        signal.pause()

    monkeypatch.setattr(workflow, "run_workflow", interrupted)
    try:
        result = CliRunner().invoke(app, ["run"])
    finally:
        for which, handler in own.items():
            signal.signal(which, handler)
    said = f"mechshift: Interrupted by {number.name}.\n"
    assert (result.exit_code, result.stderr) == (128 + number, said)


def test_a_run_on_a_full_disk_says_so_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Snakemake said before."""
    failed = subprocess.CompletedProcess([], 1)
    monkeypatch.setattr(workflow, "run_child", lambda *_, **__: failed)
    monkeypatch.setattr(workflow, "alone", lambda *_: contextlib.nullcontext(()))
    for free, said in ((workflow.ROOM - 1, "The disk is full"), (2**30, "Not every notebook ran")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, n=free: SimpleNamespace(free=n))
        assert_refused(call("run", "tiny-llama", "--analysis", "behaviour"), said)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


@pytest.mark.parametrize("damage", ["length", "header", "cut", "empty", "shape"])
def test_damaged_weights_are_a_sentence(damage: str, folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for file in (folder / "model").iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    weights = model / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "shape":
        tensors = load_file(weights)
        name = "model.layers.0.mlp.up_proj.weight"
        save_file(tensors | {name: tensors[name][:-1].clone()}, weights, {"format": "pt"})
    else:
        made = {"length": flipped(whole, 3), "header": flipped(whole, 8), "empty": b""}
        weights.write_bytes(made.get(damage, whole[:-5]))
    given = ("--model", model, "--examples", folder / "examples.json")
    assert_refused(call("attribute", *given, "--out", tmp_path / "o.json"), str(model)[-40:])
    assert not (tmp_path / "o.json").exists()


def test_a_flipped_weight_is_another_model_so_no_stored_result_is_shown_for_it(
    folder: Path, tmp_path: Path
) -> None:
    """No format of weights has a sum of them: their hash is part of every result's key."""
    weights = tmp_path / "model.safetensors"
    whole = (folder / "model" / "model.safetensors").read_bytes()
    source = FolderSource(kind="folder", path=str(tmp_path))
    spec = ModelSpec(source=source, attention="causal", readout="next-token")
    found = []
    for content in (whole, flipped(whole, len(whole) - 3), whole):
        weights.write_bytes(content)
        os.utime(weights, ns=(len(found), len(found)))
        found.append(model_hash(spec))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_a_result_that_cannot_be_written_is_a_sentence_and_leaves_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    store, frame = Store(tmp_path), pd.DataFrame({"x": [1]})
    with monkeypatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_parquet", refuse)
        with pytest.raises(ResultError, match="Can't write") as caught:
            store.frames("depth", {"seed": 1}, lambda: {"one": frame})
    assert str(store.folder("depth", {"seed": 1})) in str(caught.value)
    assert list((tmp_path / "depth").iterdir()) == []
    assert store.frames("depth", {"seed": 1}, lambda: {"one": frame})["one"].equals(frame)
