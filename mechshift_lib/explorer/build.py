"""Writes the explorer's files, where something that they are made of has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.provenance import code_hash
from mechshift_lib.workflow import default_pairs

#: Where the files go, relative to the checkout; the book copies what is in ``static``.
FOLDER = Path("book") / "generated" / "static" / "explorer"
#: Says of what the files are made.
STAMP = FOLDER / "made_of.txt"
#: What they are made of, relative to the checkout: scores, and the models that these are of.
INPUTS = ("data/pairs", "data/scores", "data/trajectories", "data/models", "data/tables")
#: Kinds of stored results that they are made of.
KINDS = ("answers", "circuits", "explored")
ROOMS = (
    "explorer",
    "comparison",
    "analyses/circuits",
    "analyses/scores",
    "analyses/shipped",
    "plots/theme",
    "plots/palette",
)


def write_explorer(root: Path = ROOT, results: str = "results") -> int:
    """Write ``index.js`` and a file for each training's circuits; returns how many were written.

    Nothing is written, and no heavy package imported, where nothing has changed since. Files of
    circuits that are gone are removed.

    Raises:
        ResultError: a file of scores is damaged.
    """
    made_of = _stamp(root, results)
    stamp = root / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of:
        return 0
    from mechshift_lib.explorer.files import Entry, index, name_of
    from mechshift_lib.explorer.sources import reading
    from mechshift_lib.explorer.stored import files_of

    folder = root / FOLDER
    stamp.unlink(missing_ok=True)  # a killed run leaves files that aren't taken for whole
    written, entries = set(), []
    for name in default_pairs(root):
        study = reading(name, results, root)
        entry = Entry(load_pair(name, root))
        for found, text in files_of(study):
            path = folder / f"{name_of(name, found)}.js"
            write_atomic(path, text)
            entry.add(found)
            written.add(path)
        entries.append(entry)
    written.add(write_atomic(folder / "index.js", index(entries)))
    for path in set(folder.rglob("*.js")) - written:
        path.unlink()
    write_atomic(stamp, made_of)
    return len(written)


def _stamp(root: Path, results: str) -> str:
    """Hash over code, and over names, sizes and times of files."""
    digest = hashlib.sha256(code_hash(*ROOMS).encode())
    for path in _inputs(root, results):
        state = path.stat()
        about = f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n"
        digest.update(about.encode())
    return digest.hexdigest() + "\n"


def _inputs(root: Path, results: str) -> Iterator[Path]:
    for part in INPUTS:
        for folder, _, names in sorted(os.walk(root / part)):
            yield from (Path(folder, name) for name in sorted(names))
    for kind in KINDS:
        # Each is a folder that is never written to again.
        yield from sorted((root / results / kind).glob("*"))
    yield root / "workflow" / "config.yaml"
