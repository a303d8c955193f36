"""The built pages: links, Colab, search, phone width, light and dark, equations without a network.

The book is built once, with small made-up notebooks in the place of the executed ones; building it
at all shows that it has no warning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from book._ext import play
from book._ext.explorer import PAGE, SCRIPTS
from mechshift_lib.book import contents
from mechshift_lib.book.launch import FOLDER
from mechshift_lib.comparison.claims import CLAIMS, SAID
from mechshift_lib.comparison.verdicts import OUTCOMES
from mechshift_lib.config import ANALYSES, ROOT, load_pair
from mechshift_lib.markup.tables import table_html
from mechshift_lib.workflow import default_pairs
from tests.book.browser import ask, complaints, serve
from tests.book.make_site import FIGURE, RARE_WORD, ROWS

pytestmark = pytest.mark.browser
PLAY = ("play", play.PAGE, play.SCRIPTS)
NOTEBOOK_PAGE = "book/executed/tiny-llama/circuits.html"


@pytest.fixture(scope="module")
def site(copy_of_site: Callable[[str], Path]) -> Path:
    return copy_of_site("site")


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with serve(site) as address:
        yield address


@pytest.fixture(scope="module")
def soups(site: Path) -> dict[Path, BeautifulSoup]:
    pages = [path for path in site.rglob("*.html") if path.name != "frame.html"]  # ours, to look in
    files = [path for path in pages if "_static" not in path.parts]  # the theme's templates
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in files}


def anchors(soup: BeautifulSoup) -> set[str]:
    named = {tag["name"] for tag in soup.find_all("a", attrs={"name": True})}
    return named | {tag["id"] for tag in soup.find_all(id=True)}


def test_no_internal_link_is_broken(site: Path, soups: dict[Path, BeautifulSoup]) -> None:
    broken, checked = [], 0
    for path, soup in soups.items():
        links = [(tag, tag[a]) for a in ("href", "src") for tag in soup.find_all(attrs={a: True})]
        for tag, link in links:
            url, fragment = urldefrag(link)
            if urlparse(link).scheme or link.startswith("//") or (tag.name == "link" and not url):
                continue
            checked += 1
            place = unquote(url.split("?")[0])
            # A page for lost readers is shown at any address, so its links begin at the book's.
            rooted = place.startswith("/") and path.name == "404.html"
            below = site / place.split("/", 2)[2] if rooted else path.parent / place
            target = below.resolve() if url else path
            if target.is_dir():
                target /= "index.html"
            missing = fragment and target in soups and fragment not in anchors(soups[target])
            if missing and "=" in fragment and soups[target].find(id="explorer"):
                missing = False  # what the explorer's script is to show, not a place
            if not target.exists() or missing:
                broken.append(f"{path.relative_to(site)} -> {link}")
    assert checked > 500
    assert broken == []


def test_every_chapter_has_its_page_and_a_title_of_its_own(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    files = ["book/index", *contents.pages()]
    titles = [soups[site / f"{file}.html"].title.get_text(strip=True) for file in files]
    assert len(set(titles)) == len(files)


def test_a_question_has_every_pair_under_one_story(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    soup = soups[site / "book/generated/questions/overlap.html"]
    having = [load_pair(name) for name in default_pairs()]
    assert len(having) > 2
    text = " ".join(soup.get_text(" ").split())
    assert text.count("The same prose for every pair.") == 1
    for pair in having:
        assert f"{pair.title}. Made up for overlap: {pair.title}." in text
        full = soup.find("a", href=f"../../executed/{pair.name}/overlap.html")
        assert full is not None
    tabs = [label.get_text(strip=True) for label in soup.select("label.sd-tab-label")]
    assert tabs == [pair.title for pair in having]
    drawings = soup.select("article figure svg[role=img]")
    assert len(drawings) == len(having)
    assert all(drawing["aria-label"].startswith(FIGURE) for drawing in drawings)
    tables = soup.select("article table")  # behind the figures, folded up
    assert len(tables) == len(having)
    assert all(table.find_parent("details") for table in tables)
    assert text.count("Made-up finding.") == 1  # above the figures, in no caption


@pytest.mark.parametrize("service", [r"colab\.research", "mybinder"])
def test_launch_buttons_open_the_pages_own_notebook(
    service: str, site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    """Colab reads a branch that holds the folder of launchers, Binder makes the same folder."""
    found = {}
    for path, soup in soups.items():
        links = {unquote(a["href"]) for a in soup.find_all("a", href=re.compile(service))}
        if links:
            found[path.relative_to(site).with_suffix("").as_posix()] = links
    executed = {p.relative_to(site).as_posix() for p in site.glob("book/executed/**/*.html")}
    assert {f"{page}.html" for page in found} == executed
    for page, links in found.items():
        name = page.removeprefix("book/executed/")
        [link] = links
        assert re.search(rf"/{FOLDER}/{name}\.ipynb$", link), page
        opened = nbformat.read(site / FOLDER / f"{name}.ipynb", as_version=4)
        if "/" in name:
            assert any(f'pair = "{name.split("/")[0]}"' in c.source for c in opened.cells)


def test_the_papers_page_says_its_claims_and_no_number(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    links = {link["href"] for link in soups[site / "book/paper.html"].select("article a[href]")}
    assert "executed/paper.html" in links
    cells = [
        [cell.get_text().replace("’", "'") for cell in row.select("td")]
        for row in soups[site / "book/paper.html"].select("tbody tr")
    ]
    for claim, said in SAID.items():
        assert [claim, f"{said[:1].upper()}{said[1:]}"] in cells
    assert not soups[site / "book/paper.html"].select(".outcome"), "what was found stands elsewhere"
    source = (ROOT / "book/paper.md").read_text(encoding="utf-8")
    assert not re.findall(r"\b0\.\d+", source), "a published number is typed by hand"


def test_a_pairs_first_page_says_what_its_chapters_found(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    for name in default_pairs():
        analyses = load_pair(name).analyses
        overview = soups[site / f"book/generated/{name}.html"]
        assert overview.get_text(" ").count("Made up") == len(analyses) - 1
        assert "MadeUp" in overview.get_text() or load_pair(name).arm.source.kind != "folder"
        links = {link["href"] for link in overview.select("article a[href]")}
        assert {f"../executed/{name}/{analysis}.html" for analysis in analyses} <= links


def test_the_landing_page_leads_to_every_pair_and_question(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    landing = soups[site / "book/index.html"]
    links = {link["href"] for link in landing.select("article a[href]")}
    assert {f"generated/{name}.html" for name in default_pairs()} <= links
    assert {f"generated/questions/{analysis}.html" for analysis in ANALYSES} <= links
    assert len(landing.select(".panels svg")) == 2
    assert "MadeUp" in landing.get_text()


def test_a_figure_has_a_number_a_caption_and_what_it_was_drawn_from(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    figure = soups[site / NOTEBOOK_PAGE].select_one("div.cell_output figure")
    assert figure is not None
    assert figure.find("svg")["aria-label"].startswith(FIGURE)
    caption = " ".join(figure.find("figcaption").get_text().split())
    assert caption == f"Figure 1. Made-up finding. {FIGURE}: n = 2 layers"
    links = {link.get_text(): link["href"] for link in figure.select(".mechshift-tools a")}
    assert list(links) == ["CSV", "code", "provenance"]
    file = (site / NOTEBOOK_PAGE).parent / links["CSV"]
    assert file.name == "tiny-llama-circuits-1.csv"
    assert file.read_text() == "layer,share\n0,0.25\n1,0.75\n"


def test_identifiers_are_given_once_a_page(site: Path, soups: dict[Path, BeautifulSoup]) -> None:
    for path in (site / NOTEBOOK_PAGE, site / "book/executed/verdicts.html"):
        ids = [tag["id"] for tag in soups[path].select("article [id]")]
        assert len(ids) == len(set(ids)), path


def test_pages_with_tables_alone_load_what_sorts_them(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    for path, soup in soups.items():
        scripts = [Path(urlparse(s["src"]).path).name for s in soup.find_all("script", src=True)]
        wanted = bool(soup.select("article .mechshift-table"))
        own = [name for name in scripts if name.startswith(("sortable", "tables"))]
        assert own == (["sortable.js", "sortable.a11y.js", "tables.js"] if wanted else []), path
    assert soups[site / NOTEBOOK_PAGE].select("article .mechshift-table")
    assert not soups[site / "book/index.html"].select("article .mechshift-table")


SORT = """new Promise(done => {
  const names = () => [...d.querySelector('table.sortable').tBodies[0].rows]
    .map(row => row.cells[1].textContent);
  const second = d.querySelectorAll('table.sortable th')[1];
  second.dispatchEvent(new w.KeyboardEvent('keydown', {key: 'Enter', bubbles: true}));
  setTimeout(() => done([names(), second.tabIndex, second.getAttribute('aria-sort')]), 300);
})"""
FILTER = """(() => {
  const field = d.querySelector('.mechshift-filter input');
  field.value = '10.5';
  field.dispatchEvent(new w.Event('input'));
  const box = field.closest('.mechshift-table');
  const left = [...box.querySelectorAll('tbody tr')].filter(row => !row.hidden).length;
  return [left, box.querySelector('[role=status]').textContent];
})()"""


def test_a_table_sorts_by_its_numbers_from_the_keyboard(address: str) -> None:
    names, stop, order = ask(address, NOTEBOOK_PAGE, SORT, width=1000)
    assert names == [f"{k}.5 [0, 9]" for k in sorted(ROWS)]
    assert stop == 0
    assert order == "ascending"


def test_a_long_table_is_searched(address: str) -> None:
    left, told = ask(address, NOTEBOOK_PAGE, FILTER, width=1000)
    assert left == 1
    assert told == f"1 of {len(ROWS)} rows"


def test_a_table_of_seven_columns_fits_between_the_side_bars(address: str) -> None:
    cells = ["Greater-Than", "MDM as far as the control", *["0.41 [0.36, 0.47]"] * 4, "5"]
    names = [f"answers right, training {i} (%)" for i in range(len(cells))]
    html = table_html(pd.DataFrame([cells] * 3, columns=names))
    js = f"""(() => {{
      const cell = d.querySelector(".cell_output .output");
      cell.innerHTML = {json.dumps(html)};
      const table = cell.querySelector("table"), spans = [...table.querySelectorAll("span")];
      return [table.scrollWidth - table.clientWidth, d.documentElement.scrollWidth,
              spans.length, Math.max(...spans.map(span => span.getClientRects().length))];
    }})()"""
    over, wide, spans, lines = ask(address, NOTEBOOK_PAGE, js, width=1300)
    assert (over, spans, lines) == (0, 24, 1)
    assert wide <= 1300
    over, wide, _, lines = ask(address, NOTEBOOK_PAGE, js, width=390)
    assert over > 0  # it scrolls by itself
    assert wide <= 390
    assert lines == 1


def test_one_drawing_follows_the_pages_mode_and_fits_a_phone(address: str) -> None:
    js = """(() => {
      const drawing = d.querySelector('figure svg');
      const text = drawing.querySelector('text');
      return [getComputedStyle(text).fill, drawing.getBoundingClientRect().width,
        drawing.parentElement.getBoundingClientRect().right, drawing.parentElement.tabIndex,
        parseFloat(getComputedStyle(text).fontSize) * drawing.getScreenCTM().a];
    })()"""
    light, wide, _, _, type_size = ask(address, NOTEBOOK_PAGE, js, width=1200)
    dark, narrow, right, reached, small = ask(address, NOTEBOOK_PAGE, js, width=390, mode="dark")
    assert light != dark
    assert wide == narrow == pytest.approx(571, abs=1)
    assert 14.5 <= small <= type_size <= 16.5
    # It scrolls inside itself, also by the keyboard.
    assert right <= 390
    assert reached == 0


def test_what_goes_on_sideways_fades_until_its_end_is_seen(address: str) -> None:
    js = """new Promise(done => {
      const box = d.querySelector('figure svg').parentElement;
      const fades = () => [box.classList.contains('mechshift-more'),
        w.getComputedStyle(box).maskImage.includes('gradient')];
      const before = fades();
      box.scrollLeft = box.scrollWidth;
      box.dispatchEvent(new w.Event('scroll')); // a hidden window is late to tell of it
      setTimeout(() => done([before, fades()]), 300);
    })"""
    before, at_the_end = ask(address, NOTEBOOK_PAGE, js, width=390)
    assert before == [True, True]
    assert at_the_end == [False, False]
    wide, _ = ask(address, NOTEBOOK_PAGE, js, width=1200)
    assert wide == [False, False]


def raw_tables(soup: BeautifulSoup) -> list[str]:
    """Tables of Markdown that were not made into tables."""
    article = BeautifulSoup(str(soup.find("article") or ""), "html.parser")
    for code in article.select("pre, code, script, .math"):
        code.decompose()
    return re.findall(r"\|\s*:?(?:-{3,}|—|–)[^|\n]*\|", article.get_text("\n"))  # or as dashes


def empty_sections(soup: BeautifulSoup) -> list[str]:
    """Headings with nothing between them and the next one of their level or above, or the end."""
    found = []
    for heading in soup.select("article h1, article h2, article h3, article h4"):
        section = heading.find_parent("section")
        beside = section.find_all(recursive=False) if section else heading.find_next_siblings()
        rest = [one for one in beside if one is not heading]
        if not any(one.get_text(strip=True) or one.find(["img", "svg"]) for one in rest):
            found.append(heading.get_text(strip=True))
    return found


def test_no_page_shows_raw_pipes_or_an_empty_section(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    for path, soup in soups.items():
        assert raw_tables(soup) == [], path.relative_to(site)
        assert empty_sections(soup) == [], path.relative_to(site)


def test_raw_pipes_and_empty_sections_would_be_found() -> None:
    bad = """<article><section><h1>A</h1><section><h2>Empty</h2></section><section><h2>B</h2>
    <p>| claim | pair |<br>|—|—| and |score|</p></section></section></article>"""
    soup = BeautifulSoup(bad, "html.parser")
    assert empty_sections(soup) == ["Empty"]
    assert raw_tables(soup) == ["|—|"]


def test_the_grid_of_verdicts_is_a_table_wherever_it_stands(
    site: Path, soups: dict[Path, BeautifulSoup]
) -> None:
    for page in ("book/index", "book/executed/verdicts"):
        tables = soups[site / f"{page}.html"].select("article table")
        grids = [table for table in tables if table.select(".outcome")]
        assert len(grids) == 1, page
        rows = grids[0].select("tbody tr")
        assert [row.find("strong").get_text() for row in rows] == list(CLAIMS)
        badges = [badge.get_text().replace("’", "'") for badge in grids[0].select(".outcome")]
        words = {badge.split(" ", 1)[1] for badge in badges}
        assert words == set(OUTCOMES)
    gaps = soups[site / "book/limits.html"].get_text(" ")
    assert "Nobody has looked" in gaps


@pytest.mark.parametrize(("name", "page", "scripts"), [("explorer", PAGE, SCRIPTS), PLAY])
def test_a_page_of_scripts_alone_loads_them(
    site: Path, soups: dict[Path, BeautifulSoup], name: str, page: str, scripts: tuple[str, ...]
) -> None:
    own = {
        path.relative_to(site).as_posix(): [
            Path(urlparse(script["src"]).path).stem
            for script in soup.find_all("script", src=re.compile(f"/{name}/"))
        ]
        for path, soup in soups.items()
    }
    assert {page for page, found in own.items() if found} == {f"{page}.html"}
    assert own[f"{page}.html"] == list(scripts)
    assert soups[site / f"{page}.html"].find(id=name)


def test_no_page_complains_in_the_console(address: str) -> None:
    for page in ("book/index.html", NOTEBOOK_PAGE, "book/methods/comparison.html"):
        assert complaints(address, page) == [], page


def test_a_complaint_in_the_console_would_be_heard(address: str, site: Path) -> None:
    (site / "twice.html").write_text("<script>const A = 1</script><script>const A = 2</script>")
    assert any("already been declared" in line for line in complaints(address, "twice.html"))


def test_the_search_finds_a_word_on_its_page(site: Path) -> None:
    script = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(script[script.index("(") + 1 : script.rindex(")")])

    def pages(word: str) -> set[str]:
        found = index["terms"].get(word, [])
        return {index["docnames"][i] for i in (found if isinstance(found, list) else [found])}

    rare = [term for term in index["terms"] if RARE_WORD.startswith(term) and len(term) > 6]
    assert len(rare) == 1
    assert pages(rare[0]) == {"book/executed/tiny-llama/circuits"}
    assert "book/methods/circuits" in pages("gradient")


def test_the_search_page_answers_in_a_browser(address: str) -> None:
    js = "[...d.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))"
    found = ask(address, f"search.html?q={RARE_WORD}", js, width=1000)
    assert any("tiny-llama/circuits.html" in link for link in found)


@pytest.mark.parametrize(
    "page",
    [
        "book/index.html",
        "book/paper.html",
        "book/methods/circuits.html",
        NOTEBOOK_PAGE,
        "book/library.html",
    ],
)
def test_no_page_scrolls_sideways_on_a_phone(address: str, page: str) -> None:
    js = "[d.documentElement.scrollWidth, w.innerWidth, d.querySelector('article').scrollWidth]"
    page_width, window, article = ask(address, page, js, width=390)
    assert window == 390
    assert page_width <= window, f"{page} is {page_width} px wide"
    assert article <= window


def test_nothing_of_a_notebook_stands_on_a_light_card_in_the_dark(address: str) -> None:
    js = """[...d.querySelectorAll('.mechshift-figure, .mechshift-table')].map(
      shown => getComputedStyle(shown.closest('.cell_output > *')).backgroundColor)"""
    grounds = ask(address, NOTEBOOK_PAGE, js, mode="dark")
    assert len(grounds) > 1
    assert set(grounds) == {"rgba(0, 0, 0, 0)"}


def test_dark_is_dark_and_readable(address: str) -> None:
    js = (
        "[getComputedStyle(d.body).backgroundColor, "
        "getComputedStyle(d.querySelector('article p')).color]"
    )

    def brightness(colour: str) -> float:
        return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3

    light = [brightness(c) for c in ask(address, "book/index.html", js, mode="light")]
    dark = [brightness(c) for c in ask(address, "book/index.html", js, mode="dark")]
    assert light[0] > 230
    assert light[1] < 80
    assert dark[0] < 60
    assert dark[1] > 160


def test_equations_are_set(address: str, site: Path) -> None:
    js = "[d.querySelectorAll('mjx-container').length, d.querySelectorAll('mjx-merror').length]"
    shown, wrong = ask(address, "book/methods/circuits.html", js, width=1000)
    assert shown > 10
    assert wrong == 0
