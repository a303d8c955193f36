"""A page a question, all pairs side by side, put together from their executed chapters.

A chapter's notebook tells one story whatever the pair; only what its cells say and show differs. So
a comparative page is that story once, with the findings of every pair under each other and their
figures behind tabs. Nothing is computed for it, and a pair that joins the book joins these pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from mechshift_lib.book.contents import titles
from mechshift_lib.book.generated import FINDING, chapter_title
from mechshift_lib.config import ANALYSES, Pair
from mechshift_lib.results.atomic import write_atomic

#: Cells with this tag stand on the comparative page, as those with a finding do.
COMPARED = "compared"
#: Where comparative pages lie below ``book``; as deep as a pair's chapters, so their links hold.
FOLDER = Path("generated") / "questions"
NOBODY = "No pair of this book has this chapter."
#: On what a table that stands behind figures is folded up.
IN_NUMBERS = "In numbers"
#: What a caption begins with stands above the figures of all pairs already.
_FOUND = re.compile(r'<span class="mechshift-found">.*?</span>\s*', re.S)
#: The number that a figure has in its own chapter; on a comparative page it counts anew.
_NUMBERED = re.compile(r'(?<=<b class="mechshift-number">)(Figure )\d+')
#: Between two sentences.
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
#: In a sentence that stays with its pair, whatever others say: a verdict, or a percentage.
_OWN = re.compile(r"\*\*|\d %")
_SIBLING = re.compile(r"\]\((?:\.\./[\w.-]+/)?([\w-]+)\.ipynb((?:#[\w-]+)?)\)")


@dataclass
class Shown:
    """What a cell says and shows for one pair.

    Attributes:
        said: its sentences.
        more: tables and lists, as MyST; not those that its chapter has folded up.
        figures: HTML of each, without what is said in its caption.
    """

    said: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


def write_questions(executed: Path, pairs: Sequence[Pair], book: Path) -> list[Path]:
    """Write the comparative page of every chapter; returns the pages.

    What lies there from the last time and is no longer made is removed.

    Args:
        executed: folder of the executed notebooks.
        pairs: the pairs, in the book's order.
        book: the folder ``book``.
    """
    folder = book / FOLDER
    named = titles(book.parent)
    pages: list[Path] = []
    for analysis in ANALYSES:
        having = [
            (pair, nbformat.read(path, as_version=4))
            for pair in pairs
            if analysis in pair.analyses
            and (path := executed / pair.name / f"{analysis}.ipynb").is_file()
        ]
        title = named.get((Path("book") / FOLDER / analysis).as_posix())
        text = question_page(analysis, having, title) if having else ""
        text = text or f"# {title or analysis.capitalize()}\n\n{NOBODY}\n"
        page = folder / f"{analysis}.md"
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            write_atomic(page, text)
        pages.append(page)
    kept = {page.name for page in pages}
    for path in folder.glob("*"):
        if path.name not in kept:
            path.unlink()
    return pages


def question_page(
    analysis: str,
    having: Sequence[tuple[Pair, nbformat.NotebookNode]],
    title: str | None = None,
) -> str:
    """The comparative page of a chapter.

    Args:
        analysis: name of the chapter.
        having: the pairs that have it, in the book's order, with their executed notebooks.
        title: what heads the page, as in the table of contents; by default the chapter's heading.

    Returns:
        MyST markdown.

    Raises:
        BookError: the chapter's notebook has no heading.
    """
    pair, first = having[0]
    full = ", ".join(f"[{p.title}](../../executed/{p.name}/{analysis}.ipynb)" for p, _ in having)
    lines = [f"# {title or chapter_title(first, pair)}", ""]
    opening, sections, closing = _story(first)
    lines += [*opening, f"*Every figure and table, pair by pair: {full}.*", ""]
    figures = 0
    for story, chosen in sections:
        lines += story
        for cell in chosen:
            shown = [
                (pair, _shown(other))
                for pair, notebook in having
                for other in notebook.cells
                if other.id == cell.id
            ]
            for _, one in shown:
                one.figures[:] = [
                    _NUMBERED.sub(rf"\g<1>{figures + i}", html)
                    for i, html in enumerate(one.figures, start=1)
                ]
            lines += _side_by_side(shown)
            figures += max((len(one.figures) for _, one in shown), default=0)
    return "\n".join([*lines, *closing]).rstrip() + "\n"


def _story(
    notebook: nbformat.NotebookNode,
) -> tuple[list[str], list[tuple[list[str], list[nbformat.NotebookNode]]], list[str]]:
    """A notebook's prose around the cells that are compared.

    Returns:
        What stands before the first section; sections that have such cells, as prose and cells in
        their order; what stands last, if it says what the page can't.
    """
    opening: list[str] = []
    sections: list[tuple[list[str], list[nbformat.NotebookNode]]] = []
    closing: list[str] = []
    prose: list[str] = []
    told = False  # whether this section has a cell that is compared
    for cell in notebook.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "markdown" and "provenance" not in tags:
            for block in re.split(r"^(?=## )", cell.source, flags=re.M):
                text = _SIBLING.sub(r"](\1.md\2)", block.strip())
                if text.startswith("# "):
                    opening = [text.partition("\n")[2].strip(), ""]
                elif text.startswith("What this page can't say"):
                    closing = [text, ""]
                elif text.startswith("## "):
                    if told and prose:  # what a section says last
                        sections.append((prose, []))
                    prose, told = [text, ""], False
                elif text:
                    prose += [text, ""]
        elif {FINDING, COMPARED} & tags:
            told = True
            if prose or not sections:
                sections.append((prose, [cell]))
                prose = []
            else:
                sections[-1][1].append(cell)
        elif told:  # prose before a cell that is left out is about that cell
            prose = []
    if told and prose:
        sections.append((prose, []))
    return opening, sections, closing


def _shown(cell: nbformat.NotebookNode) -> Shown:
    found = Shown()
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        html = "".join(data.get("text/html", "")).strip()
        if html.startswith("<figure"):
            found.figures.append(_raw(_FOUND.sub("", html)))
        elif html and not html.startswith("<details"):  # all rows: a pair's own chapter has them
            found.more.append(_raw(html))
        if "text/markdown" in data:
            text = _SIBLING.sub(r"](\1.md\2)", "".join(data["text/markdown"]).strip())
            plain = not re.search(r"^(?:[|#>]|[-*+] |\d+\. |```|:::)", text, re.M)
            (found.said if plain else found.more).append(text)
    return found


def _raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```"


def _side_by_side(shown: Sequence[tuple[Pair, Shown]]) -> Iterator[str]:
    """What a cell says for every pair, and what it shows behind a tab for each: its figures, with
    its tables folded up below them. What it says alike of all of them stands once.
    """
    said = {pair.title: _SENTENCES.split(" ".join(one.said)) for pair, one in shown if one.said}
    alike: list[str] = []
    if len(said) == len(shown) > 1:
        first, *others = said.values()
        alike = [
            text
            for text in first
            if all(text in other for other in others) and not _OWN.search(text)
        ]
    for title, sentences in said.items():
        own = [text for text in sentences if text not in alike]
        if own:
            yield from [f"**{title}.** {' '.join(own)}", ""]
    if alike:
        yield from [" ".join(alike), ""]
    drawn = [(pair, one) for pair, one in shown if one.figures or one.more]
    if not drawn:
        return
    yield ":::::{tab-set}"
    for pair, one in drawn:
        yield from [f"::::{{tab-item}} {pair.title}", f":sync: {pair.name}", ""]
        for text in one.figures:
            yield from [text, ""]
        for text in one.more:
            yield from [_folded(text) if one.figures else text, ""]
        yield "::::"
    yield from [":::::", ""]


def _folded(table: str) -> str:
    """A table behind a figure, folded up."""
    return f":::{{dropdown}} {IN_NUMBERS}\n{table}\n:::"
