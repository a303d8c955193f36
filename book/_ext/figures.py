"""Sphinx extension: colours of figures, tables that sort, and files to save beside the pages.

In a notebook a table to be saved is part of its output; in the book it is a file, so that pages
stay small. Scripts of tables are loaded by pages that have a table of a notebook, and by no others.
"""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from mechshift_lib.plots.palette import style_sheet

ROOT = Path(__file__).resolve().parents[2]
#: Folder of the pages' files below the built book.
FILES = "_static/tables"
STYLE = "figures.css"
#: The library that sorts (mechshift_lib.book.vendored): by the pointer, by the keyboard.
LIBRARY = ("sortable/sortable.js", "sortable/sortable.a11y.js")
#: What the book adds to it.
SCRIPT = "tables.js"
_SAVED = re.compile(r'download="([\w.-]+\.csv)" href="data:text/csv;base64,([^"]*)"')


def add_files(app: Any, config: Any) -> None:
    """Write the style of figures; take the library along where it is there."""
    folder = ROOT / "book" / "generated" / "style"
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder / STYLE, style_sheet()
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    config.html_static_path.append(str(folder))
    app.add_css_file(STYLE)


def save(app: Any, pagename: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Put tables beside the page, and load what sorts those that it shows."""
    body = context.get("body") or ""
    if 'class="mechshift-' not in body:
        return
    folder = Path(app.outdir) / FILES
    up = "../" * pagename.count("/")

    def file(found: re.Match[str]) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / found[1]).write_bytes(b64decode(found[2]))
        return f'download="{found[1]}" href="{up}{FILES}/{found[1]}"'

    context["body"] = _SAVED.sub(file, body)
    if 'class="mechshift-table"' in body:
        there = [name for name in LIBRARY if (ROOT / "book" / "vendor" / name).is_file()]
        for name in (*there, SCRIPT):
            app.add_js_file(name, loading_method="defer")


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", add_files)
    app.connect("html-page-context", save, priority=400)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
