"""What the tests of the pages need besides a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from mechshift_lib.config import ROOT
from tests.book.browser import FRAME, serve

if TYPE_CHECKING:
    from tests.book.play_engine import Engine

#: Where `make axe` puts it; not in git.
AXE = ROOT / ".cache" / "axe" / "axe.min.js"


@pytest.fixture(scope="session")
def axe() -> Path:
    """axe-core, which looks for faults of access; its absence is an error, never a skip."""
    if not AXE.is_file():
        raise RuntimeError("These tests need axe-core: run `make test`, or `make axe` once.")
    return AXE


@pytest.fixture(scope="session")
def copy_of_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a copy of the made-up book, which is built once for all processes of the tests."""
    from tests.book.make_site import make_site

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    original, whole = shared / "site", shared / "site.whole"
    with FileLock(shared / "site.lock"):
        if not whole.exists():
            shutil.rmtree(original, ignore_errors=True)  # of a build that failed
            original.mkdir()
            make_site(original)
            whole.touch()

    def copied(name: str) -> Path:
        folder = shutil.copytree(original, tmp_path_factory.mktemp(name) / "book", symlinks=True)
        pages = folder / "_build" / "html"
        (pages / "frame.html").write_text(FRAME)
        return pages

    return copied


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A page that runs every shipped model of the tiny pairs."""
    # Not at the top: tests that look at pages only need no torch.
    from tests.book.make_play import make_play
    from tests.book.play_engine import PAIRS, Engine

    folder = tmp_path_factory.mktemp("engine")
    (folder / "frame.html").write_text(FRAME)
    entries = make_play(folder, PAIRS)
    with serve(folder) as address:
        yield Engine(address, folder, entries)
