"""The book's table of contents, ``_toc.yml``: its pages in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mechshift_lib.config import ROOT


def pages(root: Path = ROOT) -> list[str]:
    """All pages of the book but its first, in order, such as ``book/limits``."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [page for part in contents["parts"] for page in _below(part)]


def _below(part: Mapping[str, Any]) -> Iterator[str]:
    for chapter in [*part.get("chapters", ()), *part.get("sections", ())]:
        yield chapter["file"]
        yield from _below(chapter)
