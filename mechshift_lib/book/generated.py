"""What hand-written pages include: text that executed notebooks say, put together anew."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import nbformat

from mechshift_lib.book.models import pairs_table
from mechshift_lib.comparison.claims import SAID
from mechshift_lib.config import ROOT, Pair
from mechshift_lib.errors import MechshiftError

#: Cells of a chapter with the first tag say what it found; those that say how a claim fares have
#: the second besides. The third is of the cell that stands for its chapter on its pair's first
#: page, where that isn't the first that found something.
FINDING, VERDICT, MAIN = "finding", "verdict", "main"
#: Headings of a pair's first page.
CLAIMS, CHAPTERS = "The paper's claims on this pair", "Chapter by chapter"
#: Cells of the page of verdicts with these tags are included by hand-written pages: the answer in
#: three sentences, the verdict on each claim and pair, and what isn't measured or doesn't apply.
ANSWER, GRID, GAPS = "answer", "grid", "gaps"


class BookError(MechshiftError):
    """The book can't be built: a page is missing, or the build had a warning."""


def said(cell: nbformat.NotebookNode) -> str:
    """What a cell says: its Markdown outputs (not its figures)."""
    outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
    parts = ["".join(data["text/markdown"]).strip() for data in outputs if "text/markdown" in data]
    return "\n\n".join(part for part in parts if part)


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[str]:
    """What the cells with a tag say, without those that say nothing."""
    cells = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
    return [text for text in map(said, cells) if text]


def chapter_title(notebook: nbformat.NotebookNode, pair: Pair) -> str:
    """A chapter's heading without the name of its pair."""
    for cell in notebook.cells:
        heading = re.search(r"^# (.+)$", cell.source, re.M)
        if cell.cell_type == "markdown" and heading:
            return heading[1].strip().removesuffix(f": {pair.title}")
    raise BookError("A chapter's notebook has no heading: begin its first cell with '# '.")


def overview_page(executed: Path, pair: Pair, root: Path = ROOT) -> str:
    """Markdown of a pair's first page: its models, its verdicts, and one finding of each chapter.

    Args:
        executed: folder of the executed notebooks.
        pair: the pair; chapters that are not executed yet are left out, and one that has no
            finding but verdicts is only linked.
        root: the checkout.

    Returns:
        MyST markdown of ``book/generated/PAIR.md``.
    """
    lines = [f"# {pair.title}", "", pair.description.strip(), "", pairs_table([pair], root), ""]
    claims, chapters = [], []
    for analysis in pair.analyses:
        path = executed / pair.name / f"{analysis}.ipynb"
        if not path.is_file():
            continue
        notebook = nbformat.read(path, as_version=4)
        link = f"[{chapter_title(notebook, pair)}](../executed/{pair.name}/{analysis}.ipynb)"
        claims += [line for text in tagged(notebook, VERDICT) for line in text.splitlines() if line]
        found = main_finding(notebook)
        chapters += [f"**{link}.** {found}" if found else f"**{link}**", ""]
    if claims:
        lines += [f"## {CLAIMS}", "", *(f"{line}\n" for line in sorted(claims, key=_claim))]
    if chapters:
        lines += [f"## {CHAPTERS}", "", *chapters]
    return "\n".join(lines)


def _claim(line: str) -> str:
    """The claim that a sentence is about, such as ``C1``."""
    named = re.search(r"\bC\d+", line)
    return named[0] if named else ""


def main_finding(notebook: nbformat.NotebookNode) -> str:
    """What stands for a chapter: the first paragraph of its cell with the tag :data:`MAIN`, else of
    the first that found something and is no verdict; empty where there is none.
    """
    cells = [cell for cell in notebook.cells if VERDICT not in cell.metadata.get("tags", [])]
    for tag in (MAIN, FINDING):
        for cell in cells:
            text = said(cell) if tag in cell.metadata.get("tags", []) else ""
            if text:
                return text.split("\n\n")[0]
    return ""


def from_verdicts(executed: Path, tag: str) -> str:
    """Markdown of one part of the page of verdicts.

    Args:
        executed: folder of the executed notebooks.
        tag: which part, :data:`ANSWER`, :data:`GRID` or :data:`GAPS`.

    Returns:
        MyST markdown to be included in a hand-written page.

    Raises:
        BookError: the page of verdicts isn't executed, or has no such part.
    """
    path = executed / "verdicts.ipynb"
    texts = tagged(nbformat.read(path, as_version=4), tag) if path.is_file() else []
    if not texts:
        raise BookError("The page of verdicts is not executed yet: say mechshift book.")
    return "\n\n".join(texts)


def claims_page() -> str:
    """Markdown of the paper's claims, and of nothing that was found of them."""
    rows = [f"| {claim} | {said[:1].upper()}{said[1:]} |" for claim, said in SAID.items()]
    return "\n".join(["| Claim | What it says |", "|---|---|", *rows])


def findings_page(executed: Path, pairs: Sequence[Pair]) -> str:
    """Markdown of one line a pair: its overview, and how many chapters it has.

    Args:
        executed: folder of the executed notebooks.
        pairs: the pairs, in the book's order.

    Returns:
        MyST markdown to be included in ``book/index.md``.
    """
    lines: list[str] = []
    for pair in pairs:
        there = [n for n in pair.analyses if (executed / pair.name / f"{n}.ipynb").is_file()]
        chapters = f"{len(there)} chapter{'s' if len(there) != 1 else ''}"
        lines += [f"- [{pair.title}](generated/{pair.name}.md), {chapters}"]
    return "\n".join(lines)
