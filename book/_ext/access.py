"""Sphinx extension: HTML of docutils that screen readers can't make sense of is made plain.

Entries of a bibliography get a role that ARIA has given up, in a list that holds links besides.
``book/static/access.js`` does what only a browser can know.
"""

from __future__ import annotations

from typing import Any

ROLES = (' role="list"', ' role="doc-biblioentry"')


def plain_citations(
    _app: Any, _page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    body = context.get("body", "")
    if 'class="citation-list"' in body:
        for role in ROLES:
            body = body.replace(role, "")
        context["body"] = body


def setup(app: Any) -> dict[str, Any]:
    app.connect("html-page-context", plain_citations)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
