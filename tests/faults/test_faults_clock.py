"""A clock that is set back, before a run or within it: no page passes for fresh that isn't.

Takes half a minute; `make test-faults` runs it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support import toy

pytestmark = pytest.mark.faults
DAY = 86_400 * 10**9


def shift(folder: Path, by: int) -> None:
    """Move the times of all that the workflow made: as if the clock had stood elsewhere."""
    for path in [*(folder / "book").rglob("*"), *(folder / ".snakemake").rglob("*")]:
        state = path.stat()
        os.utime(path, ns=(state.st_atime_ns + by, state.st_mtime_ns + by))


def said(folder: Path) -> str:
    code, output = toy.run(folder)
    assert code == 0, output
    return toy.page(folder).read_text(encoding="utf-8")


def test_what_is_edited_after_the_clock_was_set_back_is_made_anew(tmp_path: Path) -> None:
    folder = toy.make_toy(tmp_path / "toy")
    assert "first" in said(folder)
    shift(folder, DAY)
    toy.write_chapter(folder, "print('second')")
    assert "second" in said(folder)
    before = toy.page(folder).stat()
    assert "second" in said(folder)
    assert toy.page(folder).stat() == before  # and is not made again and again


def test_a_clock_set_back_within_a_run_costs_one_more_run_at_most(tmp_path: Path) -> None:
    """The page is then older than what it was made of."""
    folder = toy.make_toy(tmp_path / "toy")
    assert "first" in said(folder)
    stamp = toy.page(folder).with_name(".behaviour.made_of")
    ahead = time.time_ns() + DAY
    os.utime(stamp, ns=(ahead, ahead))
    assert "first" in said(folder)
    before = toy.page(folder).stat()
    assert "first" in said(folder)
    assert toy.page(folder).stat() == before
