"""Figures on a page: a drawing that is the figure, a caption, a file, links, and numbers."""

from __future__ import annotations

import base64
import io
import re

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_output
from PIL import Image

from mechshift_lib.markup.drawing import MANY, PIXELS, laid_out, png, svg
from mechshift_lib.markup.figures import DPI, Drawn, fits_a_caption
from mechshift_lib.markup.numbers import number
from mechshift_lib.plots.drawn_from import drawn_from_tables, tables_of
from mechshift_lib.plots.palette import BLUE, INK, variable
from mechshift_lib.plots.theme import WIDTH, figure, handle, header, theme

TABLE = pd.DataFrame({"model": ["arm", "mdm"], "share": [0.123456789, 2.0]})


@drawn_from_tables
def plot_toy(table: pd.DataFrame, marks: int = 2) -> Figure:
    with theme():
        fig = figure(2.0)
        ax = fig.subplots()
        x = np.linspace(0, 1, marks)
        ax.plot(x, x**2, "o", color=BLUE)
        ax.set_xlabel("share <of all>")
        return header(fig, "What is drawn", "n = 2 models & more", [handle("ARM", BLUE)])


def page_of(*figures: Figure, said: str = "") -> list[BeautifulSoup]:
    outputs = [
        new_output("display_data", Drawn(fig, said)._repr_mimebundle_()[0]) for fig in figures
    ]
    cells = [new_code_cell("show", outputs=[output]) for output in outputs]
    number(cells, "toy-chapter", "../../executed/toy/chapter.html")
    return [BeautifulSoup(output.data["text/html"], "html.parser") for output in outputs]


def test_marks_that_look_alike_share_one_style_and_are_drawn_as_before() -> None:
    drawing = svg(plot_toy(TABLE, marks=60), "alt")
    marks = BeautifulSoup(drawing, "html.parser").find_all("use")
    groups = [m.parent for m in marks if m.parent is not None and m.parent.get("style")]
    assert len(groups) >= 60
    assert len({id(group) for group in groups}) == 1
    assert variable(BLUE) in groups[0]["style"]
    assert not any(mark.get("style") for mark in groups[0].find_all("use"))


def test_the_drawing_has_the_figures_text_but_its_heading_and_the_pages_colours() -> None:
    drawing = svg(plot_toy(TABLE), 'a "text" & more')
    soup = BeautifulSoup(drawing, "html.parser")
    assert soup.svg is not None
    assert soup.svg["aria-label"] == 'a "text" & more'
    assert soup.svg["role"] == "img"
    written = [text.get_text() for text in soup.find_all("text")]
    assert {"share <of all>", "ARM", "0.0", "1.0"} <= set(written)
    assert "What is drawn" not in written
    assert variable(BLUE) in drawing
    assert variable(INK) in drawing
    assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", drawing))
    assert "font-family" not in drawing
    assert "<style" not in drawing  # it would be the whole page's
    width = float(soup.svg["viewbox"].split()[2])
    assert width == pytest.approx(5.2 * 72)
    assert f"max-width: {5.2 * PIXELS:.0f}px" in soup.svg["style"]


def test_a_figure_is_the_same_after_it_was_drawn_and_draws_the_same_again() -> None:
    fig = plot_toy(TABLE)
    assert svg(fig, "x") == svg(fig, "x")
    assert all(text.get_visible() for text in fig.texts)
    assert not any(line.get_rasterized() for line in fig.axes[0].lines)


def test_identifiers_are_no_other_figures_and_lead_somewhere() -> None:
    one, other = svg(plot_toy(TABLE), "x"), svg(plot_toy(TABLE, 3), "x")
    for drawing in (one, other):
        ids = re.findall(r' id="([^"]+)"', drawing)
        assert len(ids) == len(set(ids)) > 0
        assert set(re.findall(r'(?:url\(#|href="#)([\w-]+)', drawing)) == set(ids)
    assert not set(re.findall(r' id="([^"]+)"', one)) & set(re.findall(r' id="([^"]+)"', other))


def test_very_many_marks_are_one_picture() -> None:
    few, many = svg(plot_toy(TABLE, MANY), "x"), svg(plot_toy(TABLE, 10 * MANY), "x")
    assert "<image" not in few
    assert many.count("<image") == 1
    assert len(many) < len(few)


