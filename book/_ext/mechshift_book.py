"""Sphinx extension of this book: launch buttons, repository, offline MathJax.

An executed notebook (``book/executed/<pair>/<name>.ipynb``) isn't in git, so its buttons open its
launcher, which has the page's pair and the book's commit set (:mod:`mechshift_lib.book.launch`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.util import logging

from mechshift_lib.book.launch import Place, place

LOGGER = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
EXECUTED = re.compile(r"book/executed/((?:[^/]+/)?([^/]+))")
#: What a page of a notebook can be opened with: name, icon, address of a page's launcher.
LAUNCHES = (("Colab", "fas fa-rocket", Place.colab), ("Binder", "fas fa-flask", Place.binder))


def configure(app: Any, config: Any) -> None:
    where = place(ROOT)
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the sidebar has the search already
    options["logo"] = {**options.get("logo", {}), "text": "mechshift", "alt_text": "mechshift"}
    options["repository_url"] = where.repository
    options["repository_branch"] = where.branch
    if (ROOT / "book/vendor/mathjax/tex-mml-chtml.js").is_file():
        config.html_static_path.append(str(ROOT / "book/vendor"))
        config.mathjax_path = "mathjax/tex-mml-chtml.js"


def without_thebe(app: Any, _config: Any) -> None:
    """Take sphinx-thebe out again, which Jupyter Book always loads.

    There is no server to run cells on, and it declares the same constant twice on every page.
    """
    for listeners in app.events.listeners.values():
        kept = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
        listeners[:] = kept
    styles = app.registry.css_files
    styles[:] = [style for style in styles if style[0] != "sphinx-thebe.css"]


def add_launches(
    app: Any, pagename: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    match = EXECUTED.fullmatch(pagename)
    if match is None:
        return
    if not (ROOT / "notebooks" / f"{match[2]}.ipynb").is_file():
        LOGGER.warning("%s was executed from a notebook that doesn't exist", pagename)
    where = place(ROOT)
    context["header_buttons"][:0] = [
        {
            "type": "link",
            "url": address(where, match[1]),
            "text": name,
            "icon": icon,
            "tooltip": f"Run this notebook on {name}",
            "label": f"{name.lower()}-button",
        }
        for name, icon, address in LAUNCHES
    ]


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", configure, priority=400)
    app.connect("config-inited", without_thebe)
    app.connect("html-page-context", add_launches, priority=502)  # after the theme made the list
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
