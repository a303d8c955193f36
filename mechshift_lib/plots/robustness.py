"""A specification curve: what is found, in order, over the choices that lead to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    BLUE,
    GRID,
    INK,
    MUTED,
)
from mechshift_lib.plots.theme import (
    figure,
    handle,
    header,
    label,
    theme,
)


@drawn_from_tables
def plot_curve(
    table: pd.DataFrame,
    each: pd.DataFrame,
    levels: pd.DataFrame,
    rephrasing: float,
    task: str = "countdown",
) -> Figure:
    """Effects in order above; below, a mark for each choice that was made.

    Args:
        table: ``value, low, high`` and a column a factor, one row a setting, ordered by value.
        each: the value of every training, ``[setting, training]``, in the order of ``table``.
        levels: ``factor, level, said``: every choice and how it is written.
        rephrasing: how far the ARM's own moves when a prompt is put otherwise.
        task: what the models were asked.
    """
    with theme():
        rows = levels[["factor", "level", "said"]].drop_duplicates()
        fig = figure(2.2 + 0.19 * len(rows))
        top, grid = fig.subplots(2, 1, sharex=True, height_ratios=[2.0, 0.19 * len(rows)])
        x = np.arange(len(table))
        top.axhspan(-rephrasing, rephrasing, color=BLUE, alpha=0.15, lw=0)
        top.axhline(0, color=MUTED, lw=0.9, ls="--")
        for values in each.to_numpy().T:
            top.plot(x, values, ".", color=INK, ms=2.5, alpha=0.3)
        top.vlines(x, table.low, table.high, color=INK, lw=1, alpha=0.4)
        top.plot(x, table.value, "o", color=INK, ms=3)
        top.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        top.set_ylabel("earlier (% of depth)")
        top.tick_params(axis="x", length=0, labelbottom=False)
        top.grid(axis="y")
        _choices(grid, table, rows)
        trainings = each.shape[1]
        return header(
            fig,
            f"How much earlier the MDM lies on {label(task)}",
            f"n = {trainings} training{'s' if trainings != 1 else ''}, small; large: their mean; "
            "lines: 98 % intervals; below 0: later",
            [
                handle("a way to measure it", INK),
                handle("what rephrasing does to the ARM", BLUE, "s", alpha=0.3),
            ],
        )


def _choices(ax: Axes, table: pd.DataFrame, rows: pd.DataFrame) -> None:
    """A row a choice; rows of a factor stand together."""
    factors: Sequence[str] = list(dict.fromkeys(rows.factor))
    for y, row in enumerate(rows.itertuples()):
        chosen = np.flatnonzero(table[row.factor] == row.level)
        shade = INK if factors.index(str(row.factor)) % 2 else MUTED
        ax.plot(chosen, [y] * len(chosen), "|", color=shade, ms=6, mew=1.6)
    starts = np.flatnonzero(rows.factor.to_numpy()[1:] != rows.factor.to_numpy()[:-1]) + 0.5
    for start in starts:
        ax.axhline(start, color=GRID, lw=0.8)
    ax.set_yticks(range(len(rows)), list(rows.said), fontsize=8.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("ways to measure it, in order of what is found")
    ax.tick_params(length=0)
