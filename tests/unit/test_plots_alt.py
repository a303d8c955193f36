"""Alternative texts, read off figures made by hand."""

import numpy as np
from matplotlib.figure import Figure

from mechshift_lib.plots.alt import LENGTH, alt_text


def drawn(cells):
    fig = Figure()
    one, other = fig.subplots(1, 2)
    fig.set_label("Where it is")
    fig.supylabel("rows")
    one.imshow(cells)
    one.set_title("ARM", loc="left")
    other.plot([0, 0.5], [0, 1])
    other.set_title("MDM")
    other.set_yticks([0, 1], ["early heads", "late heads"])
    other.set_xlabel("points lost")
    other.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    return fig


def test_title_finding_axes_and_ranges_are_told():
    text = alt_text(drawn(np.array([[-0.25, np.nan], [0.0, 0.75]])), "**Much** is lost.")
    assert text == (
        "Where it is. Much is lost. Axes: rows; points lost. Panels: ARM (-0.25 to 0.75, largest "
        "in row late heads, column 1); MDM (x from 0 to 50)."
    )


def test_two_tables_have_two_texts_and_neither_is_endless():
    texts = {alt_text(drawn(np.full((2, 2), value))) for value in (0.1, 0.2)}
    assert len(texts) == 2
    assert len(alt_text(drawn(np.full((2, 2), np.nan)), "x " * LENGTH)) <= LENGTH


def test_a_figure_without_anything_has_an_empty_text():
    assert alt_text(Figure()) == ""
