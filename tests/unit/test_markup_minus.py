"""Negative numbers on pages have a true minus; ranges, code and tags keep their hyphens."""

from __future__ import annotations

import pandas as pd
import pytest

from mechshift_lib.analyses import page
from mechshift_lib.markup.minus import with_minus
from mechshift_lib.markup.tables import table_html


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-0.36 [-0.50, -.2]", "−0.36 [−0.50, −.2]"),
        ("by -3 points (-4 to -1)", "by −3 points (−4 to −1)"),
        ("top-5, 3-5, 1e-5, tiny-1, 2026-01-02", "top-5, 3-5, 1e-5, tiny-1, 2026-01-02"),
        ("`f -1` and -1", "`f -1` and −1"),
        ('<p style="margin: -1px">-1</p>', '<p style="margin: -1px">−1</p>'),
        ("7 - 3, --seed 0, - 1", "7 - 3, --seed 0, - 1"),
    ],
)
def test_only_negative_numbers_change(text: str, shown: str) -> None:
    assert with_minus(text) == shown


def test_pages_and_tables_show_it_and_sort_by_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(page, "display", shown.append)
    page.say("It falls by -0.2.")
    assert shown[0].data == "It falls by −0.2."  # type: ignore[attr-defined]
    table = pd.DataFrame({"text": ["-0.20 [-0.30, -0.10]"], "number": [-0.5]})
    html = table_html(table)
    assert '<td data-sort="-0.20"><span>−0.20</span> <span>[−0.30, −0.10]</span></td>' in html
    assert '<td data-sort="-0.5">−0.5</td>' in html


def test_heads_name_models_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(page, "display", shown.append)
    columns = ["task", "arm", "continued", "continued ARM", "mdm score", "x"]
    table = pd.DataFrame([["ioi", 1, 2, 3, 4, 5]], columns=columns)
    page.tabulate(table, heads={"x": "a head"})
    html = shown[0].data  # type: ignore[attr-defined]
    heads = ["task", "ARM", "continued ARM", "continued ARM", "MDM score", "a head"]
    assert "".join(f"<th>{head}</th>" for head in heads) in html
    assert "<td>IOI</td>" in html
