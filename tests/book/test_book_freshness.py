"""A page that is not fresh says so at its top; the other pages are not built again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mechshift_lib.config import ROOT

PAGES = ("toy/behaviour", "toy/circuits")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Sphinx project of two pages, with this book's extension."""
    (tmp_path / "book" / "_ext").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "_ext" / "freshness.py", tmp_path / "book" / "_ext")
    (tmp_path / "conf.py").write_text(
        "import sys\nsys.path.insert(0, 'book/_ext')\nextensions = ['freshness']\n"
    )
    names = "\n".join(f"   book/executed/{page}" for page in PAGES)
    (tmp_path / "index.rst").write_text(f"Book\n====\n\n.. toctree::\n\n{names}\n")
    for page in PAGES:
        path = tmp_path / "book" / "executed" / f"{page}.rst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Chapter\n=======\n\nText.\n")
    return tmp_path


def build(source: Path, stale: list[str]) -> dict[str, str]:
    (source / "book" / "generated").mkdir(exist_ok=True)
    (source / "book" / "generated" / "stale.json").write_text(json.dumps(stale))
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ".", "_build"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = source / "_build" / "book" / "executed"
    return {page: (pages / f"{page}.html").read_text(encoding="utf-8") for page in PAGES}


def test_only_pages_that_are_not_fresh_say_so(source: Path) -> None:
    fresh = build(source, [])
    assert not any("Not fresh" in text for text in fresh.values())
    other = source / "_build" / "book" / "executed" / "toy" / "behaviour.html"
    before = other.stat().st_mtime_ns
    stale = build(source, ["toy/circuits"])
    assert "of its last success" in stale["toy/circuits"]
    assert stale["toy/behaviour"] == fresh["toy/behaviour"]
    assert other.stat().st_mtime_ns == before
    assert build(source, ["toy/circuits"]) == stale
    assert build(source, []) == fresh
