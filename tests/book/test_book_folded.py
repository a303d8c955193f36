"""Folded tables in a real browser: what is typed in hides the rows that don't have it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from IPython.display import HTML

from mechshift_lib.analyses import page
from tests.book.browser import FRAME, ask, serve

pytestmark = pytest.mark.browser
COUNT = """(() => {
  const field = d.querySelector('input[type=search]');
  field.value = %r;
  field.dispatchEvent(new Event('input'));
  return [...d.querySelectorAll('tbody tr')].filter(row => !row.hidden).length;
})()"""


@pytest.mark.parametrize(("typed", "left"), [("", 3), ("A1.H", 2), ("m0", 1), ("nowhere", 0)])
def test_a_folded_table_can_be_searched(tmp_path: Path, monkeypatch, typed: str, left: int) -> None:
    shown: list[HTML] = []
    monkeypatch.setattr(page, "display", shown.append)
    table = pd.DataFrame({"component": ["a1.h0", "a1.h1", "m0"], "value": [0.25, 0.5, 1.0]})
    page.fold(table, "Every component", "toy")
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{shown[0].data}</body>")
    (tmp_path / "frame.html").write_text(FRAME)
    with serve(tmp_path) as address:
        assert ask(address, "page.html", COUNT % typed) == left
