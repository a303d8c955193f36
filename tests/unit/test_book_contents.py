"""The contents that a book is built by: chapters of the full budget come in in their place."""

from __future__ import annotations

from pathlib import Path

import yaml

from mechshift_lib.book.contents import pages, with_chapters
from mechshift_lib.config import load_pair
from mechshift_lib.workflow import book_pairs


def sections(text: str, pair: str) -> list[dict[str, str]]:
    chapters = [chapter for part in yaml.safe_load(text)["parts"] for chapter in part["chapters"]]
    (own,) = [x for x in chapters if x["file"] == f"book/generated/{pair}"]
    return own["sections"]


def test_a_book_has_the_contents_of_the_file() -> None:
    made = yaml.safe_load(with_chapters(book_pairs()))
    assert made == yaml.safe_load(Path("_toc.yml").read_text(encoding="utf-8"))


def test_a_chapter_of_the_full_budget_stands_in_its_place_under_its_usual_title() -> None:
    pair = load_pair("tiny-llama").model_copy(
        update={"name": "smollm2-135m", "analyses": ("behaviour", "patching", "lens", "neurons")}
    )
    found = sections(with_chapters([pair]), "smollm2-135m")
    names = [Path(x["file"]).name for x in found]
    assert names.index("overlap") < names.index("patching") < names.index("lens")
    assert names.index("components") < names.index("neurons") < names.index("attention")
    titles = {Path(x["file"]).name: x["title"] for x in found}
    assert titles["patching"] == "Activation patching"
    assert [x["file"] for x in found if x["file"] not in pages()] == [
        f"book/executed/smollm2-135m/{name}" for name in ("patching", "neurons")
    ]


def test_a_chapter_that_no_other_pair_has_is_titled_by_its_name(tmp_path: Path) -> None:
    first = {"file": "book/generated/tiny-llama", "title": "T"}
    contents = {"root": "book/index", "parts": [{"caption": "C", "chapters": [first]}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(contents), encoding="utf-8")
    pair = load_pair("tiny-llama").model_copy(update={"analyses": ("lens",)})
    assert sections(with_chapters([pair], tmp_path), "tiny-llama") == [
        {"file": "book/executed/tiny-llama/lens", "title": "Lens"}
    ]
