"""The explorer's files: of the pair's own models, whole, and only where something has changed."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from mechshift_lib.comparison.overlap import top_edges
from mechshift_lib.explorer import build, sources, stored
from mechshift_lib.explorer.curves import stops
from mechshift_lib.explorer.files import Entry, index, name_of, script
from mechshift_lib.explorer.sources import Circuits, NotStoredError, reading

PAIR, TASK, SEED = "tiny-llama", "infilling", 1


@pytest.fixture(scope="module")
def found() -> list[Circuits]:
    study = reading(PAIR, results="nowhere")
    return list(sources.final(study, TASK, SEED))


def content(text: str) -> tuple[str, dict]:
    """Name and object that a script adds."""
    given = text.removeprefix("mechshiftExplorer.add(").removesuffix(");\n")
    name, about = json.loads(f"[{given}]")
    return name, about


def test_what_is_shipped_is_found_without_a_store(found: list[Circuits]) -> None:
    assert [one.read for one in found] == ["all", "0", "1"]
    assert {"arm", "mdm", "continued", "matched"} <= set(found[0].names)
    assert all(one.estimator == "exact" and one.shares for one in found)
    assert len({len(scores) for scores in found[0].scores}) == 1


def test_scores_of_other_weights_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "model_hash", lambda *_: "of other weights")
    assert list(sources.final(reading(PAIR, results="nowhere"), TASK, SEED)) == []


def test_circuits_that_the_book_stored_are_found_and_only_those(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of a pair whose scores aren't shipped: a forked one, or one with very many edges."""
    study = reading(PAIR, results="nowhere")
    kept = {role: sources._measured(study, TASK, role, SEED) for role in ("arm", "mdm")}
    assert all(kept.values())

    def measured(_study: object, _task: str, circuit: str, _seed: int) -> object:
        if circuit not in kept:
            raise NotStoredError("not stored")
        return kept[circuit]

    monkeypatch.setattr(sources, "path_of", lambda *_: tmp_path / "none")
    monkeypatch.setattr(sources, "measured", measured)
    assert next(sources.final(study, TASK, SEED)).names == ("arm", "mdm")
    del kept["mdm"]
    assert list(sources.final(study, TASK, SEED)) == [], "one circuit has none to lie over"


def test_nothing_is_computed(tmp_path: Path) -> None:
    store = reading(PAIR, results=str(tmp_path / "none")).store

    def compute() -> dict:
        raise AssertionError("it was computed")

    with pytest.raises(NotStoredError, match="mechshift run"):
        store.frames("circuits", {"pair": PAIR}, compute)
    assert not (tmp_path / "none").exists()


def test_a_script_has_all_that_it_says(found: list[Circuits]) -> None:
    one = found[0]
    name, about = content(script(PAIR, one))
    assert name == name_of(PAIR, one) == f"{PAIR}/{TASK}.exact.all.{SEED}"
    block = zlib.decompress(base64.b64decode(about["data"]))
    n_edges, n_stops = one.graph.n_edges, len(stops(one.graph.n_edges, one.graph.n_edges))
    n_names, n_pairs = len(one.names), len(about["pairs"])
    assert n_pairs == n_names * (n_names + 1) // 2
    scores = np.frombuffer(block, "<f4", n_names * n_edges).reshape(n_names, n_edges)
    np.testing.assert_array_equal(scores[0], one.scores[0].mean(axis=0))
    sizes = (4 * n_names * n_edges, 12 * n_pairs * n_stops, n_names * n_edges * n_stops)
    assert len(block) == sum(sizes)
    entering = np.frombuffer(block, "u1", offset=sum(sizes[:2]))
    # In the largest circuit is every edge, in each half's.
    assert (entering.reshape(-1, n_stops).sum(axis=1) == about["halves"]).all()


def test_of_a_large_graph_the_strongest_edges_are_kept(
    found: list[Circuits], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mechshift_lib.explorer.files.ALL_EDGES", 1000)
    monkeypatch.setattr("mechshift_lib.explorer.files.STRONGEST", 30)
    one = found[0]
    _, about = content(script(PAIR, one))
    kept = np.frombuffer(zlib.decompress(base64.b64decode(about["data"])), "<i4", about["edges"])
    strong = np.any([top_edges(scores.mean(axis=0), 30) for scores in one.scores], axis=0)
    np.testing.assert_array_equal(kept, np.flatnonzero(strong))


def test_the_index_says_what_there_is(found: list[Circuits]) -> None:
    pair = reading(PAIR, results="nowhere").pair
    entry = Entry(pair)
    for one in found:
        entry.add(one)
    text = index([entry, Entry(pair)])
    about = json.loads(text.removeprefix("mechshiftExplorer.index(").removesuffix(");\n"))
    assert [one["name"] for one in about["pairs"]] == [PAIR], "a pair without circuits is left out"
    assert [one["read"] for one in about["pairs"][0]["sources"]] == ["all", "0", "1"]
    assert about["pairs"][0]["sources"][0]["trainings"] == {str(SEED): list(found[0].names)}
    assert about["labels"]["arm"] == "ARM"
    assert set(about["colors"]) <= set(about["labels"])


@pytest.mark.parametrize("edited", ["data/scores/a.safetensors", "results/circuits/abc"])
def test_files_are_written_again_only_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[Circuits], edited: str
) -> None:
    monkeypatch.setattr(build, "code_hash", lambda *_: "code")
    monkeypatch.setattr(build, "default_pairs", lambda _: [PAIR])
    given = list(found)
    monkeypatch.setattr(stored, "files_of", lambda _: ((one, script(PAIR, one)) for one in given))
    monkeypatch.setattr(sources, "reading", lambda *_: None)
    monkeypatch.setattr(build, "load_pair", lambda *_: reading(PAIR, "nowhere").pair)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "config.yaml").write_text("pairs: []\n")
    assert build.write_explorer(tmp_path) == len(found) + 1
    assert build.write_explorer(tmp_path) == 0
    (tmp_path / edited).parent.mkdir(parents=True)
    (tmp_path / edited).touch()
    del given[-1]
    assert build.write_explorer(tmp_path) == len(found)
    files = {path.name for path in (tmp_path / build.FOLDER).rglob("*.js")}
    assert files == {"index.js", *(f"{TASK}.exact.{one.read}.{SEED}.js" for one in given)}


def test_every_checkpoint_of_a_training_is_there() -> None:
    study = reading(PAIR, results="nowhere")
    along = [one for one in sources.along(study) if one.seed == 0]
    assert [(one.task, one.read) for one in along] == [
        ("ioi", "all"),
        ("countdown", "0"),
        ("countdown", "2"),
        ("countdown", "4"),
    ]
    assert along[0].names[0] == "arm"
    assert {name.split("@")[0] for name in along[0].names} == {"arm", "mdm", "continued"}
    assert len(along[0].splits) == 3
