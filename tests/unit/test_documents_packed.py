"""Weights that ship packed are those that were packed, wherever a folder is read."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from mechshift_lib.config import FolderSource, ModelSpec
from mechshift_lib.diffusion.distance import moved
from mechshift_lib.documents import packed
from mechshift_lib.documents.packed import unpacked
from mechshift_lib.errors import ModelError
from mechshift_lib.models.loading import load_model
from mechshift_lib.results.provenance import model_hash

from ..support.study import make_pair

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MECHSHIFT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A model, an adapter of it, and the same adapter packed."""
    make_pair(tmp_path, seeds=(0,))
    base = tmp_path / "data/models/toy/seed0/arm"
    plain, small = tmp_path / "plain", tmp_path / "small"
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
    )
    model.save_pretrained(plain)
    shutil.copytree(plain, small)
    (small / f"{WEIGHTS}.xz").write_bytes(lzma.compress((small / WEIGHTS).read_bytes()))
    (small / WEIGHTS).unlink()
    return base, plain, small


def spec(base: Path, adapter: Path) -> ModelSpec:
    source = FolderSource(kind="folder", path=str(base))
    return ModelSpec(source=source, adapter=str(adapter), attention="causal", readout="next-token")


def test_a_packed_adapter_is_the_same_model(folders) -> None:
    base, plain, small = folders
    assert not (small / WEIGHTS).exists()
    ids = torch.tensor([[5, 6, 7]])
    given, found = (load_model(spec(base, one)).logits(ids) for one in (plain, small))
    assert torch.equal(given, found)
    assert model_hash(spec(base, plain)) == model_hash(spec(base, small))
    assert moved(plain, small) == 0.0
    assert sorted(one.name for one in small.iterdir()) == sorted(
        [f"{WEIGHTS}.xz", *(one.name for one in plain.iterdir() if one.name != WEIGHTS)]
    )


def test_it_is_unpacked_once_and_a_changed_file_anew(folders, monkeypatch) -> None:
    _, plain, small = folders
    assert unpacked(plain) == plain
    place = unpacked(small)
    assert (place / WEIGHTS).read_bytes() == (plain / WEIGHTS).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(packed, "_unpack", lambda *_: pytest.fail("unpacked again"))
        assert unpacked(small) == place
    config = json.loads((small / "adapter_config.json").read_text())
    (small / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 3}))
    assert unpacked(small) != place


def test_what_is_there_unpacked_counts(folders) -> None:
    _, plain, small = folders
    shutil.copy(plain / WEIGHTS, small / WEIGHTS)
    (small / f"{WEIGHTS}.xz").write_bytes(b"of another training")
    assert unpacked(small) == small


def test_damage_is_one_sentence_and_leaves_nothing(folders, tmp_path, monkeypatch) -> None:
    base, _, small = folders
    file = small / f"{WEIGHTS}.xz"
    whole = file.read_bytes()
    for content in (whole[:-20], b"", b"no xz", whole[:200] + b"0" * 100 + whole[300:]):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="is damaged: take it from the repository again"):
            load_model(spec(base, small))
    file.write_bytes(whole)
    monkeypatch.setattr(packed, "LARGEST", 100)
    with pytest.raises(ModelError, match="holds more than"):
        unpacked(small)
    assert list((tmp_path / "cache" / "unpacked").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(folders, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MECHSHIFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="set MECHSHIFT_CACHE"):
        unpacked(folders[2])
