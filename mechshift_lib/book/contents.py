"""The book's table of contents, ``_toc.yml``: its pages in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mechshift_lib.config import ANALYSES, ROOT, Pair

#: Name of the table of contents that the book is built by, in ``book/generated``.
TOC = "contents.yml"


def pages(root: Path = ROOT) -> list[str]:
    """All pages of the book but its first, in order, such as ``book/limits``."""
    return [page for part in _contents(root)["parts"] for page in _below(part)]


def titles(root: Path = ROOT) -> dict[str, str]:
    """Page -> its title in the contents, where it has one there; nothing without ``_toc.yml``."""
    if not (root / "_toc.yml").is_file():
        return {}
    entries = [entry for part in _contents(root)["parts"] for entry in _entries(part)]
    return {entry["file"]: entry["title"] for entry in entries if "title" in entry}


def with_chapters(pairs: Sequence[Pair], root: Path = ROOT) -> str:
    """The table of contents with every chapter of every pair below the pair's own page.

    ``_toc.yml`` names those of a book; others, of the full budget, come in between in the order of
    all chapters, under the title that they have with another pair.

    Args:
        pairs: with the chapters that are to be there.
        root: the checkout.

    Returns:
        YAML, in Sphinx External ToC's form.
    """
    contents = _contents(root)
    entries = [entry for part in contents["parts"] for entry in _entries(part)]
    known = {Path(entry["file"]).name: entry["title"] for entry in entries if "title" in entry}
    for pair in pairs:
        own = [entry for entry in entries if entry["file"] == f"book/generated/{pair.name}"]
        for entry in own:
            there = {Path(x["file"]).name: x for x in entry.get("sections", ())}
            for name in set(pair.analyses) - set(there):
                file = f"book/executed/{pair.name}/{name}"
                there[name] = {"file": file, "title": known.get(name, name.capitalize())}
            order = [*(x for x in ANALYSES if x in there), *(x for x in there if x not in ANALYSES)]
            entry["sections"] = [there[x] for x in order]
    return yaml.safe_dump(contents, sort_keys=False, allow_unicode=True)


def _contents(root: Path) -> Any:
    return yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))


def _entries(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for chapter in [*part.get("chapters", ()), *part.get("sections", ())]:
        yield chapter
        yield from _entries(chapter)


def _below(part: Mapping[str, Any]) -> Iterator[str]:
    return (entry["file"] for entry in _entries(part))
