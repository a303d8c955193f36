"""A result is computed once, is whole or absent, and is never shown when damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.errors import ResultError
from mechshift_lib.results import Store
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.store import USED, canonical

KEY = {"pair": "p", "seed": 3, "models": {"arm": "ab"}, "n": [1, 2]}


def table() -> dict[str, pd.DataFrame]:
    return {
        "edges": pd.DataFrame({"edge": ["input->m0", "m0->logits"], "score": np.float32([1, -2])}),
        "notes": pd.DataFrame({"task": pd.Categorical(["ioi", "ioi"]), "hit": [True, False]}),
    }


def test_a_result_is_computed_once_and_reads_back_equal(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, pd.DataFrame]:
        calls.append(1)
        return table()

    store = Store(tmp_path)
    first = store.frames("circuits", KEY, compute)
    reordered = dict(reversed(list(KEY.items())))
    second = store.frames("circuits", reordered, compute)
    assert len(calls) == 1
    for name, frame in table().items():
        pd.testing.assert_frame_equal(first[name], frame)
        pd.testing.assert_frame_equal(second[name], first[name])


@pytest.mark.parametrize("change", [{"seed": 4}, {"models": {"arm": "ac"}}, {"more": None}])
def test_a_changed_input_is_computed_anew(tmp_path: Path, change: dict) -> None:
    store = Store(tmp_path)
    store.frames("circuits", KEY, table)
    other = {"edges": pd.DataFrame({"score": [7.0]})}
    assert store.frames("circuits", {**KEY, **change}, lambda: other)["edges"].score[0] == 7
    assert store.frames("behaviour", KEY, lambda: other)["edges"].score[0] == 7


def test_provenance_says_where_a_result_comes_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.frames("circuits", KEY, table)
    record = store.provenance("circuits", KEY)
    assert record["key"] == KEY
    assert record["seed"] == 3
    assert record["models"] == {"arm": "ab"}
    assert record["versions"]["pandas"] == pd.__version__
    assert record["hardware"]["cores"] >= 1
    assert record["wall_seconds"] >= 0
    assert record["peak_memory_bytes"]["resident"] > 10_000_000
    assert set(record) >= {"commit", "dirty", "device", "dtype", "dataset", "created", "schema"}


def test_the_results_used_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USED, str(tmp_path / "used"))
    store = Store(tmp_path / "results")
    store.frames("circuits", KEY, table)
    store.frames("circuits", KEY, table)
    folder = str(store.folder("circuits", KEY))
    assert (tmp_path / "used").read_text().splitlines() == [folder, folder]


@pytest.mark.parametrize("victim", ["edges.parquet", "provenance.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_damage_is_an_error_that_names_the_folder(tmp_path: Path, victim: str, damage: str) -> None:
    store = Store(tmp_path)
    store.frames("circuits", KEY, table)
    folder = store.folder("circuits", KEY)
    path = folder / victim
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    else:
        path.unlink()
    with pytest.raises(ResultError, match="delete the folder") as error:
        store.frames("circuits", KEY, table)
    assert str(path) in str(error.value)
    assert str(folder) in str(error.value)


def test_another_schema_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.frames("circuits", KEY, table)
    path = store.folder("circuits", KEY) / "provenance.json"
    record = json.loads(path.read_text())
    record["schema"] += 1
    path.write_text(json.dumps(record))
    with pytest.raises(ResultError, match="schema"):
        store.frames("circuits", KEY, table)


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> dict[str, pd.DataFrame]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.frames("circuits", KEY, fail)
    with pytest.raises(ResultError, match="no table"):
        store.frames("circuits", KEY, dict)
    # a table that parquet can't hold fails in the middle of writing
    mixed = {"good": pd.DataFrame({"a": [1]}), "bad": pd.DataFrame({"a": [1, "x", object()]})}
    with pytest.raises(Exception, match="object"):
        store.frames("circuits", KEY, lambda: mixed)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not store.folder("circuits", KEY).exists()


def test_a_kill_in_the_middle_of_writing_leaves_no_result(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        import pandas as pd
        from pathlib import Path
        from mechshift_lib.results import Store
        import mechshift_lib.results.store as module
        real = module.sync_file
        def slow(path):
            real(path)
            Path(sys.argv[1], "writing").touch()
            time.sleep(60)
        module.sync_file = slow
        frames = {"a": pd.DataFrame({"x": [1]}), "b": pd.DataFrame({"x": [2]})}
        Store(Path(sys.argv[1]) / "results").frames("circuits", {"seed": 0}, lambda: frames)
    """)
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        for _ in range(600):
            if (tmp_path / "writing").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert process.poll() is None, "the writer ended before it could be killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    store = Store(tmp_path / "results")
    assert list((tmp_path / "results").rglob("a.parquet")), "the kill came before the writing"
    assert not store.folder("circuits", {"seed": 0}).exists()
    again = store.frames("circuits", {"seed": 0}, lambda: {"a": pd.DataFrame({"x": [5]})})
    assert again["a"].x.tolist() == [5]


