"""A dot for every training, a row for everything that is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.palette import CARD, INK, ROLE_COLORS
from mechshift_lib.plots.theme import (
    MARKERS,
    figure,
    header,
    present,
    role_handles,
)


def dots(
    parts: Mapping[str, pd.DataFrame], column: str, by: str, order: Sequence[str]
) -> tuple[Figure, Axes]:
    """A row for each part: small dots of every training, a large one of their mean.

    Args:
        parts: what heads a row -> its values, one line a training and model.
        column: what is drawn.
        by: column with the model or circuit.
        order: models, from the top of a row down.
    """
    roles = present(pd.concat(parts.values())[by], order)
    fig = figure(0.75 + 0.62 * len(parts))
    ax = fig.subplots()
    for y, here in enumerate(parts.values()):
        for i, role in enumerate(roles):
            values = here[here[by] == role][column]
            if values.empty:  # a model that can't be asked so
                continue
            height = y + 0.6 * ((i + 0.5) / len(roles) - 0.5)
            style: dict[str, Any] = {
                "color": ROLE_COLORS.get(role, INK),
                "marker": MARKERS.get(role, "o"),
            }
            ax.plot(values, [height] * len(values), linestyle="none", ms=4, alpha=0.45, **style)
            ax.plot([values.mean()], [height], linestyle="none", ms=8, mec=CARD, **style)
    ax.set_yticks(range(len(parts)), list(parts))
    ax.set_ylim(len(parts) - 0.5, -0.5)
    ax.grid(axis="x")
    return fig, ax


def headed(
    fig: Figure,
    table: pd.DataFrame,
    by: str,
    order: Sequence[str],
    title: str,
    what: str,
    columns: int = 3,
) -> Figure:
    """:func:`header` for :func:`dots`: how many trainings, and whose dots they are."""
    seeds = table.seed.nunique()
    trainings = f"{seeds} training{'s' if seeds != 1 else ''}"
    handles = role_handles(present(table[by], order))
    return header(
        fig, title, f"{what}; small: {trainings}, large: their mean", handles, columns=columns
    )
