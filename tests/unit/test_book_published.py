"""What the published book says of itself: addresses, descriptions, card, citation."""

from __future__ import annotations

import importlib.util
import io
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from docutils import nodes
from PIL import Image

from mechshift_lib import __version__
from mechshift_lib.book.card import card
from mechshift_lib.book.citation import citation_page
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.errors import ConfigError
from mechshift_lib.workflow import default_pairs


@pytest.fixture(scope="module")
def published() -> ModuleType:
    path = ROOT / "book" / "_ext" / "published.py"
    spec = importlib.util.spec_from_file_location("published", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("repository", "address"),
    [
        ("https://github.com/Someone/fork", "https://someone.github.io/fork/"),
        ("https://github.com/someone/someone.github.io", "https://someone.github.io/"),
    ],
)
def test_a_fork_is_published_at_its_own_address(
    published: ModuleType, repository: str, address: str
) -> None:
    assert published.public_address(repository) == address


def test_a_description_is_the_first_real_text(published: ModuleType) -> None:
    page = nodes.document(None, None)  # type: ignore[arg-type]
    note = nodes.note("", nodes.paragraph("", "A note that is longer than five words, but a note."))
    page += note
    page += nodes.paragraph("", "Too short.")
    page += nodes.paragraph("", "Which parts of a\nmodel carry the answer, and how?")
    assert published.description(page) == "Which parts of a model carry the answer, and how?"
    long = nodes.document(None, None)  # type: ignore[arg-type]
    long += nodes.paragraph("", "word, " * 100)
    cut = published.description(long)
    assert len(cut) <= published.LONGEST + 2
    assert cut.endswith("word …")
    assert published.description(None) == ""


def test_the_citation_is_that_of_the_file(tmp_path: Path) -> None:
    text = citation_page()
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert said["title"] in text
    assert f"version = {{{__version__}}}" in text
    assert said["references"][0]["title"] in text
    assert text.count("@") == 1 + len(said["references"])
    for name in ("CITATION.cff", "_config.yml"):
        shutil.copy(ROOT / name, tmp_path)
    del said["date-released"]
    (tmp_path / "CITATION.cff").write_text(yaml.safe_dump(said), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"CITATION\.cff lacks date-released: add it"):
        citation_page(tmp_path)


def test_zenodo_is_told_what_the_citation_says() -> None:
    zenodo = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert zenodo["version"] == said["version"] == __version__
    assert zenodo["title"] == said["title"]
    assert zenodo["license"] == said["license"]
    assert zenodo["keywords"] == said["keywords"]
    assert [one["name"] for one in zenodo["creators"]] == [one["name"] for one in said["authors"]]
    identifiers = {one["identifier"] for one in zenodo["related_identifiers"]}
    assert identifiers == {i["value"] for w in said["references"] for i in w["identifiers"]}


def test_the_changelog_has_this_version() -> None:
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_card_shows_shipped_circuits_in_the_size_of_link_previews(tmp_path: Path) -> None:
    pairs = [load_pair(name) for name in default_pairs()]
    picture = card(pairs)
    assert picture is not None
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    assert image.size == (1200, 630)
    colors = {color for _, color in image.getcolors(2**20)}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= colors, "ARM and MDM in their colours"
    assert len(picture) < 300_000
    assert card(pairs, tmp_path) is None, "nothing is drawn where no scores are shipped"


def test_another_circuit_gives_another_card() -> None:
    pairs = {name: load_pair(name) for name in default_pairs()}
    assert card([pairs["tiny-qwen"]]) != card([pairs["tiny-llama"]])
