"""Sphinx extension: scripts of the page on which models run; its files are loaded by them."""

from __future__ import annotations

from typing import Any

#: The page, and what it loads in this order; the last one starts it.
PAGE = "book/play"
#: What computes, in the worker too, and what is of the page.
PARTS = ("parts", "product", "numbers", "model", "tokenizer", "asking", "serve")
SCRIPTS = (*PARTS, "data", "state", "panel", "nodes", "markup", "play")


def add_scripts(
    app: Any, pagename: str, _template: str, _context: dict[str, Any], _tree: Any
) -> None:
    if pagename == PAGE:
        app.add_css_file("play/play.css")
        for name in SCRIPTS:
            app.add_js_file(f"play/{name}.js", loading_method="defer")


def setup(app: Any) -> dict[str, Any]:
    app.connect("html-page-context", add_scripts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
