"""Tables on a page: what is written, what is sorted by, what is saved."""

from __future__ import annotations

import base64

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_output

from mechshift_lib.markup.numbers import number
from mechshift_lib.markup.tables import LONG, MANY, MISSING, MOST, sort_key, table_html


def soup_of(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def test_cells_are_written_in_their_format_and_escaped() -> None:
    table = pd.DataFrame({"token <x>": ["<s>", "b"], "score": [0.5, np.nan], "n": [1000, 7]})
    soup = soup_of(table_html(table, {"score": "{:+.2f}"}))
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in soup("tr")]
    assert rows == [["token <x>", "score", "n"], ["<s>", "+0.50", "1000"], ["b", MISSING, "7"]]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (0.25, "0.25"),
        (np.int64(3), "3"),
        (True, "1"),
        (np.bool_(False), "0"),
        ("0.41 [0.36, 0.47]", "0.41"),
        ("−3.5 points", "-3.5"),
        ("-12 %", "-12"),
        ("1,108 edges", "1108"),
        ("+0.5", "0.5"),
        ("IOI", ""),
        ("a1.h0", ""),
        ("… : 25 . Equation", ""),
    ],
)
def test_a_cell_sorts_by_its_number(value: object, key: str) -> None:
    assert sort_key(value) == key


@pytest.mark.parametrize(
    ("text", "kind", "parts"),
    [
        ("a1.h0<q>", None, []),  # an edge
        ("continued ARM", "words", []),
        ("x " * LONG, "long", []),
        ("0.41 [0.36, 0.47]", None, ["0.41", "[0.36, 0.47]"]),
        ("−24 [−27, −21] (n = 5)", None, ["−24", "[−27, −21]", "(n = 5)"]),
        ("100 [79, 100], 5 of 16", None, ["100", "[79, 100],", "5 of 16"]),
        ("+7.9 percentage points [+6.3, +9.5]", "words", []),
        ("+12.4 percentage points of accuracy [−66.5, +91.3]", "words", []),
        ("13 10 20. Target: 17. Equation: 13 + 10 + " * 2, "long", []),
    ],
)
def test_words_may_take_several_lines_and_a_number_stays_whole(
    text: str, kind: str | None, parts: list[str]
) -> None:
    [cell] = soup_of(table_html(pd.DataFrame({"a": [text]})))("td")
    assert cell.get("class") == (None if kind is None else [kind])
    assert [part.get_text() for part in cell("span")] == parts
    assert cell.get_text() == text


def test_only_long_tables_are_searched() -> None:
    for rows, long in ((MANY - 1, False), (MANY, True)):
        [table] = soup_of(table_html(pd.DataFrame({"a": range(rows)})))("table")
        assert ("mechshift-long" in table["class"]) is long
        assert "sortable" in table["class"]


def test_a_very_long_table_is_shown_in_part_and_saved_whole() -> None:
    for rows, shown in ((MOST, MOST), (MOST + 1, MOST)):
        soup = soup_of(table_html(pd.DataFrame({"a": range(rows)})))
        assert len(soup("td")) == shown
        whole = rows == shown
        assert ("sortable" in soup.table["class"]) is whole  # a part would sort wrongly
        said = [] if whole else [f"The first {MOST} of {rows} rows; the file has all."]
        assert [p.get_text() for p in soup("p", class_=False)] == said
        kind, content = soup.select("a[download]")[0]["href"].split(",")
        assert kind == "data:text/csv;base64"
        assert base64.b64decode(content).decode().splitlines() == ["a", *map(str, range(rows))]


def test_a_table_has_a_file_of_its_page_and_a_fold_keeps_its_own() -> None:
    plain = table_html(pd.DataFrame({"a": [1]}))
    folded = f"<details>{table_html(pd.DataFrame({'a': [1]}), name='toy-depths')}</details>"
    outputs = [new_output("display_data", {"text/html": html}) for html in (plain, folded, "<b/>")]
    number([new_code_cell("x", outputs=outputs)], "toy-chapter")
    saved = [
        [link["download"] for link in soup_of(o.data["text/html"]).select("a[download]")]
        for o in outputs
    ]
    assert saved == [["toy-chapter-table-1.csv"], ["toy-depths.csv"], []]
    links = [link["href"] for link in soup_of(outputs[0].data["text/html"]).select("a")[1:]]
    assert links == ["#code-of-toy-chapter-table-1", "#provenance"]
    assert outputs[2].data["text/html"] == "<b/>"
