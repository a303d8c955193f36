"""Weights that a repository ships packed: xz takes a tenth off half-precision numbers, losslessly.

``adapter_model.safetensors.xz`` stands for the file without ``.xz``, bit by bit. It is unpacked
once, into the cache, and everything that reads weights or takes their hash reads that folder; so a
model's hash doesn't depend on how its weights are stored. ``xz FILE`` packs, ``unxz FILE`` unpacks.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
from functools import lru_cache
from pathlib import Path

from mechshift_lib.documents.cache import cache_root, made_once
from mechshift_lib.errors import ModelError

SUFFIX = ".xz"
#: What an unpacked file may have, in bytes: a packed one may say that it is without end.
LARGEST = 2**32
_CHUNK = 2**20


def unpacked(folder: Path) -> Path:
    """The folder with its weights as safetensors: itself, unless it has packed ones only.

    Raises:
        ModelError: packed weights are damaged or too large, or the cache can't be written.
    """
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    packed = [
        folder / name
        for name in sorted(names)
        if name.endswith(f".safetensors{SUFFIX}") and name.removesuffix(SUFFIX) not in names
    ]
    if not packed:
        return folder
    others = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix == ".json")
    states = [(file, file.stat()) for file in (*packed, *others)]
    content = _content(tuple((file, s.st_mtime_ns, s.st_size) for file, s in states))

    def fill(place: Path) -> None:
        for file in others:
            shutil.copyfile(file, place / file.name)
        for file in packed:
            _unpack(file, place / file.stem)

    return made_once(cache_root() / "unpacked" / content[:32], fill)


@lru_cache(maxsize=64)
def _content(files: tuple[tuple[Path, int, int], ...]) -> str:
    """sha256 over names and content, taken once as long as times and sizes are these."""
    digest = hashlib.sha256()
    for file, *_ in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _unpack(source: Path, target: Path) -> None:
    size = 0
    try:
        with lzma.open(source) as packed, target.open("wb") as file:
            while chunk := packed.read(_CHUNK):
                size += len(chunk)
                if size > LARGEST:
                    raise ModelError(
                        f"{source.name} holds more than {LARGEST // 2**30} GiB: unpack it (unxz) "
                        "where you trust it."
                    )
                file.write(chunk)
    except (lzma.LZMAError, EOFError) as error:
        raise ModelError(
            f"{source} is damaged: take it from the repository again, or train it again."
        ) from error
