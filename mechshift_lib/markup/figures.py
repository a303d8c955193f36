"""A figure on a page: its drawing, a caption that begins with what is found, what can be saved.

Numbers, and links to code and provenance, are put in when a notebook has been executed
(:mod:`mechshift_lib.markup.numbers`): only then is it known which figure of which page it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
from IPython.display import Markdown
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from mechshift_lib.markup.drawing import heading, laid_out, png, svg
from mechshift_lib.markup.minus import with_minus
from mechshift_lib.markup.numbers import NUMBER
from mechshift_lib.plots.alt import alt_text
from mechshift_lib.plots.drawn_from import tables_of

#: Resolution of the picture beside the drawing, for front ends and papers that show no HTML.
DPI = 144
#: Significant digits of numbers in a file that is saved.
DIGITS = 6


class Drawn(Markdown):
    """A figure as a page shows it; as Markdown it is the sentence that its caption begins with."""

    def __init__(self, figure: Figure, said: str = "", *, caption: bool = True) -> None:
        """Draw the figure.

        Args:
            figure: the figure; its alternative text is written from what it draws.
            said: what is found in it, one paragraph of Markdown.
            caption: whether the caption begins with it; if not, it is in the alternative text
                alone.
        """
        super().__init__(said if caption else "")
        self.alt = with_minus(alt_text(figure, said))
        with laid_out(figure):
            self.html = figure_html(figure, self.alt, self.data or "")
            self.png = png(figure, DPI)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        bundle = {
            "text/html": self.html,
            "image/png": base64.b64encode(self.png).decode(),
            "text/plain": self.alt,
        }
        if self.data:
            bundle["text/markdown"] = self.data
        return bundle, {"image/png": {"alt": self.alt}}


def figure_html(figure: Figure, alt: str, said: str = "") -> str:
    """``<figure>`` with the drawing, its caption and its links.

    Args:
        figure: the figure.
        alt: its alternative text.
        said: what the caption begins with, one paragraph of Markdown.
    """
    title, subtitle = heading(figure)
    found = f'<span class="mechshift-found">{inline(said)}</span>' if said else ""
    joined = " " if title.endswith("?") else ": "
    about = joined.join(escape(part) for part in (title, subtitle) if part)
    about = f'<span class="mechshift-about">{about}</span>' if about else ""
    tables = tables_of(figure)
    return (
        '<figure class="mechshift-figure" style="margin: 0">'
        f'<div style="overflow-x: auto">{svg(figure, alt)}</div>'
        f"<figcaption>{NUMBER} {found} {about}</figcaption>{tools(tables, 'figure')}</figure>"
    )


def inline(markdown: str) -> str:
    """One paragraph of Markdown as HTML."""
    return str(MarkdownIt("commonmark").renderInline(markdown))


def fits_a_caption(markdown: str) -> bool:
    """Whether it is one plain paragraph: links and formulas are the book's to make."""
    starts = markdown.startswith(("#", "|", "- ", "* ", ">", "```", ":::"))
    return not starts and not any(sign in markdown for sign in ("\n\n", "](", "$", "\n|", "{", "<"))


def tools(tables: Mapping[str, pd.DataFrame], name: str) -> str:
    """The line below a figure or table: a link that saves each of its tables.

    Args:
        tables: name -> table; a single table's name isn't said.
        name: of the file, without ending; :mod:`~mechshift_lib.markup.numbers` gives a better one.
    """
    links = []
    for key, table in tables.items():
        file = f"{name}-{key}" if len(tables) > 1 else name
        text = f"CSV: {key.replace('_', ' ')}" if len(tables) > 1 else "CSV"
        links.append(f'<a download="{file}.csv" href="{saved(table)}">{text}</a>')
    return f'<p class="mechshift-tools">{" · ".join(links)}</p>' if links else ""


def saved(table: pd.DataFrame) -> str:
    """A table as a ``data:`` address of CSV."""
    text = table.to_csv(index=False, float_format=f"%.{DIGITS}g")
    return f"data:text/csv;base64,{base64.b64encode(text.encode()).decode()}"
