"""The page on which models run by itself, for tests that need no book."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from book._ext.play import PARTS, SCRIPTS
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.play.files import Entry, index
from mechshift_lib.play.sources import playable

#: The book's theme in the dark.
DARK = """html[data-theme="dark"] { --pst-color-background: #14181e; --pst-color-text-base: #ced6dd;
--pst-color-text-muted: #9ca4af; --pst-color-surface: #222832; --pst-color-border: #48566b;
background: #14181e; }"""
PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Play</title>
<style>{dark}</style><link rel="stylesheet" href="play/play.css">
<script>document.documentElement.dataset.theme = localStorage.getItem("theme") || "light"</script>
{scripts}</head><body><main>{content}</main></body></html>"""


def make_play(
    folder: Path, pairs: Sequence[str], seeds: Sequence[int] | None = None
) -> list[Entry]:
    """Write ``play.html``, ``engine.html`` (what computes alone) and what they load.

    Args:
        folder: where to.
        pairs: names of pairs.
        seeds: trainings whose models are written; all of a pair's by default.

    Returns:
        What the index says of each pair.
    """
    shutil.copytree(ROOT / "book" / "static" / "play", folder / "play")
    pages = {"play": SCRIPTS, "engine": (*PARTS, "data")}
    for name, scripts in pages.items():
        tags = "\n".join(f'<script defer src="play/{one}.js"></script>' for one in scripts)
        content = '<div id="play"></div>' if name == "play" else ""
        page = PAGE.format(scripts=tags, content=content, dark=DARK)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return write_models(folder, pairs, seeds)


def write_models(
    folder: Path, pairs: Sequence[str], seeds: Sequence[int] | None = None
) -> list[Entry]:
    """Write ``play/index.js`` and models of these pairs; returns what the index says of them."""

    def write(name: str, content: str) -> None:
        path = folder / "play" / f"{name}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    found = []
    for name in pairs:
        pair = load_pair(name)
        found.append(playable(pair.model_copy(update={"seeds": seeds or pair.seeds}), write))
    entries = [entry for entry in found if entry is not None]
    write("index", index(entries))
    return entries
