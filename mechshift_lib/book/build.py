"""Builds the book from executed notebooks; any warning is an error."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mechshift_lib.book.card import card
from mechshift_lib.book.citation import citation_page
from mechshift_lib.book.contents import TOC, with_chapters
from mechshift_lib.book.generated import (
    ANSWER,
    GAPS,
    GRID,
    BookError,
    claims_page,
    findings_page,
    from_verdicts,
    overview_page,
)
from mechshift_lib.book.launch import FOLDER, write_launchers
from mechshift_lib.book.legend import legend_page
from mechshift_lib.book.models import pairs_page, trainings_table
from mechshift_lib.book.questions import write_questions
from mechshift_lib.book.vendored import vendor
from mechshift_lib.config import ROOT, check_checkout
from mechshift_lib.errors import ConfigError
from mechshift_lib.processes import interruptible, run_child
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.workflow import book_pages, book_pairs

#: Bytes of a page, its figures and tables included, above which the build says so.
HEAVY = 1_000_000


def heavy_pages(html: Path) -> list[tuple[str, int]]:
    """Pages of a built book that are heavier than :data:`HEAVY`: path and bytes, heaviest first.

    Args:
        html: the folder of the built book.
    """
    sizes = [
        (path.relative_to(html).as_posix(), path.stat().st_size) for path in html.rglob("*.html")
    ]
    return sorted((one for one in sizes if one[1] > HEAVY), key=lambda one: -one[1])


def _write_if_changed(path: Path, text: str) -> None:
    """Leave an unchanged file alone, so that Sphinx doesn't read its page again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def generate(root: Path = ROOT, stale: Sequence[str] = (), budget: str = "book") -> None:
    """Write ``book/generated``: what hand-written pages include, and which pages aren't fresh."""
    from mechshift_lib.plots.graph import graph_svg  # drawing takes a second to import

    pairs = book_pairs(root, budget)
    generated = root / "book" / "generated"
    _write_if_changed(generated / "pairs.md", pairs_page(pairs, root) + "\n")
    _write_if_changed(generated / "trainings.md", trainings_table(pairs, root) + "\n")
    _write_if_changed(generated / "legend.md", legend_page())
    _write_if_changed(generated / "claims.md", claims_page() + "\n")
    executed = root / "book" / "executed"
    _write_if_changed(generated / "findings.md", findings_page(executed, pairs) + "\n")
    for name, tag in (("answer", ANSWER), ("verdicts", GRID), ("gaps", GAPS)):
        _write_if_changed(generated / f"{name}.md", from_verdicts(executed, tag) + "\n")
    for pair in pairs:
        _write_if_changed(generated / f"{pair.name}.md", overview_page(executed, pair, root) + "\n")
    write_questions(executed, pairs, root / "book")
    _write_if_changed(generated / "graph.svg", graph_svg())
    _write_if_changed(generated / "citation.md", citation_page(root) + "\n")
    picture = card(pairs, root)
    if picture is not None:
        write_atomic(generated / "card.png", picture)
    _write_if_changed(generated / TOC, with_chapters(pairs, root))
    _write_if_changed(generated / "stale.json", json.dumps(sorted(stale)) + "\n")


def build_book(
    root: Path = ROOT,
    out: Path | None = None,
    *,
    stale: Sequence[str] = (),
    budget: str = "book",
) -> Path:
    """Build the book from the executed notebooks; only changed pages are made anew.

    Args:
        root: the checkout.
        out: folder in which ``_build`` is made; by default the checkout.
        stale: pages that aren't fresh, such as ``"tiny-qwen/circuits"``: they will say so.
        budget: ``"full"`` takes in the chapters that pairs have at that budget only.

    Returns:
        Path of the first page.

    Raises:
        BookError: a page that the table of contents names is missing, or the build had a warning.
        ConfigError: Jupyter Book isn't installed.
        StoppedError: a signal asked the build to end.
    """
    check_checkout(root)
    if importlib.util.find_spec("jupyter_book") is None:
        raise ConfigError("Jupyter Book is missing: install it with pip install -e '.[book]'.")
    pairs = book_pairs(root, budget)
    expected = [f"{pair.name}/{name}" for pair in pairs for name in pair.analyses]
    expected += book_pages(root)
    absent = [n for n in expected if not (root / "book/executed" / f"{n}.ipynb").is_file()]
    if absent:
        raise BookError(
            f"{len(absent)} pages are not executed yet ({absent[0]}, ...): say mechshift book."
        )
    generate(root, stale, budget)
    out = out or root
    # It has no __main__ to run by -m.
    start = "from mechshift_lib.processes import end_with_owner; end_with_owner(); "
    start += "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(root)]
    command += ["--toc", str(root / "book" / "generated" / TOC)]
    command += ["--path-output", str(out), "-W", "-n", "--keep-going", "--quiet"]
    with interruptible():
        for package in vendor(root):
            print(f"{package} is missing: npm, or a network, isn't there.", file=sys.stderr)
        done = run_child(command, cwd=root, capture=True)
    page = out / "_build" / "html" / "index.html"
    if done.returncode or not page.is_file():
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        raise BookError("The book has a warning or an error: it stands above.")
    write_launchers(page.parent / FOLDER, root)
    for name, size in heavy_pages(page.parent):
        print(f"{name} weighs {size / 1e6:.1f} MB: fold or shorten its tables.", file=sys.stderr)
    return page
