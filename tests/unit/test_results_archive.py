"""Stored results are listed, checked byte by byte, and exported the same way every time."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mechshift_lib import workflow
from mechshift_lib.cli.main import app
from mechshift_lib.errors import ResultError
from mechshift_lib.made_of import seal
from mechshift_lib.results import Store
from mechshift_lib.results.archive import dictionary, entries, export, find, listing, verify

KEYS = [{"pair": "p", "role": "arm", "task": "ioi"}, {"pair": "p", "role": "mdm", "task": "ioi"}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results")
    for number, key in enumerate(KEYS):
        frame = pd.DataFrame({"layer": [0, 1], "value": np.float64([number, 2])})
        made.frames("depth", key, lambda frame=frame: {"depth": frame})
    wide = pd.DataFrame(np.zeros((3, 2)), columns=["0", "1"])
    made.frames("circuits", {"pair": "q"}, lambda: {"scores": wide})
    (made.root / "depth" / ".0123.7-ab.tmp").mkdir()  # a killed run's
    (made.root / "failed").mkdir()
    return made


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["results", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.stdout, result.stderr


def test_finished_results_are_listed_with_what_they_are_of(store: Store) -> None:
    table = listing(store)
    assert table["kind"].tolist() == ["circuits", "depth", "depth"]
    assert sorted(table["role"]) == ["", "arm", "mdm"]
    assert table["tables"].tolist() == [1, 1, 1]
    code, out, _ = call("list", "--kind", "depth", "--results", str(store.root))
    assert (code, len(out.strip().splitlines())) == (0, 3)
    code, _, err = call("list", "--kind", "depht", "--results", str(store.root))
    assert code == 2
    assert "there are circuits, depth" in err


def test_a_place_where_no_archive_can_be(store: Store, tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "file").touch()
    for out in ("folder.zip", "file/x.zip", "x" * 300 + ".zip"):
        code, _, err = call("export", str(tmp_path / out), "--results", str(store.root))
        assert code == 2
        assert err.startswith("mechshift: Can't write ")
    assert call("export", str(tmp_path / "new/x.zip"), "--results", str(store.root))[0] == 0


def test_one_result_is_shown_with_its_columns_meaning(store: Store) -> None:
    entry = entries(store)[1]
    code, out, _ = call("show", entry.name[:9], "--results", str(store.root))
    assert code == 0
    assert '"pair": "p"' in out
    assert "layer, from 0" in out
    assert dictionary(entries(store)[0])["meaning"].str.contains("example or step").all()
    with pytest.raises(ResultError, match="3 results begin with ''"):
        find(store, "")
    with pytest.raises(ResultError, match="No result begins with 'x'"):
        find(store, "x")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def change_key(folder: Path) -> None:
    path = folder / "provenance.json"
    record = json.loads(path.read_text())
    record["key"]["task"] = "other"
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda folder: flip(folder / "depth.parquet"), "not what was written"),
        (lambda folder: (folder / "depth.parquet").unlink(), "depth.parquet is missing"),
        (lambda folder: (folder / "more.parquet").touch(), "more.parquet was not written"),
        (lambda folder: (folder / "provenance.json").write_text("{"), "missing or damaged"),
        (change_key, "its key was changed"),
    ],
)
def test_any_damage_is_found_and_never_exported(store: Store, damage, fault, tmp_path) -> None:
    assert [found for _, found in verify(store)] == ["", "", ""]
    assert call("verify", "--results", str(store.root))[:2] == (0, "3 results, all whole.\n")
    damage(entries(store)[2].folder)
    faults = [found for _, found in verify(store)]
    assert faults[:2] == ["", ""]
    assert fault in faults[2]
    code, out, err = call("verify", "--results", str(store.root))
    assert code == 2
    assert fault in out
    assert err == ("mechshift: 1 of 3 results are damaged: delete their folders and run again.\n")
    with pytest.raises(ResultError, match="is damaged"):
        export(store, tmp_path / "all.zip")
    assert not (tmp_path / "all.zip").exists()


def test_an_archive_is_complete_and_the_same_every_time(store: Store, tmp_path: Path) -> None:
    assert export(store, tmp_path / "a.zip") == 3
    code, out, _ = call("export", str(tmp_path / "b.zip"), "--results", str(store.root))
    assert (code, out) == (0, f"Wrote 3 results to {tmp_path / 'b.zip'}\n")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
        names = set(archive.namelist())
        assert names == set(manifest["sha256"]) | {"manifest.json"}
        assert {"CITATION.cff", "LICENSE", "dictionary.csv"} <= names
        for name, expected in manifest["sha256"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == expected
        columns = pd.read_csv(io.BytesIO(archive.read("dictionary.csv")), dtype=str)
    assert set(zip(columns["kind"], columns["column"], strict=True)) == {
        ("circuits", "0"),
        ("circuits", "1"),
        ("depth", "layer"),
        ("depth", "value"),
    }


def test_no_results_and_a_wrong_name_are_one_sentence(tmp_path: Path, store: Store) -> None:
    code, _, err = call("list", "--results", str(tmp_path / "none"))
    assert code == 2
    assert "run mechshift run first" in err
    with pytest.raises(ResultError, match=r"must end in \.zip"):
        export(store, tmp_path / "all.tar")


def test_pages_are_held_against_the_results_they_name(store: Store, tmp_path: Path) -> None:
    """Whole, edited, made of what isn't there, and made of what is damaged."""
    folder = tmp_path / "book" / "executed" / "p"
    folder.mkdir(parents=True)
    names = {Path(entry.folder): f"{entry.kind}/{entry.name}" for entry in entries(store)}
    there = next(iter(names.values()))
    for page, used in (("whole", there), ("edited", there), ("gone", "depth/0000")):
        cell = nbformat.v4.new_markdown_cell("", metadata={"results": [used]})
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / f"{page}.ipynb")
        seal(folder / f"{page}.ipynb", folder / f".{page}.done")
    with (folder / "edited.ipynb").open("a") as file:
        file.write(" ")
    found = dict(workflow.faults_of_pages(store.root, tmp_path))
    assert found["p/whole"] == ""
    assert "isn't what its last run wrote" in found["p/edited"]
    assert "depth/0000, which it is made of, isn't stored" in found["p/gone"]
    damaged = next(path for path, name in names.items() if name == there)
    next(damaged.glob("*.parquet")).write_bytes(b"x")
    assert "is damaged" in dict(workflow.faults_of_pages(store.root, tmp_path))["p/whole"]


def test_verifying_the_book_is_a_sentence_and_an_exit_code(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = {"paper": ""}
    monkeypatch.setattr(workflow, "faults_of_pages", lambda _: iter(faults.items()))
    code, out, _ = call("verify", "--book", "--results", str(store.root))
    assert code == 0
    assert "1 executed pages, all whole" in out
    faults["speed"] = "it isn't what its last run wrote"
    code, out, err = call("verify", "--book", "--results", str(store.root))
    assert code == 2
    assert "speed: it isn't what its last run wrote" in out
    assert "1 of 2 executed pages" in err
