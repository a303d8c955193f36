"""A copy of the book with small made-up notebooks, so that its pages can be tested alone."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mechshift_lib.analyses.words import verdicts as words
from mechshift_lib.book import contents
from mechshift_lib.book.build import build_book
from mechshift_lib.book.generated import ANSWER, GAPS, GRID
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.execution.pages import provenance_cell
from mechshift_lib.explorer.landing import write_landing
from mechshift_lib.markup.figures import Drawn
from mechshift_lib.markup.numbers import number
from mechshift_lib.markup.tables import table_html
from mechshift_lib.plots.drawn_from import remember
from mechshift_lib.plots.palette import ROLE_COLORS
from mechshift_lib.plots.theme import figure, header, theme
from mechshift_lib.workflow import default_pairs
from tests.support.verdicts import of_every_outcome

#: A word that stands on one page only, to be looked for.
RARE_WORD = "hippopotamus"
#: Title of the made-up figure.
FIGURE = "A made-up line over layers"
#: Numbers of the made-up table's rows, whose order as text isn't their order.
ROWS = (2, 10, 1, *range(11, 19))
#: The chapter that has no finding for its pair's first page.
WITHOUT_FINDING = "circuits"


@cache
def drawn(said: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A figure as a notebook shows it, with a finding; the same on all pages, so drawn once."""
    table = pd.DataFrame({"layer": [0, 1], "share": [0.25, 0.75]})
    with theme():
        fig = remember(figure(2.0), table=table)
        axes = fig.subplots()
        axes.plot(table.layer, table.share, "o-", color=ROLE_COLORS["mdm"])
        axes.set_xlabel("layer")
        header(fig, FIGURE, "n = 2 layers")
    return Drawn(fig, said)._repr_mimebundle_()


def long_table() -> nbformat.NotebookNode:
    """A table that is sorted and searched, as a notebook shows it."""
    columns = {f"a rather long column name {i}": [f"{k}.5 [0, 9]" for k in ROWS] for i in range(9)}
    table = pd.DataFrame({"name": [f"row {k}" for k in ROWS], **columns})
    return new_output("display_data", {"text/html": table_html(table), "text/plain": "t"})


def executed(title: str, note: str, extra: str = "") -> nbformat.NotebookNode:
    data, about = drawn("Made-up finding.")
    figure = new_output("display_data", dict(data), metadata=dict(about))
    said = new_output(
        "display_data", {"text/markdown": f"*Made up* for {title}.", "text/plain": "t"}
    )
    return new_notebook(
        cells=[
            new_markdown_cell(
                f"# {title}\n\nText with $J(A, B)$, made up for a test alone. {extra}"
            ),
            new_code_cell('pair = "x"', metadata={"tags": ["parameters"]}, execution_count=1),
            new_code_cell("table", outputs=[long_table()], execution_count=2),
            new_markdown_cell("## What is compared\n\nThe same prose for every pair."),
            new_code_cell(
                "figure",
                outputs=[figure, long_table()],
                execution_count=3,
                metadata={"tags": ["compared"]},
                id="figure",
            ),
            new_code_cell(
                "say()",
                outputs=[said],
                execution_count=4,
                metadata={"tags": ["finding"]},
                id="found",
            ),
            new_markdown_cell(note, metadata={"tags": ["provenance"]}),
        ],
        metadata={"kernelspec": {"display_name": "P", "language": "python", "name": "python3"}},
    )


def verdicts_cells(pairs: dict[str, str]) -> list[nbformat.NotebookNode]:
    """What the page of verdicts says, of made-up verdicts with every outcome."""
    found = [verdict for pair in pairs for verdict in of_every_outcome(pair)]
    texts = {
        ANSWER: words.answers(found, pairs),
        GRID: words.grid(found, pairs),
        GAPS: words.gaps(found, pairs),
    }
    return [
        new_code_cell(
            "say()",
            outputs=[new_output("display_data", {"text/markdown": text, "text/plain": "t"})],
            execution_count=5,
            metadata={"tags": [tag]},
        )
        for tag, text in texts.items()
    ]


def make_site(folder: Path) -> Path:
    """Build the book in ``folder`` and return the folder of its pages."""
    make_sources(folder)
    return build_book(folder).parent


def make_sources(folder: Path) -> None:
    """Write into ``folder`` what the book is built from."""
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    without = shutil.ignore_patterns("executed", "generated", "__pycache__", ".*")
    shutil.copytree(ROOT / "book", folder / "book", ignore=without)
    for part in ("paper", "pairs", "scores/tiny-llama/seed0"):
        shutil.copytree(ROOT / "data" / part, folder / "data" / part)
    # pages include passages of these
    shutil.copytree(ROOT / "mechshift_lib", folder / "mechshift_lib", ignore=without)
    for part in ("unit", "support"):
        shutil.copytree(ROOT / "tests" / part, folder / "tests" / part, ignore=without)
    (folder / "workflow").mkdir()
    shutil.copy(ROOT / "workflow" / "config.yaml", folder / "workflow")
    (folder / "notebooks").mkdir()
    note = provenance_cell(ROOT / "_toc.yml", {"pair": "x"}, [], 1.0, 2**30)
    titles = {name: load_pair(name, folder).title for name in default_pairs(folder)}
    pages = contents.pages(folder)
    for page in (page for page in pages if page.startswith("book/executed/")):
        path = folder / f"{page}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        *pair, chapter = page.split("/")[2:]
        title = f"{chapter}: {titles[pair[0]]}" if pair else chapter
        extra = RARE_WORD if page.endswith("tiny-llama/circuits") else ""
        notebook = executed(title, note, extra)
        if page.endswith("executed/verdicts"):
            notebook.cells += verdicts_cells(titles)
        if page.endswith(f"/{WITHOUT_FINDING}"):
            notebook.cells = [
                c for c in notebook.cells if "finding" not in c.metadata.get("tags", [])
            ]
        own = f"../../executed/{pair[0]}/{chapter}.html" if pair else ""
        number(notebook.cells, "-".join([*pair, chapter]), own)
        nbformat.write(notebook, path)
        shutil.copy(ROOT / "notebooks" / f"{path.stem}.ipynb", folder / "notebooks")
    for name in default_pairs(folder):
        source = load_pair(name, folder).model("arm").source
        if source.kind == "folder":
            config = {
                "model_type": "qwen2",
                "architectures": ["MadeUpForCausalLM"],
                "num_hidden_layers": 6,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "hidden_size": 128,
            }
            (folder / source.path).mkdir(parents=True)
            (folder / source.path / "config.json").write_text(json.dumps(config))
    pairs = [load_pair(name, folder) for name in default_pairs(folder)]
    assert {f"{pair.name}/{a}" for pair in pairs for a in pair.analyses} <= {
        page.removeprefix("book/executed/") for page in pages
    }, "a pair of workflow/config.yaml has no part in _toc.yml"
    write_landing(ROOT, results="nowhere", out=folder)
