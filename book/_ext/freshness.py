"""Sphinx extension: pages that aren't fresh say so at their top.

``mechshift book --no-execute`` builds the book of the pages that are there. Which of them are those
of an earlier success, not of what lies here now, stands in ``book/generated/stale.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LIST = Path(__file__).resolve().parents[1] / "generated" / "stale.json"
BANNER = """<div class="admonition warning mechshift-stale">
<p class="admonition-title">Not fresh</p>
<p>This page is of its last success. What it is made of has changed since, or its last run failed:
<code>mechshift book</code> makes it anew.</p>
</div>
"""


def stale_pages() -> set[str]:
    """Sphinx names of the pages that aren't fresh."""
    names = json.loads(LIST.read_text(encoding="utf-8")) if LIST.is_file() else []
    return {f"book/executed/{name}" for name in names}


def changed(app: Any, env: Any, _added: Any, _changed: Any, _removed: Any) -> list[str]:
    """Pages that have become stale or fresh since the last build are to be built again."""
    before, now = getattr(env, "mechshift_stale", set()), stale_pages()
    env.mechshift_stale = now
    return sorted((before ^ now) & set(env.found_docs))


def add_banner(
    app: Any, pagename: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    if pagename in app.env.mechshift_stale:
        context["body"] = BANNER + context["body"]


def setup(app: Any) -> dict[str, Any]:
    app.connect("env-get-outdated", changed)
    app.connect("html-page-context", add_banner)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