@pytest.mark.parametrize("key", [{"x": float("nan")}, {"x": np.int64(3)}, {"x": {1, 2}}])
def test_a_key_that_is_not_json_is_refused(key: dict) -> None:
    with pytest.raises(ResultError, match="plain JSON"):
        canonical(key)


def test_a_kind_names_one_folder(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="kind"):
        Store(tmp_path).frames("../x", KEY, table)


def test_write_atomic_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomic(path, "one")

    def half(temporary: Path) -> None:
        temporary.write_text("tw")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, half)
    assert path.read_text() == "one"
    write_atomic(path, b"two")
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.read_text() == "two"


def test_what_is_remembered_is_nobodys_to_change(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    first = store.frames("circuits", KEY, table)
    reads: list[Path] = []
    read = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet", lambda path: reads.append(path) or read(path))
    first["edges"].loc[0, "score"] = 9.0
    first["edges"]["more"] = 1
    second = store.frames("circuits", KEY, table)
    second["notes"].drop(columns="hit", inplace=True)
    for name, frame in store.frames("circuits", KEY, table).items():
        pd.testing.assert_frame_equal(frame, table()[name])
    assert reads == []


def test_files_that_changed_are_read_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.folder("circuits", KEY)
    store.frames("circuits", KEY, table)
    (folder / "edges.parquet").rename(tmp_path / "aside")
    with pytest.raises(ResultError, match=r"edges\.parquet is missing"):
        store.frames("circuits", KEY, table)
    (tmp_path / "aside").rename(folder / "edges.parquet")
    assert len(store.frames("circuits", KEY, table)["edges"]) == 2


def test_large_results_are_not_remembered(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr("mechshift_lib.results.store.SMALL", 100)
    store.frames("circuits", KEY, table)
    reads: list[Path] = []
    read = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet", lambda path: reads.append(path) or read(path))
    store.frames("circuits", KEY, table)
    assert len(reads) == 2


def test_what_is_remembered_has_an_end(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path)
    keys = [{**KEY, "seed": seed} for seed in range(4)]
    for key in keys:
        store.frames("circuits", key, table)
    size = sum(
        file.stat().st_size for file in store.folder("circuits", KEY | {"seed": 0}).iterdir()
    )
    monkeypatch.setattr("mechshift_lib.results.store._RECENT", OrderedDict())
    monkeypatch.setattr("mechshift_lib.results.store.REMEMBERED", 2.5 * size)
    reads: list[Path] = []
    read = pd.read_parquet
    monkeypatch.setattr(pd, "read_parquet", lambda path: reads.append(path) or read(path))
    for key in keys:
        store.frames("circuits", key, table)
    assert len(reads) == 8
    for key in keys[:1:-1]:  # the last two are remembered
        store.frames("circuits", key, table)
    assert len(reads) == 8
    store.frames("circuits", keys[0], table)
    assert len(reads) == 10
