"""The page's files: models it can run, whole and bit for bit, and only where something changed."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mechshift_lib.config import ROOT, Pair, load_pair
from mechshift_lib.errors import ModelError
from mechshift_lib.play import build
from mechshift_lib.play.files import index, name_of, script
from mechshift_lib.play.prompts import LONGEST, NATIVE, random_orders
from mechshift_lib.play.sources import playable
from mechshift_lib.play.tokenizers import read_tokenizer
from mechshift_lib.play.weights import LAYER, read_weights

PAIR, ROLES = "tiny-qwen", ("arm", "mdm", "continued", "matched")


@pytest.fixture
def pair() -> Pair:
    """One training of a pair."""
    return load_pair(PAIR).model_copy(update={"seeds": (0,)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with the models of that training and nothing else."""
    for role in ROLES:
        place = Path("data/models") / PAIR / "seed0" / role
        shutil.copytree(ROOT / place, tmp_path / place)
    return tmp_path


def content(text: str) -> tuple[str, dict[str, Any]]:
    """Name and object that a script adds."""
    given = text.removeprefix("mechshiftPlay.add(").removesuffix(");\n")
    name, about = json.loads(f"[{given}]")
    return name, about


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file."""
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))


def test_a_models_file_has_its_weights_bit_for_bit(pair: Pair) -> None:
    spec = pair.model("mdm", 0)
    weights = read_weights(spec)
    assert weights is not None
    name, about = content(script(name_of(PAIR, "mdm", 0), spec, weights, 3))
    assert name == "tiny-qwen/mdm.0"
    assert about["config"] | {"mask": 3, "attention": "full", "shift": -1} == about["config"]
    stored = load_file(ROOT / spec.source.path / "model.safetensors")
    given = np.frombuffer(base64.b64decode(about["data"]), dtype=about["dtype"])
    assert sorted(x.tobytes() for x in stored.values()) == sorted(
        part.tobytes()
        for part in np.split(given, np.cumsum([np.prod(s) for _, s in about["tensors"]])[:-1])
    )
    first = stored["model.layers.3.self_attn.k_proj.weight"]
    at = [short for short, _ in about["tensors"]].index("3.k")
    start = sum(int(np.prod(s)) for _, s in about["tensors"][:at])
    np.testing.assert_array_equal(given[start : start + first.size], first.ravel())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("model_type", "mistral"),
        ("hidden_act", "gelu"),
        ("sliding_window", 16),
        ("mlp_bias", True),
        ("tie_word_embeddings", True),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 10000.0}),
    ],
)
def test_what_the_page_would_compute_otherwise_is_left_out(
    pair: Pair, root: Path, setting: str, value: object
) -> None:
    spec = pair.model("arm", 0)
    assert read_weights(spec, root) is not None
    edited(root / spec.source.path / "config.json", lambda whole: whole.update({setting: value}))
    assert read_weights(spec, root) is None


@pytest.mark.parametrize("tensor", ["more", "fewer"])
def test_a_tensor_that_is_not_known_or_missing_leaves_a_model_out(
    pair: Pair, root: Path, tensor: str
) -> None:
    spec = pair.model("arm", 0)
    path = root / spec.source.path / "model.safetensors"
    stored = load_file(path)
    if tensor == "more":
        stored["model.layers.0.self_attn.q_norm.weight"] = np.ones(32, dtype=np.float16)
    else:
        del stored[f"model.layers.5.{next(iter(LAYER))}"]
    save_file(stored, path)
    assert read_weights(spec, root) is None


def test_a_damaged_file_is_said_in_one_sentence(pair: Pair, root: Path) -> None:
    spec = pair.model("mdm", 0)
    path = root / spec.source.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"seed0/mdm is damaged: take it from the repository"):
        read_weights(spec, root)
    (root / spec.source.path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged"):
        read_tokenizer(root / spec.source.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole["model"].update(type="BPE"),
        lambda whole: whole.update(normalizer={"type": "Lowercase"}),
        lambda whole: whole["pre_tokenizer"].update(type="Whitespace"),
        lambda whole: whole["added_tokens"][3].update(lstrip=True),
        lambda whole: whole["post_processor"]["single"].reverse(),
    ],
)
def test_a_tokenizer_of_another_kind_leaves_a_pair_out(
    pair: Pair, root: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    edited(root / "data/models" / PAIR / "seed0/arm/tokenizer.json", change)
    written: list[str] = []
    assert playable(pair, lambda name, _: written.append(name), root) is None
    assert written == []


def test_the_index_says_what_there_is(pair: Pair, root: Path) -> None:
    written: list[str] = []
    shutil.rmtree(root / "data/models" / PAIR / "seed0/matched")
    entry = playable(pair, lambda name, _: written.append(name), root)
    assert entry is not None
    assert written == [f"{PAIR}/{role}.0" for role in ("arm", "mdm", "continued")]
    text = index([entry]).removeprefix("mechshiftPlay.index(").removesuffix(");\n")
    about = json.loads(text)
    (shown,) = about["pairs"]
    assert shown["trainings"] == {"0": ["arm", "mdm", "continued"]}
    assert shown["masks"] == {"arm": None, "mdm": 3, "continued": None}
    assert list(shown["prompts"]) == [*pair.tasks, NATIVE]
    assert all(one["after"] for one in shown["prompts"][NATIVE])
    assert about["labels"]["mdm"] == "MDM"
    assert len(random_orders()) == LONGEST


def test_an_mdm_alone_is_not_shown(pair: Pair, root: Path) -> None:
    (root / "data/models" / PAIR / "seed0/arm/model.safetensors").unlink()
    assert playable(pair, lambda *_: None, root) is None


def test_files_are_written_once_and_again_where_something_changed(
    pair: Pair, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "code_hash", lambda *_: "code")
    monkeypatch.setattr(build, "default_pairs", lambda _: [PAIR])
    monkeypatch.setattr(build, "load_pair", lambda *_: pair)
    (root / "workflow").mkdir()
    (root / "workflow" / "config.yaml").write_text("pairs: []\n")
    assert build.write_play(root) == len(ROLES) + 1
    assert build.write_play(root) == 0
    there = {path.name for path in (root / build.FOLDER / PAIR).iterdir()}
    assert there == {f"{role}.0.js" for role in ROLES}
    shutil.rmtree(root / "data/models" / PAIR / "seed0/continued")
    assert build.write_play(root) == len(ROLES)
    assert not (root / build.FOLDER / PAIR / "continued.0.js").exists()
