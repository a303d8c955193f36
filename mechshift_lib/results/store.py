"""Tables that are computed once: parquet files under the hash of everything they depend on.

``results/<kind>/<hash>/`` holds one parquet file a table and ``provenance.json``. The folder is
written under a temporary name, synced and renamed, so a killed run leaves nothing that looks like
a result. Every read checks the files against the hashes noted when they were written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mechshift_lib.config import ROOT
from mechshift_lib.documents.files import speaking
from mechshift_lib.errors import ResultError
from mechshift_lib.results.atomic import sync_file, sync_folder
from mechshift_lib.results.provenance import SCHEMA, provenance

#: A file that, when this variable names one, gets the folder of every result used, one a line.
USED = "MECHSHIFT_RESULTS_USED"

Frames = dict[str, pd.DataFrame]
State = tuple[tuple[str, int, int], ...]

#: Bytes of a result's files up to which its tables are remembered, and of all that are.
SMALL, REMEMBERED = 2**20, 2**26
_RECENT: OrderedDict[Path, tuple[State, Frames]] = OrderedDict()


def canonical(key: Mapping[str, Any]) -> str:
    """The one JSON text of a key: order of its fields doesn't count.

    Raises:
        ResultError: the key holds something that JSON doesn't (an array, NaN, an object).
    """
    try:
        text = json.dumps(key, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ResultError(f"The key of a result must be plain JSON: {error}.") from error
    return text


def address(kind: str, key: Mapping[str, Any]) -> str:
    """Name of the folder of a result: the first 20 hex digits of a sha256."""
    return hashlib.sha256(f"{SCHEMA}\0{kind}\0{canonical(key)}".encode()).hexdigest()[:20]


def _file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder of results; a relative ``root`` starts at the checkout's root."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", ROOT / self.root)

    def folder(self, kind: str, key: Mapping[str, Any]) -> Path:
        """Where the result of this key is, or would be."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9_\-]*", kind):
            raise ResultError(f"{kind!r} can't name a kind of result: use a-z, 0-9, '-' and '_'.")
        return self.root / kind / address(kind, key)

    def frames(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[], Frames],
        kept: Callable[[], tuple[Frames, dict[str, Any]] | None] | None = None,
    ) -> Frames:
        """The tables of this key, read from disk, or computed, stored and then read from disk.

        The first call and every later one return the same tables, dtypes included, as both read
        the stored files.

        Args:
            kind: what sort of result it is; names a folder.
            key: everything the result depends on, as plain JSON: parameters, seeds, hashes of
                models, of data and of code. Fields ``seed``, ``device``, ``dtype``, ``models`` and
                ``dataset`` are repeated at the top of the provenance.
            compute: makes the tables, ``{name: table}``; called only where there is no result.
            kept: asked first where there is none: the tables and their provenance, as they were
                computed elsewhere (:mod:`mechshift_lib.results.kept`), or None.

        Raises:
            ResultError: the key isn't JSON, ``compute`` gave no table, a stored file is damaged, or
                nothing can be written.
        """
        folder = self.folder(kind, key)
        if not folder.exists():
            found = kept() if kept is not None else None
            if found is not None:
                self._write(folder, kind, key, *found)
            else:
                began = time.perf_counter()
                frames = compute()
                made = {"wall_seconds": round(time.perf_counter() - began, 3)}
                self._write(folder, kind, key, frames, made)
        frames = read(folder)
        if os.environ.get(USED):
            with open(os.environ[USED], "a", encoding="utf-8") as used:
                used.write(f"{folder}\n")
        return frames

    def provenance(self, kind: str, key: Mapping[str, Any]) -> dict[str, Any]:
        """The provenance of a stored result.

        Raises:
            ResultError: there is no such result, or its provenance is damaged.
        """
        return read_provenance(self.folder(kind, key))

    def _write(
        self,
        folder: Path,
        kind: str,
        key: Mapping[str, Any],
        frames: Frames,
        made: Mapping[str, Any],
    ) -> None:
        """Write a result; ``made`` is what its provenance says of how the tables were made.

        Raises:
            ResultError: there is no table, or the disk is full, read-only and the like.
        """
        if not frames:
            raise ResultError(f"The computation of {kind!r} gave no table to store.")
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
        with speaking(ResultError, folder):
            temporary.mkdir(parents=True)
            try:
                _fill(temporary, kind, key, frames, made)
                try:
                    temporary.rename(folder)
                except OSError:
                    if not folder.exists():  # else another process stored the same result first
                        raise
                sync_folder(folder.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)



def read(folder: Path) -> Frames:
    """The tables of a result; small ones that were read before are remembered.

    Chapters ask hundreds of times which examples are solved. What is remembered counts only while
    the files are those that were read and checked.
    """
    state = _state(folder)
    known = _RECENT.get(folder)
    if known is not None and known[0] == state:
        _RECENT.move_to_end(folder)
        return {name: frame.copy() for name, frame in known[1].items()}
    _RECENT.pop(folder, None)
    frames = {}
    for name, expected in read_provenance(folder)["files"].items():
        path = folder / name
        if not path.is_file() or _file_hash(path) != expected:
            raise ResultError(
                f"{path} is missing or damaged: delete the folder {folder} and run again."
            )
        frames[path.stem] = pd.read_parquet(path)
    if state is not None and _size(state) <= SMALL:
        _RECENT[folder] = state, {name: frame.copy() for name, frame in frames.items()}
        while sum(_size(known) for known, _ in _RECENT.values()) > REMEMBERED:
            _RECENT.popitem(last=False)
    return frames


def _size(state: State) -> int:
    return sum(size for _, _, size in state)


def _state(folder: Path) -> State | None:
    """Name, time and size of every file of a result; None where it can't be looked at."""
    try:
        with os.scandir(folder) as files:
            found = [(file.name, file.stat()) for file in files]
    except OSError:
        return None
    return tuple(sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in found))


def _fill(
    folder: Path, kind: str, key: Mapping[str, Any], frames: Frames, made: Mapping[str, Any]
) -> None:
    """Write the files of a result and sync them, its provenance last."""
    for name, frame in frames.items():
        frame.reset_index(drop=True).to_parquet(folder / f"{name}.parquet")
        sync_file(folder / f"{name}.parquet")
    lifted = {
        field: key[field]
        for field in ("seed", "device", "dtype", "models", "dataset")
        if field in key
    }
    record = provenance() | dict(made)
    record |= lifted | {"kind": kind, "key": json.loads(canonical(key))}
    record["files"] = {
        f"{name}.parquet": _file_hash(folder / f"{name}.parquet") for name in frames
    }
    path = folder / "provenance.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sync_file(path)
    sync_folder(folder)


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read ``provenance.json`` of a result.

    Raises:
        ResultError: it is missing, damaged or of another schema.
    """
    path = folder / "provenance.json"
    mend = f"delete the folder {folder} and run again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema, files = record["schema"], record["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{path} is missing or damaged: {mend}.") from error
    if schema != SCHEMA or not isinstance(files, dict) or not files:
        raise ResultError(f"{path} has schema {schema!r} instead of {SCHEMA}: {mend}.")
    return record
