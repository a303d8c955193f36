"""Sphinx extension of this book: Colab buttons, alternative texts, repository, offline MathJax.

An executed notebook (``book/executed/<pair>/<name>.ipynb``) isn't in git, so its Colab button has
to point at its source, ``notebooks/<name>.ipynb``, on the configured branch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
COLAB = "https://colab.research.google.com/github"
EXECUTED = re.compile(r"book/executed/(?:[^/]+/)?([^/]+)")


def notebook_of(page: str) -> str | None:
    """Path in git of the notebook that a page was executed from; None for other pages."""
    match = EXECUTED.fullmatch(page)
    return f"notebooks/{match[1]}.ipynb" if match else None


def repository() -> tuple[str | None, str | None]:
    """Repository and branch of the GitHub Actions run that builds this, where there is one."""
    on_branch = os.environ.get("GITHUB_REF_TYPE") == "branch"
    branch = os.environ.get("GITHUB_REF_NAME") if on_branch else None
    return os.environ.get("GITHUB_REPOSITORY"), branch


def configure(app: Any, config: Any) -> None:
    name, branch = repository()
    options = config.html_theme_options
    options["navbar_persistent"] = []  # the sidebar has the search already
    options["logo"] = {**options.get("logo", {}), "text": "mechshift", "alt_text": "mechshift"}
    if name:
        options["repository_url"] = f"https://github.com/{name}"
    if branch:
        options["repository_branch"] = branch
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


def add_colab(app: Any, pagename: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    notebook = notebook_of(pagename)
    if notebook is None:
        return
    if not (ROOT / notebook).is_file():
        LOGGER.warning("%s was executed from %s, which doesn't exist", pagename, notebook)
    options = app.config.html_theme_options
    place = options["repository_url"].removeprefix("https://github.com/").strip("/")
    url = f"{COLAB}/{place}/blob/{options.get('repository_branch', 'main')}/{notebook}"
    button = {
        "type": "link",
        "url": url,
        "text": "Colab",
        "icon": "fas fa-rocket",
        "tooltip": "Run this notebook on Google Colab",
        "label": "colab-button",
    }
    context["header_buttons"].insert(0, button)


def describe(app: Any, doctree: nodes.document) -> None:
    """Give each figure of a notebook the alternative text of its own output.

    MyST-NB has one text a cell. It names an image's file by the hash of its data.
    """
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    texts = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            text = output.get("metadata", {}).get("image/png", {}).get("alt")
            if text:
                data = b64decode("".join(output["data"]["image/png"]))
                texts[hashlib.sha256(data).hexdigest()] = text
    for image in doctree.findall(nodes.image):
        if Path(image["uri"]).stem in texts:
            image["alt"] = texts[Path(image["uri"]).stem]


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", configure, priority=400)
    app.connect("config-inited", without_thebe)
    app.connect("doctree-read", describe)
    app.connect("html-page-context", add_colab, priority=502)  # after the theme made the list
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
