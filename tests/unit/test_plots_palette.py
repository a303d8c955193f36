"""Colours: one place that has them, a value for each mode, and all of them seen on its ground."""

from __future__ import annotations

import re

import pytest
from matplotlib.colors import to_rgb

from mechshift_lib.config import ROOT
from mechshift_lib.plots import palette

PLOTS = ROOT / "mechshift_lib" / "plots"
LITERAL = re.compile(
    r"""["'](?:\#[0-9a-fA-F]{3,8}|C\d|tab:\w+|white|black|gr[ae]y|red|blue|green|orange|purple"""
    r"""|RdBu_r|viridis|cividis)["']"""
)
GROUNDS = {"light": "#ffffff", "dark": "#14181e"}


def luminance(color: str) -> float:
    parts = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def literals(source: str) -> list[str]:
    return LITERAL.findall(source)


def test_colours_are_named_in_the_palette_alone() -> None:
    found = {
        path.name: literals(path.read_text(encoding="utf-8"))
        for path in PLOTS.glob("*.py")
        if path.name != "palette.py"
    }
    assert len(found) > 20
    assert {name: colors for name, colors in found.items() if colors} == {}


@pytest.mark.parametrize("line", ['color="#0072b2"', "mec='white'", 'cmap="RdBu_r"', '"C1"'])
def test_a_literal_would_be_found(line: str) -> None:
    assert literals(line)
    assert not literals("marker='o', linestyle='none'")


def test_every_colour_of_a_meaning_has_a_value_in_each_mode() -> None:
    meanings = {
        *palette.ROLE_COLORS.values(),
        *palette.COMPARISON_COLORS.values(),
        *palette.PLACE_COLORS.values(),
        palette.SHARED,
        palette.READ,
        palette.USED,
        palette.ESTIMATE,
    }
    assert meanings <= {light for light, _, _ in palette.VARIABLES.values()}
    assert all(palette.variable(color).startswith("var(--figure-") for color in meanings)


def test_no_two_meanings_share_a_colour() -> None:
    models = {v for k, v in palette.ROLE_COLORS.items() if k not in ("random", "untrained")}
    places = set(palette.PLACE_COLORS.values()) - {palette.INK}
    measured = {palette.READ, palette.USED, palette.ESTIMATE}
    assert len(models) == len(palette.ROLE_COLORS) - 2
    assert not models & (places | measured | set(palette.OUTCOME_COLORS.values()))
    assert not places & measured
    ends = {palette.UP, palette.DOWN}
    assert not ends & (models | places | measured)


@pytest.mark.parametrize("mode", GROUNDS)
def test_marks_are_seen_on_the_ground_of_their_mode(mode: str) -> None:
    column = list(GROUNDS).index(mode)
    for name, values in palette.VARIABLES.items():
        if name not in ("ground", "grid"):
            # The lightest of Okabe-Ito have 2.1 on white; they have markers of their own.
            assert contrast(values[column], GROUNDS[mode]) > 2.1, name
    for text in ("ink", "muted"):
        assert contrast(palette.VARIABLES[text][column], GROUNDS[mode]) > 4.5


def test_the_style_sheet_has_every_variable_in_both_modes() -> None:
    sheet = palette.style_sheet()
    for name, (light, dark, _) in palette.VARIABLES.items():
        values = re.findall(rf"--figure-{name}: (.+);", sheet)
        assert values == ([dark, dark] if name == "ground" else [light, dark])


def test_nothing_is_invisible_in_a_map_of_what_is_there() -> None:
    grey, sided = palette.shades(0.5), palette.two_sided()
    assert grey(0.0)[3] == 0
    assert grey(1.0)[3] == pytest.approx(0.5)
    assert sided(0.5)[3] < 0.01
    assert (sided(0.0)[3], sided(1.0)[3]) == (1, 1)
    assert sided(0.0)[:3] == pytest.approx(to_rgb(palette.DOWN))
    assert sided(1.0)[:3] == pytest.approx(to_rgb(palette.UP))
