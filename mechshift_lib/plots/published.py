"""Figures of the paper's published numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    CARD,
    GRID,
    INK,
    MUTED,
    ROLE_COLORS,
)
from mechshift_lib.plots.theme import (
    figure,
    handle,
    header,
    label,
    theme,
)


@drawn_from_tables
def plot_published_overlap(table: pd.DataFrame) -> Figure:
    """Overlap of ARM and MDM as published (top 1,000) and of the published top 30.

    Args:
        table: ``task, series, top1000, top30``.
    """
    with theme():
        fig = figure(2.3)
        ax = fig.subplots()
        rows = table.reset_index(drop=True)
        for y, row in rows.iterrows():
            for name, marker, face in (("top1000", "o", INK), ("top30", "s", CARD)):
                ax.plot(
                    row[name],
                    y,
                    marker,
                    markersize=7.5,
                    markerfacecolor=face,
                    markeredgecolor=INK,
                    zorder=3,
                    clip_on=False,
                )
            ax.hlines(y, 0, 0.55, color=GRID, linewidth=0.8, zorder=0)
        ax.set_yticks(rows.index, [f"{label(r.task)}, {r.series}" for r in rows.itertuples()])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(0, 0.55)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="x")
        ax.set_xlabel("Jaccard index of the edges of ARM and MDM")
        return header(
            fig,
            "Which task keeps more of its circuit depends on where one cuts",
            "top 1,000 edges as published; top 30 computed here from the published lists; "
            "500 examples a task, no interval was published",
            [handle("top 1,000 edges", INK), handle("top 30 edges", INK, "s", mfc=CARD)],
        )


@drawn_from_tables
def plot_published_depth(layers: pd.DataFrame) -> Figure:
    """Source depth of each of the 30 published edges, and their mean.

    Args:
        layers: ``task, series, role, source_depth, from_input``, one row per edge.
    """
    with theme():
        groups = list(layers.groupby(["task", "series"], sort=False))
        fig = figure(0.45 + 1.0 * len(groups))
        axes = fig.subplots(len(groups), 1, sharex=True)
        rng = np.random.default_rng(0)
        for ax, ((task, series), rows) in zip(axes, groups, strict=True):
            for y, role in enumerate(("arm", "mdm")):
                here = rows[rows.role == role]
                color = ROLE_COLORS[role]
                jitter = y + rng.uniform(-0.26, 0.26, len(here))
                for chosen, face in ((~here.from_input, color), (here.from_input, CARD)):
                    ax.plot(
                        here.source_depth[chosen],
                        jitter[chosen],
                        "o",
                        markersize=4.5,
                        markerfacecolor=face,
                        markeredgecolor=color,
                        alpha=0.65,
                    )
                inner = here[~here.from_input].source_depth.mean()
                ax.plot(here.source_depth.mean(), y, "|", color=INK, ms=20, mew=2.4, zorder=4)
                ax.plot(inner, y, "|", color=MUTED, ms=20, mew=1.4, zorder=3)
            ax.set_yticks([0, 1], ["ARM", "MDM"])
            ax.set_ylim(1.5, -0.5)
            ax.set_xlim(-0.03, 1)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.grid(axis="x")
            ax.set_title(f"{label(task)}, {series}")
        axes[-1].set_xlabel("depth of the edge's source (layer / number of layers)")
        return header(
            fig,
            "Where the 30 strongest published edges start",
            "one dot an edge; the embedding (hollow) counts as depth 0",
            [
                handle("mean", INK, "|", markersize=12, markeredgewidth=2.4),
                handle("mean without the embedding", MUTED, "|", markersize=12),
            ],
        )
