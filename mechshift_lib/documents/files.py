"""Files by name: the one place where what a user hands over is read, and a place to write checked.

Whatever is wrong (no such file, a folder, a dangling link, no permission, too large, not UTF-8,
not JSON, nested without end) becomes one sentence in an error of the caller's kind.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mechshift_lib.errors import MechshiftError

#: Bytes that a text file may have: a million long examples, and no device without end.
LARGEST = 2**28

#: Failures of the file system that the user can mend, with what to do. All others are defects.
MENDS = {
    errno.EACCES: "there is no permission: change the permission or name another place",
    errno.EPERM: "there is no permission: change the permission or name another place",
    errno.EROFS: "the disk is read-only: name another place",
    errno.ENOSPC: "the disk is full: make room or name another place",
    errno.EDQUOT: "the disk's quota is used up: make room or name another place",
    errno.EFBIG: "a file may not be that large: raise the limit (ulimit -f) or name another disk",
    errno.ENAMETOOLONG: "the name is too long: give a shorter one",
    errno.EISDIR: "it is a folder: name a file",
    errno.ENOTDIR: "a part of its path is a file, not a folder: correct the path",
    errno.ELOOP: "its links lead in a circle: correct the path",
    errno.EIO: "the disk reports an error: check it or name another place",
    errno.EINVAL: "the file system doesn't allow this: name another place",
}


def sentence_of(error: OSError, path: str | Path | None = None, doing: str = "use") -> str | None:
    """What went wrong with a file and what to change, or ``None`` where that isn't known.

    Args:
        error: what the file system said.
        path: the file, where the error doesn't name one.
        doing: what was tried: ``"use"``, ``"read"`` or ``"write"``.
    """
    mend = MENDS.get(error.errno or 0)
    where = error.filename if path is None else path
    if mend is None:
        return None
    return f"Can't {doing} {os.fsdecode(where)}: {mend}." if where is not None else f"{mend}."


@contextmanager
def speaking(kind: type[MechshiftError], path: str | Path, doing: str = "write") -> Iterator[None]:
    """Within, what the file system refuses about ``path`` is raised as a sentence of ``kind``."""
    try:
        yield
    except FileNotFoundError as error:
        raise kind(f"Can't {doing} {path}: there is no such file or folder.") from error
    except OSError as error:
        said = sentence_of(error, path, doing) or f"Can't {doing} {path}: {error.strerror}."
        raise kind(said) from error


def read_bytes(
    path: str | Path, what: str, kind: type[MechshiftError], largest: int = LARGEST
) -> bytes:
    """Content of a file or a pipe.

    Args:
        path: the file.
        what: what it should be, to begin a sentence: ``"Examples file"``.
        kind: the error to raise.
        largest: bytes that it may have.

    Raises:
        MechshiftError: of ``kind``: it is missing, a folder, a device, larger, or not permitted.
    """
    path = Path(path)
    with speaking(kind, f"{what[0].lower()}{what[1:]} {path}", "read"):
        if path.is_symlink() and not path.exists():
            raise kind(f"{what} {path} is a link that leads nowhere: correct it.")
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise kind(f"{what} {path} is a folder: name a file.")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise kind(f"{what} {path} is not a file: name a file.")
        content = bytearray()
        with path.open("rb") as file:  # a part at a time: a pipe has no size
            while len(content) <= largest and (part := file.read(2**20)):
                content += part
    if len(content) > largest:
        raise kind(f"{what} {path} is larger than {largest >> 20} MiB: give a smaller file.")
    return bytes(content)


def read_text(
    path: str | Path, what: str, kind: type[MechshiftError], largest: int = LARGEST
) -> str:
    """Text of a UTF-8 file, with or without a byte order mark; arguments as :func:`read_bytes`."""
    try:
        return read_bytes(path, what, kind, largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(
            f"{what} {path} is not UTF-8 text (at byte {error.start}): save it as UTF-8."
        ) from error


def read_json(
    path: str | Path, what: str, kind: type[MechshiftError], largest: int = LARGEST
) -> Any:
    """Content of a JSON file; arguments as :func:`read_bytes`."""
    try:
        return json.loads(read_text(path, what, kind, largest))
    except ValueError as error:
        raise kind(f"{what} {path} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise kind(f"{what} {path} is nested too deeply: give flat JSON.") from error


def real_path(path: Path) -> Path:
    """The path from the root, without links; one whose links lead in a circle stays as it is.

    ``Path.resolve`` fails on those, and only on some versions of Python.
    """
    return Path(os.path.realpath(path))


def check_place(out: str | Path, kind: type[MechshiftError]) -> None:
    """Refuse a place where no file can be written, before anything is computed for it.

    Raises:
        MechshiftError: of ``kind``: it is a folder, its name is too long, a part of its path is a
            file, or writing isn't permitted.
    """
    out = Path(out)
    with speaking(kind, out):
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with suppress(FileNotFoundError):  # it will be made
            out.lstat()
        folder = out.absolute().parent
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
