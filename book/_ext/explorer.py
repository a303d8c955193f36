"""Sphinx extension: scripts of the circuit explorer's page, and the files that these read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BOOK = Path(__file__).resolve().parents[1]
#: The page, and what it loads in this order; the last one starts it.
PAGE = "book/explore"
SCRIPTS = (
    "data",
    "graph",
    "overlap",
    "layout",
    "diagram",
    "chart",
    "panel",
    "download",
    "state",
    "markup",
    "explorer",
)


def add_files(_app: Any, config: Any) -> None:
    """Circuits are written before the book is built (mechshift_lib.explorer.build)."""
    generated = BOOK / "generated" / "static"
    if generated.is_dir():
        config.html_static_path.append(str(generated))


def add_scripts(
    app: Any, pagename: str, _template: str, _context: dict[str, Any], _tree: Any
) -> None:
    if pagename == PAGE:
        app.add_css_file("explorer/explorer.css")
        for name in SCRIPTS:
            app.add_js_file(f"explorer/{name}.js", loading_method="defer")


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", add_files)
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