def test_a_caption_begins_with_what_is_found_and_says_the_heading() -> None:
    [soup] = page_of(plot_toy(TABLE), said="**Much** is `lost` (n = 2).")
    caption = soup.figcaption
    assert caption is not None
    text = " ".join(caption.get_text().split())
    assert text.startswith("Figure 1. Much is lost (n = 2). What is drawn: n = 2 models & more")
    assert caption.find("strong") is not None


def test_what_is_found_stays_a_sentence_for_pages_that_collect_them() -> None:
    bundle, about = Drawn(plot_toy(TABLE), "Much is lost.")._repr_mimebundle_()
    assert bundle["text/markdown"] == "Much is lost."
    assert "Much is lost." in bundle["text/plain"]
    assert about["image/png"]["alt"] == bundle["text/plain"]
    assert "text/markdown" not in Drawn(plot_toy(TABLE))._repr_mimebundle_()[0]


@pytest.mark.parametrize("said", ["See [x](y.ipynb).", "A.\n\nB.", "- A", "$J$", "| a |", "a < b"])
def test_what_is_no_plain_paragraph_stays_above(said: str) -> None:
    assert not fits_a_caption(said)
    assert fits_a_caption("**Much** is lost, in *both*.")


def test_figures_are_numbered_and_link_to_file_code_and_provenance() -> None:
    soups = page_of(plot_toy(TABLE), plot_toy(TABLE, 3))
    for i, soup in enumerate(soups, start=1):
        assert soup.figure is not None
        assert soup.figure["id"] == f"toy-chapter-figure-{i}"
        assert soup.select_one(".mechshift-number").get_text() == f"Figure {i}."
        line = soup.select_one(".mechshift-tools")
        assert line["id"] == f"code-of-toy-chapter-figure-{i}"
        links = {link.get_text(): link for link in line.find_all("a")}
        assert list(links) == ["CSV", "code", "provenance"]
        assert links["CSV"]["download"] == f"toy-chapter-{i}.csv"
        assert links["code"]["href"].endswith(f"chapter.html#{line['id']}")
        assert links["provenance"]["href"] == "../../executed/toy/chapter.html#provenance"
        text = base64.b64decode(links["CSV"]["href"].partition("base64,")[2])
        pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(text)), TABLE.round(6))


def test_a_figure_of_several_tables_has_a_file_of_each() -> None:
    @drawn_from_tables
    def plot_two(one: pd.DataFrame, other_one: pd.DataFrame, scale: float = 1.0) -> Figure:
        return plot_toy(one)

    fig = plot_two(TABLE, other_one=TABLE * 2)
    assert list(tables_of(fig)) == ["one", "other_one"]
    [soup] = page_of(fig)
    files = [link["download"] for link in soup.select("a[download]")]
    assert files == ["toy-chapter-1-one.csv", "toy-chapter-1-other_one.csv"]


def test_the_picture_beside_the_drawing_is_the_whole_card() -> None:
    fig = matplotlib.figure.Figure(figsize=(2, 1), facecolor="#fbfbf9")
    drawn = Drawn(fig)
    assert Image.open(io.BytesIO(drawn.png)).size == (2 * DPI, DPI)
    assert "mechshift-tools" not in drawn.html  # nobody knows its table


def test_a_text_that_sticks_out_is_not_cut_off():
    with theme():
        fig = figure(2.0)
        ax = fig.subplots()
        inside = svg(fig, "a")
        ax.set_title("a title that is far longer than its panel " * 3)
        outside = svg(fig, "b")
    width = [float(re.search(r'viewBox="\S+ \S+ (\S+)', one)[1]) for one in (inside, outside)]
    assert width[0] == pytest.approx(72 * WIDTH, abs=0.1)
    assert width[1] > 1.5 * width[0]


def test_a_figure_is_left_as_it_was_and_drawn_alike_twice():
    with theme():
        fig = header(figure(2.0), "A title", "n = 3")
        fig.subplots().plot([0, 1])
        before = fig.get_layout_engine(), fig.dpi, fig.canvas, fig.patch.get_visible()
        with laid_out(fig):
            first = svg(fig, "a"), png(fig, 144)
        assert (fig.get_layout_engine(), fig.dpi, fig.canvas, fig.patch.get_visible()) == before
        assert all(text.get_visible() for text in fig.texts)
        assert (svg(fig, "a"), png(fig, 144)) == first
    assert "A title" not in first[0]
