"""Files that are either whole or not there: written beside their place, synced, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames inside ``folder`` survive a power cut (where folders can be synced)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows has no handle to a folder
        return
    try:
        os.fsync(handle)
    except OSError:  # some network file systems refuse
        pass
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush ``path`` to the disk."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def temporary_beside(path: Path) -> Path:
    """An unused hidden name in the folder of ``path``, so that a rename stays on one disk."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def write_atomic(path: Path, content: str | bytes | Callable[[Path], None]) -> Path:
    """Write ``path`` whole or not at all, and replace an older file of that name.

    Args:
        path: where the file belongs; its folder is made where it is missing.
        content: text, bytes, or a function that writes the file whose path it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        if callable(content):
            content(temporary)
        elif isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            temporary.write_text(content, encoding="utf-8")
        sync_file(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return path
