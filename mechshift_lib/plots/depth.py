"""How deep circuits lie."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.theme import (
    INK,
    MARKERS,
    MUTED,
    ROLE_COLORS,
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


def plot_depth(table: pd.DataFrame) -> Figure:
    """Centre of mass of the sources and readers of every circuit.

    Args:
        table: ``task, circuit, end, depth, low, high, n, count``.
    """
    with theme():
        tasks, circuits = present(table.task, ()), present(table.circuit, CIRCUITS)
        fig = figure(0.5 + len(tasks) * (0.34 + 0.24 * len(circuits)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        for ax, task in zip(axes, tasks, strict=True):
            here = table[table.task == task].set_index(["circuit", "end"])
            for y, circuit in enumerate(circuits):
                color = ROLE_COLORS[circuit]
                for end, face in (("source", color), ("reader", "white")):
                    if (circuit, end) not in here.index:
                        continue
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
            [handle("sources", INK), handle("readers", INK, markerfacecolor="white")],
        )


def plot_shift(table: pd.DataFrame) -> Figure:
    """Change of depth from the ARM: MDM beside the control.

    Args:
        table: ``task, circuit, end, edges, shift, low, high, n``; ``edges`` names which edges
            were weighed.
    """
    with theme():
        table = table[table.end == "source"]
        tasks, circuits = present(table.task, ()), present(table.circuit, CIRCUITS)
        kinds = present(table.edges, ())
        fig = figure(0.5 + len(tasks) * (0.34 + 0.24 * len(circuits)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        for ax, task in zip(axes, tasks, strict=True):
            here = table[table.task == task].set_index(["circuit", "edges"])
            for y, circuit in enumerate(circuits):
                color = ROLE_COLORS[circuit]
                for i, kind in enumerate(kinds):
                    row = here.loc[(circuit, kind)]
                    place = y + (i - (len(kinds) - 1) / 2) * 0.32
                    ax.hlines(place, row.low, row.high, color=color, linewidth=2.2, alpha=0.55)
                    ax.plot(
                        row["shift"],
                        place,
                        MARKERS[circuit],
                        markerfacecolor=color if i == 0 else "white",
                        markeredgecolor=color,
                        markersize=6,
                        zorder=3,
                    )
            ax.axvline(0, color=MUTED, linewidth=1)
            ax.set_yticks(range(len(circuits)), [label(c) for c in circuits])
            ax.set_ylim(len(circuits) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.grid(axis="x")
            ax.set_title(label(task))
        limit = 1.1 * max(0.05, float(table[["low", "high"]].abs().max().max()))
        axes[-1].set_xlim(-limit, limit)
        axes[-1].set_xlabel("change of source depth (negative: earlier)")
        faces = (INK, "white")
        return header(
            fig,
            "Does the circuit move to earlier layers?",
            f"minus the ARM, as a share of the model's depth; n = {count_text(table.n)} examples; "
            "bars: 95 % paired bootstrap intervals",
            [
                handle(str(kind), INK, markerfacecolor=face)
                for kind, face in zip(kinds, faces, strict=False)
            ],
        )
