"""The explorer's page by itself, with the circuits of one pair, for tests that need no book."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path

from book._ext.explorer import SCRIPTS
from mechshift_lib.config import ROOT
from mechshift_lib.explorer.files import Entry, index, name_of, script
from mechshift_lib.explorer.sources import Circuits, along, final, reading

PAGE = """<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Explorer</title>
<link rel="stylesheet" href="explorer/explorer.css">
<script>document.documentElement.dataset.theme = localStorage.getItem("theme") || "light"</script>
{scripts}</head><body><main><div id="explorer"></div></main></body></html>"""


def make_explorer(folder: Path, pair: str, wanted: Callable[[Circuits], bool]) -> list[Circuits]:
    """Write ``explore.html`` and what it loads; returns the circuits that it has."""
    shutil.copytree(ROOT / "book" / "static" / "explorer", folder / "explorer")
    tags = [f'<script defer src="explorer/{name}.js"></script>' for name in SCRIPTS]
    (folder / "explore.html").write_text(PAGE.format(scripts="\n".join(tags)), encoding="utf-8")
    return write_circuits(folder, pair, wanted)


def write_circuits(folder: Path, pair: str, wanted: Callable[[Circuits], bool]) -> list[Circuits]:
    """Write ``explorer/index.js`` and the wanted circuits of the pair; returns them."""
    study = reading(pair, results="nowhere")
    entry, shown = Entry(study.pair), []
    made = [final(study, task, seed) for task in study.pair.tasks for seed in study.pair.seeds]
    for found in chain(*made, along(study)):
        if wanted(found):
            path = folder / "explorer" / f"{name_of(pair, found)}.js"
            path.parent.mkdir(exist_ok=True)
            path.write_text(script(pair, found), encoding="utf-8")
            entry.add(found)
            shown.append(found)
    (folder / "explorer" / "index.js").write_text(index([entry]), encoding="utf-8")
    return shown
