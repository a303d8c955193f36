"""Results that a repository ships, so that a book needn't compute those of every training again.

One zip archive holds folders of the store as they are, ``KIND/ADDRESS/`` with their tables and
provenance. A result is used for a key that asks the same of the same weights; which code computed
it is noted, not compared (a test computes a sample anew).
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from mechshift_lib.errors import ResultError
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.provenance import SCHEMA
from mechshift_lib.results.store import Frames, address, canonical, read_provenance

#: Fields of a key that may differ: how it was computed, not what.
FREE = ("code", "device")
_PROVENANCE = "provenance.json"
#: The archive's entries carry no time of their own, so the same results give the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)


def about(key: Mapping[str, Any]) -> str:
    """What was asked of which weights, as JSON: the key without :data:`FREE`."""
    return canonical({name: value for name, value in key.items() if name not in FREE})


def about_address(kind: str, key: Mapping[str, Any]) -> str:
    """An address that doesn't change with the code, to name one result in another's key."""
    return address(kind, json.loads(about(key)))


def find(path: Path, kind: str, key: Mapping[str, Any]) -> tuple[Frames, dict[str, Any]] | None:
    """The kept tables of a key and their provenance; None where there are none.

    The provenance is that of the computation, and ``shipped`` in it the hash of its code.

    Raises:
        ResultError: the archive is damaged.
    """
    if not path.is_file():
        return None
    state = path.stat()
    try:
        folder = _index(path, state.st_mtime_ns, state.st_size).get((kind, about(key)))
        if folder is None:
            return None
        with zipfile.ZipFile(path) as archive:
            record = json.loads(archive.read(f"{folder}/{_PROVENANCE}"))
            # Reading an entry checks its sum.
            frames = {
                Path(name).stem: pd.read_parquet(BytesIO(archive.read(f"{folder}/{name}")))
                for name in record["files"]
            }
    except (zipfile.BadZipFile, zlib.error, OSError, KeyError, ValueError, EOFError) as error:
        raise ResultError(
            f"{path} is damaged: take it from the repository again, or delete it and its results "
            "are computed."
        ) from error
    return frames, record | {"shipped": record["key"].get("code")}


@lru_cache(maxsize=16)
def _index(path: Path, _mtime_ns: int, _size: int) -> dict[tuple[str, str], str]:
    """Kind and :func:`about` of every result of an archive -> its folder there."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(f"/{_PROVENANCE}"):
                record = json.loads(archive.read(name))
                if record["schema"] == SCHEMA:
                    folder = name.removesuffix(f"/{_PROVENANCE}")
                    found[folder.split("/")[0], about(record["key"])] = folder
    return found


def keep(path: Path, folders: Iterable[Path]) -> Path:
    """Write stored results into an archive that :func:`find` reads; returns its path.

    Args:
        path: the archive; one that is there is replaced.
        folders: of the results in the store.

    Raises:
        ResultError: a result is missing or damaged.
    """
    wanted = sorted({(folder.parent.name, folder.name): folder for folder in folders}.items())

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for (kind, name), folder in wanted:
                for file in (*sorted(read_provenance(folder)["files"]), _PROVENANCE):
                    entry = zipfile.ZipInfo(f"{kind}/{name}/{file}", _TIME)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, (folder / file).read_bytes())

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, write)
    return path
