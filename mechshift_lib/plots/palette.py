"""Colours of all figures: what each means, and what it is on a light and on a dark page.

A colour is a model. A comparison of a later model with the ARM has the later model's colour, one of
a model with itself that model's, and the one that is asked about, ARM and MDM, is in ink. What is
no model (places, quantities, outcomes) has colours that no model has. Models' colours are of the
Okabe-Ito palette, which people with any form of colour blindness can tell apart (its yellow is
darkened: it would vanish on white); markers differ too.

Figures are drawn in the light colours. On a page each is a variable of the page's style
(:func:`style_sheet`), so that one drawing serves both modes.
"""

from __future__ import annotations

from matplotlib.colors import Colormap, LinearSegmentedColormap

INK, MUTED, GRID, CARD = "#1f2328", "#6b7280", "#d9dce1", "#fbfbf9"
BLUE, VERMILLION, GREEN = "#0072b2", "#d55e00", "#009e73"
PURPLE, SKY, ORANGE, OLIVE = "#cc79a7", "#56b4e9", "#e69f00", "#9a8c00"
TEAL, BROWN, SLATE, INDIGO, PLUM = "#1b7f8c", "#7a4b2a", "#8794a3", "#5b57a6", "#93357f"
GOLD, MAROON = "#a8882a", "#8a3b4c"
#: Ends of scales around 0.
UP, DOWN = "#c2528b", "#1f8a8a"

#: Variable -> colour on a light page, on a dark one, and where no page says (a notebook's own
#: front end, whose text is light or dark as it likes).
VARIABLES: dict[str, tuple[str, str, str]] = {
    "ink": (INK, "#e6e8eb", "currentColor"),
    "muted": (MUTED, "#9aa3ae", "#808894"),
    "grid": (GRID, "#383e47", "#80889455"),
    "ground": (CARD, "var(--pst-color-background)", "var(--jp-layout-color0, #ffffff)"),
    "blue": (BLUE, "#4aa3e0", BLUE),
    "vermillion": (VERMILLION, "#f07f3c", VERMILLION),
    "green": (GREEN, "#2fc49a", GREEN),
    "purple": (PURPLE, "#dd95bd", PURPLE),
    "sky": (SKY, "#8fd0f5", SKY),
    "orange": (ORANGE, "#f2b632", ORANGE),
    "olive": (OLIVE, "#d3c43c", OLIVE),
    "teal": (TEAL, "#46b3c2", TEAL),
    "brown": (BROWN, "#bf8a63", BROWN),
    "slate": (SLATE, "#8794a3", SLATE),
    "indigo": (INDIGO, "#9a96e0", INDIGO),
    "plum": (PLUM, "#d07cbf", PLUM),
    "gold": (GOLD, "#d9bb5c", GOLD),
    "maroon": (MAROON, "#cf7c8d", MAROON),
}

#: Colour of each circuit or model.
ROLE_COLORS = {
    "arm": BLUE,
    "mdm": VERMILLION,
    "mdm-own": ORANGE,
    "continued": GREEN,
    "matched": PURPLE,
    "mdm-answers": OLIVE,
    "mdm-causal": SKY,
    "random": MUTED,
    "untrained": MUTED,
}
#: Colour of each comparison of circuits: that of the model which is compared with the ARM or with
#: itself; the one that is asked about in ink.
COMPARISON_COLORS = {
    "arm-mdm": INK,
    "arm-mdm-own": ORANGE,
    "mdm-mdm-own": ORANGE,
    "arm-continued": GREEN,
    "arm-halves": BLUE,
    "mdm-halves": VERMILLION,
    "arm-mdm-halves": INK,
    "arm-seeds": BLUE,
    "mdm-seeds": VERMILLION,
}
#: Colour of what is in the circuits of both models.
SHARED = SLATE
#: Colour of what can be read at a place, of what is used there, and of an estimate.
READ, USED, ESTIMATE = TEAL, BROWN, PLUM
#: Colour of each place of a prompt, from what is given to where the answer is read.
PLACE_COLORS = {
    "prompt": SLATE,
    "revealed": INDIGO,
    "own": GOLD,
    "waiting": MAROON,
    "read": INK,
}
#: Colour of each outcome of a claim, seen on light and dark pages; it never stands alone.
OUTCOME_COLORS = {
    "reproduced": "#2e8b57",
    "not reproduced": "#c0392b",
    "reversed": "#8e5bb5",
    "undecided": "#b7791f",
    "doesn't apply": "#8a8f98",
    "not measured": "#3f8fb5",
}


def shades(strongest: float = 1.0) -> Colormap:
    """From nothing to grey, for cells from 0 up; letters in ink are legible on every shade.

    Args:
        strongest: opacity of the largest value; up to 0.5 where letters stand on the cells.
    """
    return LinearSegmentedColormap.from_list("shades", [(MUTED, 0.0), (MUTED, strongest)])


def two_sided() -> Colormap:
    """From teal through nothing to rose, for cells around 0; no model has these hues."""
    ends = [(DOWN, 1.0), (DOWN, 0.0), (UP, 0.0), (UP, 1.0)]
    return LinearSegmentedColormap.from_list(
        "two sided", list(zip((0, 0.5, 0.5, 1), ends, strict=True))
    )


def variable(color: str) -> str:
    """A light colour as a variable of the page's style, with what it is elsewhere."""
    for name, (light, _, elsewhere) in VARIABLES.items():
        if color == light:
            return f"var(--figure-{name}, {elsewhere})"
    return color


def style_sheet() -> str:
    """CSS that gives the variables their values on light and dark pages."""
    rules = []
    for mode, column in (("light", 0), ("dark", 1)):
        values = {name: colors[column] for name, colors in VARIABLES.items()}
        values["ground"] = VARIABLES["ground"][1]  # the page's own, in both modes
        lines = [f"  --figure-{name}: {value};" for name, value in values.items()]
        rules += [f'html[data-theme="{mode}"] {{', *lines, "}"]
    return "\n".join(rules) + "\n"
