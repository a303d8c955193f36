"""Numbers of a page's figures, and links from figures and tables to their code and provenance."""

from __future__ import annotations

import re
from collections.abc import Sequence

import nbformat

#: Where the number of a figure is put. Here, not where figures are drawn: what executes notebooks
#: numbers figures and draws none, and needn't wait for the plotting libraries.
NUMBER = '<b class="mechshift-number"></b>'
#: Where the provenance stands on a page, and what an anchor at a cell's code begins with.
PROVENANCE, CODE = "provenance", "code-of-"
_FIGURE = '<figure class="mechshift-figure"'
_TOOLS = re.compile(r'<p class="mechshift-tools">(.*?)</p>', re.S)
#: Names of files that aren't those of a fold, which has a name of its own.
_FILE = re.compile(r'download="(?:figure|table)((?:-\w+)?)\.csv"')


def number(cells: Sequence[nbformat.NotebookNode], label: str, page: str = "") -> None:
    """Number the figures of an executed notebook, and name what can be saved, in place.

    Args:
        cells: its cells.
        label: of the page, unique in the book, such as ``tiny-qwen-overlap``; files are called
            ``LABEL-1.csv`` and so on for figures, ``LABEL-table-1.csv`` for tables.
        page: address of the page as seen from itself and from the page of its question, if
            it has one; without it, links stay on the page.
    """
    figures = tables = 0
    for cell in cells:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if "mechshift-tools" not in html and _FIGURE not in html:
                continue
            if _FIGURE in html:
                figures += 1
                name, file = f"{label}-figure-{figures}", f"{label}-{figures}"
                html = html.replace(_FIGURE, f'<figure id="{name}" class="mechshift-figure"', 1)
                html = html.replace(NUMBER, f'<b class="mechshift-number">Figure {figures}.</b>', 1)
            else:
                tables += 1
                name = file = f"{label}-table-{tables}"
            output["data"]["text/html"] = _linked(html, name, file, page)


def _linked(html: str, name: str, file: str, page: str) -> str:
    """A figure or table with names of its files, and two more links in the line below it."""
    line = _TOOLS.search(html)
    links = [
        *([_FILE.sub(rf'download="{file}\1.csv"', line[1])] if line else []),
        f'<a href="{page}#{CODE}{name}">code</a>',
        f'<a href="{page}#{PROVENANCE}">provenance</a>',
    ]
    tools = f'<p class="mechshift-tools" id="{CODE}{name}">{" · ".join(links)}</p>'
    if line is None:  # a figure of which no table is known
        return html.replace("</figure>", f"{tools}</figure>")
    return html[: line.start()] + tools + html[line.end() :]
