"""What a folder of results holds: listing it, checking every byte, and one archive to publish.

The archive is the same, byte for byte, whenever it is made from the same results: entries are
sorted and carry no time of their own.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as parquet

from mechshift_lib.config import ROOT
from mechshift_lib.documents.files import check_place, speaking
from mechshift_lib.errors import ResultError
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.columns import meaning
from mechshift_lib.results.provenance import SCHEMA
from mechshift_lib.results.store import Store, address, read_provenance

#: Files of the repository that go into an archive.
BESIDE = ("CITATION.cff", "LICENSE")


@dataclass(frozen=True)
class Entry:
    """One stored result.

    Attributes:
        kind: what sort of result it is.
        name: its address, the name of its folder.
        folder: where it is.
    """

    kind: str
    name: str
    folder: Path

    def record(self) -> dict[str, Any]:
        """Its provenance.

        Raises:
            ResultError: it is missing, damaged or of another schema.
        """
        return read_provenance(self.folder)


def entries(store: Store) -> list[Entry]:
    """Every finished result of a store, sorted; folders that a killed run left are not among them.

    Raises:
        ResultError: there is no such folder.
    """
    if not store.root.is_dir():
        raise ResultError(f"There are no results in {store.root}: run mechshift run first.")
    found = (
        Entry(folder.parent.name, folder.name, folder)
        for folder in store.root.glob("*/*")
        if folder.is_dir() and not folder.name.startswith(".") and len(folder.name) == 20
    )
    return sorted(found, key=lambda entry: (entry.kind, entry.name))


def listing(store: Store) -> pd.DataFrame:
    """One row a result: kind, name, pair, role, task, created, commit, tables, kilobytes.

    What a result's key doesn't have is empty; a damaged result says so in ``created``.
    """
    rows = []
    for entry in entries(store):
        size = sum(f.stat().st_size for f in entry.folder.glob("*") if f.is_file())
        row: dict[str, Any] = {"kind": entry.kind, "name": entry.name}
        try:
            record = entry.record()
        except ResultError:
            record = {"created": "damaged", "key": {}, "files": {}}
        key = record.get("key", {})
        row |= {field: str(key.get(field, "")) for field in ("pair", "role", "task")}
        row |= {
            "created": record.get("created", ""),
            "commit": (record.get("commit") or "")[:10],
            "tables": len(record["files"]),
            "kilobytes": round(size / 1000, 1),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def find(store: Store, name: str) -> Entry:
    """The result whose address begins with ``name``.

    Raises:
        ResultError: none does, or several do.
    """
    found = [entry for entry in entries(store) if entry.name.startswith(name)]
    if len(found) != 1:
        many = f"{len(found)} results begin" if found else "No result begins"
        raise ResultError(f"{many} with {name!r}: give more of a name from mechshift results list.")
    return found[0]


def dictionary(entry: Entry) -> pd.DataFrame:
    """One row a column of a result's tables: table, column, type, rows, meaning.

    Raises:
        ResultError: the result is damaged.
    """
    rows = []
    for file in sorted(entry.record()["files"]):
        try:
            table = parquet.ParquetFile(entry.folder / file)
        except (OSError, ValueError) as error:
            raise ResultError(
                f"{entry.folder / file} is missing or damaged: delete the folder "
                f"{entry.folder} and run again."
            ) from error
        for field in table.schema_arrow:
            rows.append(
                {
                    "kind": entry.kind,
                    "table": file.removesuffix(".parquet"),
                    "column": field.name,
                    "type": str(field.type),
                    "rows": table.metadata.num_rows,
                    "meaning": meaning(field.name),
                }
            )
    return pd.DataFrame(rows)


def verify(store: Store) -> Iterator[tuple[Entry, str]]:
    """Every result with what is wrong with it; the empty text where nothing is.

    Every file is hashed again, and the address computed again from the key.
    """
    for entry in entries(store):
        yield entry, _fault(entry)


def _fault(entry: Entry) -> str:
    try:
        record = entry.record()
    except ResultError as error:
        return str(error)
    for file, expected in record["files"].items():
        path = entry.folder / file
        if not path.is_file():
            return f"{file} is missing"
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            return f"{file} is not what was written"
    extra = {f.name for f in entry.folder.glob("*")} - set(record["files"]) - {"provenance.json"}
    if extra:
        return f"{', '.join(sorted(extra))} was not written by the run"
    if address(record.get("kind", ""), record.get("key", {})) != entry.name:
        return "its key was changed"
    return ""


def export(store: Store, out: Path, root: Path = ROOT) -> int:
    """Write all results as one zip archive, as Zenodo or OSF take it.

    Beside the results it holds the licence, how to cite, ``dictionary.csv`` (every column of every
    kind of table) and ``manifest.json`` (sha256 of every file).

    Args:
        store: the results.
        out: where the archive goes, ``.zip``.
        root: the checkout, for licence and citation.

    Returns:
        How many results it holds.

    Raises:
        ResultError: there is none, or one is damaged; ``out`` is then left as it was.
    """
    if out.suffix != ".zip":
        raise ResultError(f"Can't write {out.name!r}: its name must end in .zip.")
    check_place(out, ResultError)
    found = entries(store)
    if not found:
        raise ResultError(f"There are no results in {store.root}: run mechshift run first.")
    for entry in found:
        if fault := _fault(entry):
            raise ResultError(
                f"{entry.kind}/{entry.name} is damaged ({fault.rstrip('.')}): delete its folder "
                "and run again."
            )
    files = {name: root / name for name in BESIDE}
    for entry in found:
        for path in sorted(entry.folder.iterdir()):
            files[f"results/{entry.kind}/{entry.name}/{path.name}"] = path
    columns = pd.concat([dictionary(entry) for entry in found], ignore_index=True)
    columns = columns.drop(columns="rows").drop_duplicates().sort_values(["kind", "table"])
    made = {"dictionary.csv": columns.to_csv(index=False).encode()}

    def fill(temporary: Path) -> None:
        hashes = {}
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files | made):
                content = made[name] if name in made else files[name].read_bytes()
                hashes[name] = hashlib.sha256(content).hexdigest()
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
            manifest = {"schema": SCHEMA, "results": len(found), "sha256": hashes}
            text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
            archive.writestr(zipfile.ZipInfo("manifest.json"), text, zipfile.ZIP_DEFLATED)

    with speaking(ResultError, out):
        write_atomic(out, fill)
    return len(found)
