"""Comparative pages: one story, every pair's findings, links that still hold, nothing left over."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mechshift_lib.book.contents import titles
from mechshift_lib.book.questions import FOLDER, IN_NUMBERS, NOBODY, question_page, write_questions
from mechshift_lib.config import ANALYSES, Pair

MODEL = {
    "source": {"kind": "folder", "path": "x"},
    "attention": "causal",
    "readout": "next-token",
}


def _pair(name: str, *analyses: str) -> Pair:
    described = {"title": name.upper(), "description": "-", "tasks": ["ioi"]}
    return Pair.model_validate(
        {"name": name, **described, "arm": MODEL, "mdm": MODEL, "analyses": analyses}
    )


def _output(kind: str, data: str) -> nbformat.NotebookNode:
    return new_output("display_data", {kind: data, "text/plain": "-"})


def _figure(name: str) -> nbformat.NotebookNode:
    found = f'<span class="mechshift-found">Found in {name}.</span>'
    html = f"<figure><svg/><figcaption>{found} Drawn of {name}.</figcaption></figure>"
    data = {"text/html": html, "text/markdown": f"Found in {name}.", "image/png": "x"}
    return new_output("display_data", data)


def _chapter(name: str) -> nbformat.NotebookNode:
    return new_notebook(
        cells=[
            new_markdown_cell(f"# Lenses: {name.upper()}\n\nHow it begins.", id="a"),
            new_code_cell("import", id="b"),
            new_markdown_cell("## Left out\n\nAbout a cell that isn't compared.", id="c"),
            new_code_cell("x", outputs=[_output("text/markdown", "not compared")], id="d"),
            new_markdown_cell("## Compared\n\nSee [probes](probes.ipynb#x) and "
                              "[this](../tiny-qwen/patching.ipynb), [how](../../methods/lens.md).",
                              id="e"),
            new_code_cell(
                "tell",
                outputs=[
                    _figure(name),
                    _output("text/html", f"<table><td>{name}</td></table>"),
                ],
                metadata={"tags": ["finding"]},
                id="f",
            ),
            new_markdown_cell("About another that is left out.", id="g"),
            new_code_cell("y", outputs=[_output("text/markdown", "neither")], id="h"),
            new_markdown_cell("The last word on it.\n\n## Both say the same", id="i"),
            new_code_cell(
                "say",
                outputs=[_output("text/markdown", "As published."),
                         _output("text/markdown", "| a | b |\n|---|---|\n| 1 | 2 |")],
                metadata={"tags": ["compared"]},
                id="j",
            ),
            new_markdown_cell("What this page can't say: much.", id="k"),
            new_markdown_cell("Provenance of it.", metadata={"tags": ["provenance"]}, id="l"),
        ]
    )  # fmt: skip


def test_one_story_with_the_findings_of_every_pair() -> None:
    having = [(_pair(name, "lens"), _chapter(name)) for name in ("one", "two")]
    text = question_page("lens", having)
    assert text.startswith("# Lenses\n\nHow it begins.\n")
    assert "[ONE](../../executed/one/lens.ipynb), [TWO](../../executed/two/lens.ipynb)" in text
    for once in ("## Compared", "The last word on it.", "## Both say the same", "As published."):
        assert text.count(once) == 1
    for never in ("Left out", "not compared", "neither", "left out", "Provenance", "import"):
        assert never not in text
    assert "[probes](probes.md#x)" in text
    assert "[this](patching.md), [how](../../methods/lens.md)" in text
    assert "**ONE.** Found in one.\n" in text
    assert text.index("**ONE.** Found") < text.index("**TWO.** Found") < text.index("{tab-set}")
    # What is found stands above the tabs already.
    drawn = "<figure><svg/><figcaption>Drawn of two.</figcaption></figure>"
    assert f"```{{raw}} html\n{drawn}\n```" in text
    assert text.count("Found in two.") == 1
    assert text.count(":sync: one") == 2  # the figure's tab and the table's
    assert text.count("| a | b |") == 2
    # A table behind a figure is folded up; one without stands as it is.
    table = "<table><td>two</td></table>"
    assert f":::{{dropdown}} {IN_NUMBERS}\n```{{raw}} html\n{table}\n```\n:::" in text
    assert text.count("{dropdown}") == 2
    assert text.rstrip().endswith("What this page can't say: much.")


def test_figures_count_anew_alike_for_all_pairs() -> None:
    def chapter(name: str, count: int) -> nbformat.NotebookNode:
        drawn = '<figure><svg/><b class="mechshift-number">Figure {}.</b> Of {}.</figure>'
        cells = [
            new_code_cell(
                "tell",
                outputs=[_output("text/html", drawn.format(i + 3, name)) for i in numbers],
                metadata={"tags": ["finding"]},
                id=f"f{k}",
            )
            for k, numbers in enumerate((range(count), range(count, count + 1)))
        ]
        return new_notebook(cells=[new_markdown_cell("# T\n\nOpening.", id="a"), *cells])

    having = [
        (_pair("one", "lens"), chapter("one", 1)),
        (_pair("two", "lens"), chapter("two", 2)),
    ]
    text = question_page("lens", having)
    assert re.findall(r"Figure (\d)\.</b> Of (\w+)", text) == [
        ("1", "one"), ("1", "two"), ("2", "two"), ("3", "one"), ("3", "two"),
    ]  # fmt: skip


def test_what_a_chapter_has_folded_up_stays_there() -> None:
    folded = "<details><summary>All</summary><table></table></details>"
    cell = new_code_cell(
        "tell",
        outputs=[_figure("one"), _output("text/html", folded)],
        metadata={"tags": ["finding"]},
        id="f",
    )
    chapter = new_notebook(cells=[new_markdown_cell("# T\n\nOpening.", id="a"), cell])
    text = question_page("lens", [(_pair("one", "lens"), chapter)])
    assert "All" not in text
    assert "{dropdown}" not in text


def test_a_page_is_headed_as_in_the_contents(tmp_path: Path) -> None:
    executed, book = tmp_path / "executed", tmp_path / "book"
    pair = _pair("one", "lens")
    (executed / "one").mkdir(parents=True)
    nbformat.write(_chapter("one"), executed / "one" / "lens.ipynb")
    write_questions(executed, [pair], book)
    page = book / FOLDER / "lens.md"
    assert page.read_text(encoding="utf-8").startswith("# Lenses\n")
    shutil.copy("_toc.yml", tmp_path)
    write_questions(executed, [pair], book)
    assert page.read_text(encoding="utf-8").startswith(f"# {titles()[f'book/{FOLDER}/lens']}\n")
    # The contents title every comparative page.
    assert {f"book/{FOLDER}/{name}" for name in ANALYSES} <= set(titles())


def test_a_single_pair_is_named_too() -> None:
    text = question_page("lens", [(_pair("one", "lens"), _chapter("one"))])
    assert "**ONE.** As published." in text


def test_pages_and_figures_are_those_of_the_pairs_there_are(tmp_path: Path) -> None:
    executed, book = tmp_path / "executed", tmp_path / "book"
    pairs = [_pair("one", "lens"), _pair("two", "lens", "probes")]
    for pair in pairs:
        (executed / pair.name).mkdir(parents=True)
        nbformat.write(_chapter(pair.name), executed / pair.name / "lens.ipynb")
    pages = write_questions(executed, pairs, book)
    assert [page.stem for page in pages] == list(ANALYSES)
    lens = book / FOLDER / "lens.md"
    (book / FOLDER / "of-an-older-version.png").write_bytes(b"x")
    # Not executed yet.
    assert NOBODY in (book / FOLDER / "probes.md").read_text(encoding="utf-8")
    before = lens.stat().st_mtime_ns
    write_questions(executed, pairs, book)
    assert lens.stat().st_mtime_ns == before
    write_questions(executed, pairs[:1], book)
    assert not (book / FOLDER / "of-an-older-version.png").exists()
    assert "TWO" not in lens.read_text(encoding="utf-8")


def test_sentences_that_are_the_same_for_all_pairs_stand_once() -> None:
    def chapter(value: str, last: str) -> nbformat.NotebookNode:
        said = f"**C1 is open**. It is 0.{value}. Bars are intervals. So they are. {last}"
        cell = new_code_cell(
            "tell",
            outputs=[_output("text/markdown", said)],
            metadata={"tags": ["finding"]},
            id="b",
        )
        return new_notebook(cells=[new_markdown_cell("# T\n\nOpening.", id="a"), cell])

    page = question_page(
        "lens",
        [
            (_pair("one", "lens"), chapter("1", "Only here.")),
            (_pair("two", "lens"), chapter("2", "There.")),
        ],
    )
    lines = [
        "**ONE.** **C1 is open**. It is 0.1. Only here.",
        "**TWO.** **C1 is open**. It is 0.2. There.",
        "Bars are intervals. So they are.",
    ]
    assert "\n\n".join(lines) in page
    alone = question_page("lens", [(_pair("one", "lens"), chapter("1", "Only here."))])
    assert (
        "**ONE.** **C1 is open**. It is 0.1. Bars are intervals. So they are. Only here." in alone
    )
