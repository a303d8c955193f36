"""A table on a page: it scrolls by itself, sorts by its columns, and can be searched and saved.

Sorting and searching are the page's script's (``book/static/tables.js``); without it the table is
as it is. What a column sorts by stands in its cells, because numbers are written in many ways.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.markup.figures import tools
from mechshift_lib.markup.minus import with_minus

#: Rows from which on a table has a field that searches it.
MANY = 9
#: Rows that a page shows at most: who wants more sorts and searches in the file that is saved.
MOST = 250
#: Characters from which on words may take several lines, and from which on they keep more room.
WORDS, LONG = 12, 60
#: Characters up to which what begins with a number stays on one line.
WHOLE = 16
#: What stands for no number.
MISSING = "–"
#: Where a number and its interval, or what else is in brackets, may part.
_PARTS = re.compile(r"\s+(?=[\[(])|(?<=[\])])\s+|(?<=[\])],)\s+")
_NUMBER = re.compile(r"^[^\d\w]{0,2}?([-−+]?)(\d[\d,]*\.?\d*)")


def table_html(
    table: pd.DataFrame,
    formats: Mapping[str, str] | None = None,
    *,
    source: pd.DataFrame | None = None,
    name: str = "table",
    searched: bool = True,
) -> str:
    """A table with what can be done with it; of a very long one, its beginning and all in a file.

    Args:
        table: the table; its index isn't shown.
        formats: column -> format of its values, such as ``{"score": "{:.2f}"}``.
        source: what is saved, if not the table itself.
        name: of the file that is saved, without ending.
        searched: whether the page adds a field that searches it, where it is long.
    """
    heads = "".join(f"<th>{escape(str(column), quote=False)}</th>" for column in table.columns)
    lines = []
    for row in table.head(MOST).itertuples(index=False, name=None):
        cells = zip(table.columns, row, strict=True)
        lines.append("<tr>" + "".join(_cell(v, (formats or {}).get(c)) for c, v in cells) + "</tr>")
    kinds = "sortable n-last asc" if len(table) <= MOST else "mechshift-part"
    kinds += " mechshift-long" if searched and MANY <= len(table) <= MOST else ""
    body = "\n".join(lines)
    rest = f"<p>The first {MOST} of {len(table):,} rows; the file has all.</p>"
    return (
        f'<div class="mechshift-table">{rest if len(table) > MOST else ""}'
        '<div style="overflow-x: auto">'
        f'<table class="{kinds}"><thead><tr>{heads}</tr></thead>'
        f"\n<tbody>{body}</tbody></table>"
        f"</div>{tools({name: table if source is None else source}, name)}</div>"
    )


def _cell(value: Any, form: str | None) -> str:
    """A cell, and what it sorts by where that isn't what is written in it."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return f'<td data-sort="">{MISSING}</td>'
    if isinstance(value, float) and form is None:
        form = "{:.6f}" if abs(value) < 1 else "{:,.3f}"
        text = form.format(value).rstrip("0").rstrip(".")
    else:
        text = form.format(value) if form else str(value)
    text = with_minus(text)
    key = sort_key(value)
    about = f' data-sort="{key}"' if key else ""
    parts = _PARTS.split(text)
    spanned = False
    if len(text) > LONG:
        about += ' class="long"'
    elif max(map(len, parts)) > (WHOLE if key else WORDS):
        about += ' class="words"'
    else:
        spanned = bool(key) and len(parts) > 1
    written = [escape(part, quote=False) for part in parts]
    return f"<td{about}>{' '.join(f'<span>{x}</span>' if spanned else x for x in written)}</td>"


def sort_key(value: Any) -> str:
    """What a cell sorts by: a number itself, or the one that its text begins with; else nothing."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, Real):
        return f"{float(value):.10g}"
    if not isinstance(value, str):
        return ""
    found = _NUMBER.match(value)
    if found is None:
        return ""
    sign = "-" if found[1] in ("-", "−") else ""
    return sign + found[2].replace(",", "").rstrip(".")
