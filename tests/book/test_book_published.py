"""The built pages as link previews, search engines, lost readers and screen readers meet them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup

from mechshift_lib import __version__
from tests.book.browser import AXE, ask, serve
from tests.book.make_explorer import write_circuits
from tests.book.make_play import write_models

pytestmark = pytest.mark.browser
CHAPTER = "book/executed/tiny-llama/circuits"
QUESTION = "book/generated/questions/overlap"
PAGES = (
    "book/index",
    "book/explore",
    "book/play",
    "book/reproduce",
    "book/methods/circuits",
    CHAPTER,
    QUESTION,
    "book/references",
)


@pytest.fixture(scope="module")
def site(copy_of_site: Callable[[str], Path]) -> Path:
    pages = copy_of_site("published")
    write_models(pages / "_static", ["tiny-qwen"], (0,))
    write_circuits(pages / "_static", "tiny-llama", lambda one: (one.task, one.seed) == ("ioi", 0))
    return pages


@pytest.fixture(scope="module")
def address(site: Path, axe: Path) -> Iterator[str]:
    shutil.copy(axe, site / "axe.min.js")
    with serve(site) as address:
        yield address


def soup_of(site: Path, page: str) -> BeautifulSoup:
    return BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_description_a_canonical_address_and_a_card(site: Path, page: str) -> None:
    soup = soup_of(site, page)
    [description] = [tag["content"] for tag in soup.select("meta[name=description]")]
    assert len(description.split()) > 5
    said = {tag["property"]: tag["content"] for tag in soup.select("meta[property^='og:']")}
    assert said["og:description"] == description
    assert said["og:title"]
    [canonical] = [tag["href"] for tag in soup.select("link[rel=canonical]")]
    assert canonical == said["og:url"]
    assert canonical.endswith(f"/{page}.html")
    assert urlparse(canonical).scheme == "https"
    assert (site / urlparse(said["og:image"]).path.rsplit("/", 1)[1]).is_file()
    assert f"Version {__version__}" in soup.select_one("footer .extra_footer").get_text()


def test_descriptions_tell_the_hand_written_pages_apart(site: Path) -> None:
    pages = sorted((site / "book").glob("*.html"))
    texts = [soup.select_one("meta[name=description]") for soup in map(_read, pages)]
    found = [tag["content"] for tag in texts if tag]
    assert len(found) > 3
    assert len(set(found)) == len(found)


def _read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_the_map_lists_exactly_the_pages_of_the_book(site: Path) -> None:
    root = ElementTree.parse(site / "sitemap.xml").getroot()
    places = [urlparse(str(one.text)).path for one in root.iter() if one.tag.endswith("loc")]
    listed = {place[place.index("/book/") + 1 :] for place in places}
    there = {path.relative_to(site).as_posix() for path in (site / "book").rglob("*.html")}
    assert listed == there
    assert "sitemap.xml" in (site / "robots.txt").read_text(encoding="utf-8")


def test_a_lost_reader_is_led_back_from_any_depth(site: Path) -> None:
    soup = soup_of(site, "404")
    base = soup.select_one("base")["href"]
    assert base.startswith("/")
    assert base.endswith("/")
    links = {a["href"] for a in soup.select("article a[href]")}
    assert {"book/index.html", "search.html"} <= links
    assert soup.select_one("meta[name=robots]")["content"] == "noindex"


def test_the_project_says_how_it_is_cited(site: Path) -> None:
    text = soup_of(site, "book/references").get_text()
    assert "@software{mechshift" in text
    assert "2601.14758" in text


def test_pages_print_without_what_can_only_be_clicked(site: Path) -> None:
    css = (site / "_static" / "mechshift.css").read_text(encoding="utf-8")
    assert re.search(r"@media print \{[^@]+\.prev-next-footer", css)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_no_page_has_a_serious_fault_of_access(address: str, page: str, mode: str) -> None:
    found = ask(address, f"{page}.html", AXE, width=1000, mode=mode)
    assert found["rules"] > 15, "axe has looked at the page"
    serious = [fault for fault in found["faults"] if fault[0] in ("serious", "critical")]
    assert serious == []


def test_a_fault_of_access_would_be_found(address: str, site: Path) -> None:
    (site / "bad.html").write_text(
        "<!doctype html><html lang='en'><title>Bad</title><main><h1>Bad</h1>"
        "<img src='card.png'><p style='color:#bbb;background:#fff'>pale</p></main></html>"
    )
    found = {fault[1] for fault in ask(address, "bad.html", AXE)["faults"]}
    assert {"image-alt", "color-contrast"} <= found
