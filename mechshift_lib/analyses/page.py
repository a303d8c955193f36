"""Putting sentences, figures and tables on a notebook's page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from mechshift_lib.analyses.words.formatting import Finding
from mechshift_lib.markup.figures import Drawn, fits_a_caption
from mechshift_lib.markup.minus import with_minus
from mechshift_lib.markup.tables import MOST, table_html
from mechshift_lib.plots.theme import label

#: Columns whose values are names of models or tasks.
NAMED = ("task", "model", "base", "role", "family", "read")
#: Columns that are models, and words of a column's name that are models' names.
ROLES, ROLE_WORDS = ("arm", "mdm", "continued"), ("arm", "mdm")


def say(markdown: str) -> None:
    """Show Markdown."""
    display(Markdown(with_minus(markdown)))


def tell(finding: Finding, *figures: Figure) -> None:
    """Show a finding: its sentence, the figures that show the same, and its table.

    The sentence begins the caption of a single figure, and stands above several.
    """
    alone = len(figures) == 1
    if not (alone and fits_a_caption(finding.said)):
        say(finding.said)
    for figure in figures:
        show(figure, finding.said if alone else "")
    if finding.table is not None:
        tabulate(finding.table)


def show(figure: Figure, said: str = "") -> None:
    """Show a figure: a drawing that follows the page's mode, caption and alternative text.

    Args:
        figure: the figure; its alternative text is written from what it draws.
        said: what is found in it; its caption begins with it, if it is one plain paragraph.
    """
    display(Drawn(figure, with_minus(said), caption=fits_a_caption(said)))


def tabulate(
    table: pd.DataFrame,
    formats: Mapping[str, str] | None = None,
    heads: Mapping[str, str] | None = None,
) -> None:
    """Show a table that scrolls by itself where the screen is narrow, and can be saved as CSV.

    Models and tasks have the names that people read; the file that is saved has those of the data.

    Args:
        table: the table; its index isn't shown.
        formats: column -> format of its values, such as ``{"score": "{:.2f}"}``.
        heads: column -> what heads it, where that isn't its name.
    """
    written = {name: (heads or {}).get(name, _head(str(name))) for name in table.columns}
    forms = {written[name]: form for name, form in (formats or {}).items()}
    display(HTML(table_html(_named(table, written), forms, source=table)))


def _named(table: pd.DataFrame, written: Mapping[str, str]) -> pd.DataFrame:
    """A table for people: names of models and tasks in words, and these heads."""
    named = {
        name: table[name].map(lambda x: label(str(x)), na_action="ignore")
        for name in NAMED
        if name in table
    }
    return table.assign(**named).rename(columns=written)


def _head(column: str) -> str:
    """``arm_score`` -> ``ARM score``; what is in words already stays."""
    if column in ROLES:
        return label(column)
    words = column.replace("_", " ").split(" ")
    return " ".join(label(word) if word in ROLE_WORDS else word for word in words)


#: Hides the rows of a folded table that don't have what is typed in.
_SEARCH = (
    "const wanted = this.value.toLowerCase();"
    "for (const row of this.closest('details').querySelectorAll('tbody tr'))"
    " row.hidden = !row.textContent.toLowerCase().includes(wanted)"
)


def fold(table: pd.DataFrame, title: str, name: str) -> None:
    """Show a table folded up, which can be searched unless it is too long to be shown whole, with a
    link that saves it as CSV, where it has the names of the data.

    Args:
        table: the table, as numbers.
        title: what stands on the fold.
        name: name of the file, without ending.
    """
    written = {name: _head(str(name)) for name in table.columns}
    numbers = table.select_dtypes("number").columns
    formats = {written[c]: "{:.3f}" for c in numbers if table[c].dtype.kind == "f"}
    named = _named(table, written)
    shown = table_html(named, formats, source=table, name=name, searched=False)
    search = (
        f'<input type="search" placeholder="Search" aria-label="Search: {escape(title)}" '
        f'oninput="{_SEARCH}">'
    )
    display(
        HTML(
            f"<details><summary>{escape(title)} ({len(table)} rows)</summary>"
            f"{search if len(table) <= MOST else ''}"
            f"<div class='mechshift-folded'>{shown}</div></details>"
        )
    )
