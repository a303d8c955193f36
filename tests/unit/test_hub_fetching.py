"""Fetching: whole or not at all, and one sentence for what goes wrong."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from huggingface_hub import constants, errors

from mechshift_lib.config import HubSource, ModelSpec
from mechshift_lib.errors import ModelError
from mechshift_lib.hub.failures import sentence
from mechshift_lib.hub.fetching import fetch
from mechshift_lib.hub.planning import plan
from mechshift_lib.snapshots import NOTE, read_snapshot, snapshot_folder
from tests.support.hub import REVISION, FakeHub, fake_hub
from tests.support.published import save_arm

REPO = "me/arm"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(monkeypatch, tmp_path) as found:
        save_arm(tmp_path / "arm", "qwen2")
        found.repositories[REPO] = tmp_path / "arm"
        yield found


def declared(repo: str = REPO, revision: str = REVISION) -> ModelSpec:
    source = HubSource(kind="hub", repo=repo, revision=revision)
    return ModelSpec(source=source, attention="causal", readout="next-token")


def refused(spec: ModelSpec, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        fetch([spec])
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    for word in words:
        assert word in said
    assert not (snapshot_folder(REPO, REVISION) / NOTE).exists()


def test_what_was_fetched_is_noted_and_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    spec = declared()
    assert spec.fetched() is None
    folder, again = fetch([spec, spec])
    assert folder == again
    note = read_snapshot(REPO, REVISION)
    assert note is not None
    assert set(note.sha256) == {"model.safetensors"}
    assert note.opened_as == "qwen2"
    assert (folder / "model.safetensors").is_symlink()  # no second copy
    asked = list(hub.starts)
    hub.status = 503
    assert fetch([spec]) == [folder]
    assert hub.starts == asked
    (folder / NOTE).write_text("{")
    with pytest.raises(ModelError, match="is damaged"):
        spec.fetched()


def asked_for_weights(hub: FakeHub) -> list[int]:
    """The byte that each answer with weights began at."""
    return [start for name, start in hub.starts if name == "model.safetensors"]


def test_a_connection_that_broke_is_taken_up_within_the_file(hub: FakeHub) -> None:
    hub.cut["model.safetensors"] = 50_000
    fetch([declared()])
    first, then = asked_for_weights(hub)
    assert first == 0
    assert 48_000 <= then <= 50_000
    assert declared().fetched() is not None


def test_a_fetch_that_ended_keeps_the_files_that_are_whole(hub: FakeHub) -> None:
    hub.cut["model.safetensors"], hub.down = 50_000, True
    refused(declared(), "say the same command again", "whole already are kept")
    hub.status = None
    whole = {name for name, _ in hub.starts} - {"model.safetensors"}
    before = len(hub.starts)
    fetch([declared()])
    assert not whole & {name for name, _ in hub.starts[before:]}
    assert declared().fetched() is not None


def test_a_file_that_is_not_the_one_named_is_deleted(hub: FakeHub) -> None:
    hub.swapped.add("model.safetensors")
    refused(declared(), "has sha256", "instead of", "deleted")
    hub.swapped.clear()
    fetch([declared()])
    assert declared().fetched() is not None


def test_gated_missing_and_failing_repositories(hub: FakeHub) -> None:
    refused(declared("me/nothing"), "no repository me/nothing", "correct its name")
    refused(declared(revision="d" * 40), "no revision dddddddddddd", "/commits/main")
    hub.gated.add(REPO)
    refused(declared(), "is gated", "accept its terms", "HF_TOKEN")
    hub.gated.clear()
    hub.status = 500
    refused(declared(), "answered 500", "say the same command again")


def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(declared(), "can't be reached", "check the network")


def test_weights_that_are_pickles_or_missing(hub: FakeHub, tmp_path: Path) -> None:
    weights = tmp_path / "arm" / "model.safetensors"
    weights.rename(tmp_path / "arm" / "pytorch_model.bin")
    refused(declared(), "only pytorch_model.bin, a pickle")
    (tmp_path / "arm" / "pytorch_model.bin").unlink()
    refused(declared(), "no weights")


def test_too_little_room_is_said_before_anything_is_fetched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1000))
    refused(declared(), "0.0 GiB free", "make room, or set HF_HOME and MECHSHIFT_CACHE")
    assert {name for name, _ in hub.starts} == {"config.json"}


def test_a_check_sees_all_plans_and_refuses_before_anything_is_fetched(hub: FakeHub) -> None:
    def check(plans: list[object]) -> None:
        raise ModelError(f"{len(plans)} plans don't fit.")

    with pytest.raises(ModelError, match="1 plans don't fit"):
        fetch([declared()], check)
    assert {name for name, _ in hub.starts} == {"config.json"}


def test_a_plan_counts_what_is_there_already(hub: FakeHub) -> None:
    before = plan(declared().source)
    assert before.weights == sum(
        size for name, size in before.sizes.items() if name == "model.safetensors"
    )
    assert before.to_fetch > before.weights
    assert before.to_keep == 0  # its weights keep their names
    fetch([declared()])
    assert plan(declared().source).to_fetch == 0


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "no space"), "The disk is full"),
        (PermissionError(errno.EACCES, "no", "/x"), "Can't write /x: there is no permission"),
        (errors.HTTPError("slow"), "can't be reached"),
    ],
)
def test_what_disk_and_network_refuse_is_a_sentence(error: Exception, word: str) -> None:
    source = declared().source
    assert isinstance(source, HubSource)
    said = sentence(error, source)
    assert said is not None
    assert word in said
    assert said.endswith(".")


def test_a_defect_stays_a_defect() -> None:
    source = declared().source
    assert isinstance(source, HubSource)
    assert sentence(ZeroDivisionError(), source) is None
