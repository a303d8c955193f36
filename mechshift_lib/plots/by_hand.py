"""Scores of edges in two ways, against each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechshift_lib.plots.drawn_from import remember
from mechshift_lib.plots.palette import (
    INK,
    MUTED,
)
from mechshift_lib.plots.theme import figure, header, theme


def plot_by_hand(by_hand: ArrayLike, by_library: ArrayLike, points: int) -> Figure:
    """Score of every edge by the library against that by hand.

    Args:
        by_hand: scores, ``[n_edges]``, in units of the metric.
        by_library: scores of the same edges.
        points: interpolation points m.
    """
    x, y = np.asarray(by_hand, dtype=float), np.asarray(by_library, dtype=float)
    with theme():
        fig = figure(3.6)
        ax = fig.subplots()
        low, high = float(np.min([x, y])), float(np.max([x, y]))
        room = 0.06 * (high - low) or 1.0
        ends = (low - room, high + room)
        ax.plot(ends, ends, color=MUTED, linewidth=1, zorder=0)
        ax.plot(x, y, "o", color=INK, markersize=4.5, alpha=0.6, markeredgewidth=0)
        ax.set(xlim=ends, ylim=ends, xlabel="by hand", ylabel="library")
        ax.set_aspect("equal")
        ax.yaxis.set_major_locator(ax.xaxis.get_major_locator())
        ax.grid()
        table = pd.DataFrame({"by_hand": x, "by_library": y})
        return header(
            remember(fig, table=table),
            "Both ways give every edge the same score",
            f"EAP-IG({points}), {len(x):,} edges, in logits of one example",
        )
