"""What is generated for the hand-written pages, from executed notebooks."""

import tarfile
from io import BytesIO

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mechshift_lib.book.build import HEAVY, heavy_pages
from mechshift_lib.book.generated import (
    CHAPTERS,
    CLAIMS,
    GAPS,
    GRID,
    BookError,
    chapter_title,
    findings_page,
    from_verdicts,
    overview_page,
)
from mechshift_lib.book.vendored import unpack
from mechshift_lib.config import load_pair


def chapter(heading, *cells):
    return new_notebook(cells=[new_code_cell("# no heading"), new_markdown_cell(heading), *cells])


def said(text, *tags):
    output = new_output("display_data", {"text/markdown": text, "text/plain": "t"})
    return new_code_cell("say()", outputs=[output], metadata={"tags": list(tags)})


@pytest.fixture
def executed(tmp_path):
    pair = load_pair("tiny-qwen")
    (tmp_path / pair.name).mkdir()
    cells = [
        said("✗ **C2 is not**.\n\n✓ **C1 is reproduced**.", "finding", "verdict"),
        said("First found.", "finding"),
        said("**Tagged.** n = 3\n\nAnd more.", "finding", "main"),
        said("not tagged"),
        new_code_cell("1"),
    ]
    book = chapter(f"# Overlap and depth: {pair.title}\n\nText.", *cells)
    nbformat.write(book, tmp_path / pair.name / "overlap.ipynb")
    return tmp_path


def test_an_overview_says_what_executed_chapters_found_and_links_to_them(executed):
    page = overview_page(executed, load_pair("tiny-qwen"))
    assert page.startswith("# Tiny Qwen2\n")
    claims, _, chapters = page.partition(f"## {CHAPTERS}\n")
    assert f"## {CLAIMS}\n\n✓ **C1 is reproduced**.\n\n✗ **C2 is not**.\n" in claims
    link = "[Overlap and depth](../executed/tiny-qwen/overlap.ipynb)"
    assert chapters.strip() == f"**{link}.** **Tagged.** n = 3"  # the others are not executed
    assert "| 6 × 4 (2) | 128 | 1,280,128 (F16) |" in page


def test_the_landing_page_links_what_is_there(executed):
    lines = findings_page(executed, [load_pair("tiny-qwen"), load_pair("tiny-llama")])
    assert lines.splitlines() == [
        "- [Tiny Qwen2](generated/tiny-qwen.md), 1 chapter",
        "- [Tiny Llama](generated/tiny-llama.md), 0 chapters",
    ]


def test_a_chapter_without_a_heading_is_refused():
    with pytest.raises(BookError, match="no heading"):
        chapter_title(chapter("Text."), load_pair("tiny-qwen"))


def test_without_a_main_finding_the_first_stands_for_a_chapter_and_without_any_it_is_linked(
    executed,
):
    pair = load_pair("tiny-qwen")
    for name, cells in {
        "circuits": [said("not tagged"), said("? **C5 is undecided**.", "finding", "verdict")],
        "patching": [said("One.\n\nTwo.", "finding"), said("Three.", "finding")],
    }.items():
        found = chapter(f"# {name.capitalize()}", *cells)
        nbformat.write(found, executed / pair.name / f"{name}.ipynb")
    page = overview_page(executed, pair)
    assert "\n? **C5 is undecided**.\n" in page
    assert "\n**[Circuits](../executed/tiny-qwen/circuits.ipynb)**\n" in page
    assert "\n**[Patching](../executed/tiny-qwen/patching.ipynb).** One.\n" in page


def test_parts_of_the_page_of_verdicts_are_found_by_their_tag(tmp_path):
    with pytest.raises(BookError, match="not executed yet"):
        from_verdicts(tmp_path, GRID)
    cells = [said("the grid", GRID), said("the gaps", GAPS)]
    nbformat.write(chapter("# Verdicts", *cells), tmp_path / "verdicts.ipynb")
    assert from_verdicts(tmp_path, GRID) == "the grid"
    assert from_verdicts(tmp_path, GAPS) == "the gaps"


def test_only_plain_files_inside_of_the_folder_are_unpacked(tmp_path):
    """Without the standard library's filter, which Python 3.11.0 doesn't have."""
    archive, folder = tmp_path / "a.tgz", tmp_path / "folder"
    folder.mkdir()
    with tarfile.open(archive, "w:gz") as made:
        for name in ("package/es5/a.js", "../outside.js", str(tmp_path / "absolute.js")):
            member = tarfile.TarInfo(name)
            member.size = 2
            made.addfile(member, BytesIO(b"ok"))
        link = tarfile.TarInfo("package/link.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        made.addfile(link)
    unpack(archive, folder)
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == [
        "package/es5/a.js"
    ]
    assert (folder / "package/es5/a.js").read_bytes() == b"ok"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz", "folder"]


def test_heavy_pages_are_named_the_heaviest_first(tmp_path):
    for name, size in (("a/x.html", HEAVY + 1), ("y.html", HEAVY + 2), ("z.html", HEAVY)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b" " * size)
    assert heavy_pages(tmp_path) == [("y.html", HEAVY + 2), ("a/x.html", HEAVY + 1)]
