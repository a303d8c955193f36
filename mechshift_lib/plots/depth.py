"""How deep circuits lie."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import CARD, INK, ROLE_COLORS
from mechshift_lib.plots.theme import (
    MARKERS,
    count_text,
    figure,
    handle,
    header,
    label,
    present,
    theme,
)

CIRCUITS = ("arm", "mdm", "mdm-own", "continued")
ENDS = ("source", "reader")


def _circuits(table: pd.DataFrame, task: str) -> list[str]:
    return present(table.circuit[table.task == task], CIRCUITS)


def _panels(table: pd.DataFrame, tasks: list[str]) -> tuple[Figure, np.ndarray]:
    """One panel a task, as tall as its circuits need."""
    rows = [len(_circuits(table, task)) for task in tasks]
    fig = figure(0.5 + 0.34 * len(tasks) + 0.24 * sum(rows))
    ratios = [0.15 + 0.24 * n for n in rows]
    return fig, np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True, height_ratios=ratios))


@drawn_from_tables
def plot_depth(table: pd.DataFrame) -> Figure:
    """Centre of mass of the sources and readers of every circuit.

    Args:
        table: ``task, circuit, end, depth, low, high, n, count``.
    """
    with theme():
        tasks = present(table.task, ())
        fig, axes = _panels(table, tasks)
        for ax, task in zip(axes, tasks, strict=True):
            circuits = _circuits(table, task)
            here = table[table.task == task].set_index(["circuit", "end"])
            for y, circuit in enumerate(circuits):
                color = ROLE_COLORS[circuit]
                for end, face in (("source", color), ("reader", CARD)):
                    row = here.loc[(circuit, end)]
                    ax.hlines(y, row.low, row.high, color=color, linewidth=3, alpha=0.45)
                    ax.plot(
                        row.depth,
                        y,
                        MARKERS[circuit],
                        markerfacecolor=face,
                        markeredgecolor=color,
                        markersize=6.5,
                        zorder=3,
                    )
            ax.set_yticks(range(len(circuits)), [label(c) for c in circuits])
            ax.set_ylim(len(circuits) - 0.5, -0.5)
            ax.set_xlim(0, 1)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.grid(axis="x")
            ax.set_title(label(task))
        axes[-1].set_xlabel("depth (0: embedding, 1: logits)")
        return header(
            fig,
            "How deep the circuits lie",
            f"mean layer / number of layers of the top {count_text(table['count'])} edges, "
            f"weighted by |score|; n = {count_text(table.n)} examples; "
            "bars: 95 % bootstrap intervals",
            [handle("sources", INK), handle("readers", INK, markerfacecolor=CARD)],
        )
