"""Writes the page's models and prompts, where something that they are made of has changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.provenance import code_hash
from mechshift_lib.workflow import default_pairs

#: Where the files go, relative to the checkout; the book copies what is in ``static``.
FOLDER = Path("book") / "generated" / "static" / "play"
#: Says of what the files are made.
STAMP = FOLDER / "made_of.txt"
#: What they are made of, relative to the checkout.
INPUTS = ("data/pairs", "data/models")
ROOMS = ("play", "tasks", "config", "diffusion/samplers", "analyses/study", "plots/theme")


def write_play(root: Path = ROOT) -> int:
    """Write ``index.js`` and a file for each model; returns how many were written.

    Nothing is written, and no heavy package imported, where nothing has changed since. Files of
    models that are gone are removed.

    Raises:
        ModelError: a model's files are damaged.
    """
    made_of, stamp = _stamp(root), root / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of:
        return 0
    from mechshift_lib.play.files import index
    from mechshift_lib.play.sources import playable

    folder = root / FOLDER
    stamp.unlink(missing_ok=True)  # a killed run leaves files that aren't taken for whole
    written: set[Path] = set()

    def write(name: str, content: str) -> None:
        written.add(write_atomic(folder / f"{name}.js", content))

    found = [playable(load_pair(name, root), write, root) for name in default_pairs(root)]
    write("index", index([entry for entry in found if entry is not None]))
    for path in set(folder.rglob("*.js")) - written:
        path.unlink()
    write_atomic(stamp, made_of)
    return len(written)


def _stamp(root: Path) -> str:
    """Hash over code, and over names, sizes and times of files."""
    digest = hashlib.sha256(code_hash(*ROOMS).encode())
    paths = [root / "workflow" / "config.yaml"]
    for part in INPUTS:
        for folder, _, names in sorted(os.walk(root / part)):
            paths += [Path(folder, name) for name in sorted(names)]
    for path in paths:
        state = path.stat()
        digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest() + "\n"
