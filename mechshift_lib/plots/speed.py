"""Figures of the benchmarks."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    INK,
    MUTED,
)
from mechshift_lib.plots.theme import (
    figure,
    handle,
    header,
    theme,
)


@drawn_from_tables
def plot_ratios(rows: pd.DataFrame, time_aim: float, memory_aim: float) -> Figure:
    """Time and memory of attribution as ratios to the floor, with their aims.

    Args:
        rows: ``shape, time_ratio, memory_ratio``.
        time_aim: highest ratio of time that is aimed at.
        memory_aim: the same of memory.
    """
    with theme():
        fig = figure(0.9 + 0.7 * len(rows))
        ax = fig.subplots()
        for y, row in enumerate(rows.itertuples()):
            for shift, value, aim, color, marker in (
                (-0.14, row.time_ratio, time_aim, INK, "o"),
                (0.14, row.memory_ratio, memory_aim, MUTED, "s"),
            ):
                ax.plot(value, y + shift, marker, color=color, markersize=7.5)
                ax.plot([aim, aim], [y + shift - 0.12, y + shift + 0.12], color=color, lw=2)
        ax.axvline(1, color=INK, linewidth=0.8)
        ax.set_yticks(range(len(rows)), list(rows["shape"]))
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
        ax.set_xlabel("ratio to the floor")
        return header(
            fig,
            "Cost of all edges' scores beside the floor",
            "floor: the forward and backward passes that EAP-IG needs by definition; "
            "upright bars: what is aimed at",
            [handle("time", INK), handle("peak memory", MUTED, "s")],
        )


@drawn_from_tables
def plot_growth(rows: pd.DataFrame, exponents: pd.DataFrame) -> Figure:
    """Time against each varied number, on logarithmic axes.

    Args:
        rows: ``varied, value, seconds``.
        exponents: ``varied, exponent``.
    """
    with theme():
        fig = figure(4.0)
        axes = fig.subplots(2, 2, sharey=True).flat
        for ax, fit in zip(axes, exponents.itertuples(), strict=True):
            part = rows[rows.varied == fit.varied]
            ax.plot(part.value, part.seconds, "o-", color=INK, markersize=5)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_xticks(list(part.value), [str(value) for value in part.value])
            ax.minorticks_off()
            ax.set_xlabel(f"{fit.varied}; exponent {fit.exponent:.2f}")
            ax.grid()
        fig.supylabel("seconds", fontsize=10.5)
        return header(
            fig,
            "How the time grows",
            "EAP-IG of all edges, one number varied at a time, logarithmic axes, one thread",
        )
