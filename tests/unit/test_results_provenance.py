"""Hashes follow what matters (weights, meaning of code) and nothing else (paths, comments)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mechshift_lib.config import FolderSource, HubSource, ModelSpec
from mechshift_lib.errors import ConfigError, ModelError, ResultError
from mechshift_lib.results import code_hash, data_hash, model_hash, provenance


def checkpoint(folder: Path, weights: bytes = b"w") -> ModelSpec:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    source = FolderSource(kind="folder", path=folder.name)
    return ModelSpec(source=source, attention="causal", readout="next-token")


def test_a_models_hash_follows_its_content_not_its_place(tmp_path: Path) -> None:
    here = checkpoint(tmp_path / "here")
    there = checkpoint(tmp_path / "there")
    other = checkpoint(tmp_path / "other", b"x")
    assert model_hash(here, tmp_path) == model_hash(there, tmp_path)
    assert model_hash(here, tmp_path) != model_hash(other, tmp_path)
    (tmp_path / "there" / "training.log").write_text("not read by loading")
    assert model_hash(here, tmp_path) == model_hash(there, tmp_path)
    (tmp_path / "there" / "config.json").write_text('{"layers": 2}')
    assert model_hash(here, tmp_path) != model_hash(there, tmp_path)


def test_a_models_hash_follows_adapter_attention_and_revision(tmp_path: Path) -> None:
    plain = checkpoint(tmp_path / "base")
    checkpoint(tmp_path / "adapter", b"a")
    full = plain.model_copy(update={"attention": "full"})
    adapted = plain.model_copy(update={"adapter": "adapter"})
    hub = [
        plain.model_copy(update={"source": HubSource(kind="hub", repo="a/b", revision=c * 40)})
        for c in "ab"
    ]
    hashes = {model_hash(spec, tmp_path) for spec in (plain, full, adapted, *hub)}
    assert len(hashes) == 5


def test_a_missing_checkpoint_says_how_to_get_it(tmp_path: Path) -> None:
    source = FolderSource(kind="folder", path="nowhere")
    spec = ModelSpec(source=source, attention="causal", readout="next-token")
    with pytest.raises(ModelError, match="mechshift train"):
        model_hash(spec, tmp_path)


def test_code_hash_ignores_comments_and_sees_changes(tmp_path: Path) -> None:
    room = tmp_path / "mechshift_lib" / "circuits"
    room.mkdir(parents=True)
    file = room / "a.py"
    file.write_text('"""Doc."""\n\n\ndef f(x):\n    """Say."""\n    return x + 1\n')
    first = code_hash("circuits", root=tmp_path)
    file.write_text("def f( x ):  # the same\n\n    return x+1\n")
    assert code_hash("circuits", root=tmp_path) == first
    file.write_text("def f(x):\n    return x + 2\n")
    assert code_hash("circuits", root=tmp_path) != first
    with pytest.raises(ConfigError, match="no room"):
        code_hash("cellar", root=tmp_path)


def test_data_hash_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("1")
    first = data_hash("d", root=tmp_path)
    (tmp_path / "d" / "a.csv").write_text("2")
    assert data_hash("d", root=tmp_path) != first
    with pytest.raises(ResultError, match="missing"):
        data_hash("e", root=tmp_path)


def test_the_commit_is_noted_and_an_edit_makes_it_dirty(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert provenance(root=tmp_path)["commit"] is None
    git("init", "-q")
    (tmp_path / "f").write_text("1")
    git("add", "f")
    git("commit", "-qm", "one")
    record = provenance(root=tmp_path)
    assert (record["commit"], record["dirty"]) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "f").write_text("2")
    assert provenance(root=tmp_path)["dirty"] is True
