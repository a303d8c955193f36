"""Sphinx extension: what link previews, search engines and lost readers see of the published book.

Each page has a description (its own first sentences), a canonical address and a card; the book has
a map of its pages and a page for addresses that lead nowhere. The foot of a page says of which
version and day it is.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from docutils import nodes

from mechshift_lib import __version__
from mechshift_lib.book.launch import place

ROOT = Path(__file__).resolve().parents[2]
CARD = "card.png"
CARD_ALT = "Two circuits side by side: an autoregressive model's, and its masked diffusion model's"
#: Characters of a description that search engines show.
LONGEST = 200
LOST = "404"
LOST_BODY = """<section><h1>There is no such page</h1>
<p>It may have been renamed: chapters move when the book grows. Start at <a href="{start}">the first
page</a>, or <a href="search.html">search</a>.</p></section>
"""


def public_address(repository: str) -> str:
    """Where GitHub Pages shows a repository's book: ``https://OWNER.github.io/NAME/``."""
    owner, _, name = urlparse(repository).path.strip("/").partition("/")
    host = f"https://{owner.lower()}.github.io/"
    return host if name.lower() == f"{owner.lower()}.github.io" else f"{host}{name}/"


def configure(_app: Any, config: Any) -> None:
    if not config.html_baseurl:  # an address of one's own stands in _config.yml
        config.html_baseurl = public_address(place(ROOT).repository)


def day_of_commit() -> str:
    """Day of the commit that the book is built at, or nothing where there is no git."""
    command = ["git", "-C", str(ROOT), "show", "--no-patch", "--format=%cs", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def footer() -> str:
    """Version, commit and day of the book, and how to cite it."""
    where, day = place(ROOT), day_of_commit()
    parts = [f"Version {__version__}"]
    if day:
        link = f"{where.repository}/commit/{where.commit}"
        parts.append(f'commit <a href="{link}">{where.commit[:10]}</a> of {day}')
    return f"<p>{', '.join(parts)}.</p>"


def description(doctree: nodes.document | None) -> str:
    """The first sentences of a page's text, cut at a word; nothing for a page without text."""
    if doctree is None:
        return ""
    inside = (nodes.Admonition, nodes.Text, nodes.figure, nodes.table, nodes.footnote)
    for paragraph in doctree.findall(nodes.paragraph):
        parent = paragraph.parent
        while parent is not None and not isinstance(parent, inside):
            parent = parent.parent
        text = " ".join(paragraph.astext().split())
        if parent is None and len(text.split()) > 5:
            cut = text[:LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"
            return text if len(text) <= LONGEST else cut
    return ""


def describe(
    app: Any, pagename: str, _template: str, context: dict[str, Any], doctree: Any
) -> None:
    context["theme_extra_footer"] = f"{context.get('theme_extra_footer') or ''}{footer()}"
    if pagename == LOST:  # it is shown at any depth, so that its links start at the book's root
        path = urlparse(app.config.html_baseurl).path
        context["metatags"] = f'<base href="{escape(path)}"><meta name="robots" content="noindex">'
        return
    text = description(doctree)
    if not text:
        return
    title = re.sub(r"<[^>]+>", "", context.get("title") or app.config.html_title)
    tags = {
        "og:type": "article",
        "og:site_name": app.config.html_title,
        "og:title": title,
        "og:description": text,
        "og:url": f"{app.config.html_baseurl}{pagename}.html",
    }
    if (ROOT / "book" / "generated" / CARD).is_file():
        tags |= {"og:image": f"{app.config.html_baseurl}{CARD}", "og:image:alt": CARD_ALT}
    lines = [f'<meta name="description" content="{escape(text)}">']
    lines += [f'<meta property="{key}" content="{escape(value)}">' for key, value in tags.items()]
    lines.append('<meta name="twitter:card" content="summary_large_image">')
    context["metatags"] = "\n".join([context.get("metatags") or "", *lines])


def lost_page(app: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    start = f"{app.config.root_doc}.html"
    body = LOST_BODY.format(start=start)
    yield LOST, {"title": "There is no such page", "body": body}, "page.html"


def finish(app: Any, exception: Exception | None) -> None:
    """Write the map of the pages, and put the card beside them."""
    if exception is not None or app.builder.format != "html":
        return
    pages = sorted(f"{app.config.html_baseurl}{name}.html" for name in app.env.found_docs)
    lines = [f"  <url><loc>{escape(page)}</loc></url>" for page in pages]
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    start = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'
    out = Path(app.outdir)
    (out / "sitemap.xml").write_text("\n".join([head, start, *lines, "</urlset>\n"]))
    (out / "robots.txt").write_text(
        f"User-agent: *\nAllow: /\nSitemap: {app.config.html_baseurl}sitemap.xml\n"
    )
    card = ROOT / "book" / "generated" / CARD
    if card.is_file():
        (out / CARD).write_bytes(card.read_bytes())


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", configure, priority=400)
    app.connect("html-page-context", describe, priority=600)
    app.connect("html-collect-pages", lost_page)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
