"""What the models can do: accuracies, reveal orders, and the metric clean and corrupted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    CARD,
    GRID,
    INK,
    MUTED,
    ROLE_COLORS,
    VERMILLION,
)
from mechshift_lib.plots.theme import (
    MARKERS,
    count_text,
    figure,
    handle,
    header,
    label,
    present,
    role_handles,
    theme,
)

ROLES = ("arm", "mdm", "continued")


def _dots(ax: Axes, rows: pd.DataFrame, y: np.ndarray, color: str, marker: str) -> None:
    """Points with their intervals; a hollow point for every seed but the first."""
    ax.hlines(y, rows.low, rows.high, color=color, linewidth=2, alpha=0.55)
    first = rows.seed.to_numpy() == rows.seed.min()
    for chosen, face in ((first, color), (~first, CARD)):
        if not chosen.any():  # an empty unclipped line would upset the layout
            continue
        ax.plot(
            rows.accuracy.to_numpy()[chosen],
            y[chosen],
            linestyle="none",
            marker=marker,
            markersize=6.5,
            markeredgecolor=color,
            markerfacecolor=face,
            clip_on=False,
            zorder=3,
        )


def _rows(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), [label(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    for i in range(1, len(names)):
        ax.axhline(i - 0.5, color=GRID, linewidth=0.8, zorder=0)


@drawn_from_tables
def plot_accuracy(table: pd.DataFrame) -> Figure:
    """Accuracy of every model on every task.

    Args:
        table: ``task, role, seed, accuracy, low, high, n``, one row per model and task.
    """
    with theme():
        tasks, roles = present(table.task, ()), present(table.role, ROLES)
        seeds = sorted(table.seed.unique())
        fig = figure(0.6 + 0.16 * len(tasks) * (len(roles) * len(seeds) + 1.4))
        ax = fig.subplots()
        step = 0.8 / (len(roles) * len(seeds))
        for i, role in enumerate(roles):
            rows = table[table.role == role].sort_values("seed")
            place = np.array([tasks.index(task) for task in rows.task], dtype=float)
            which = np.array([seeds.index(seed) for seed in rows.seed])
            y = place + (i * len(seeds) + which - (len(roles) * len(seeds) - 1) / 2) * step
            _dots(ax, rows, y, ROLE_COLORS[role], MARKERS[role])
        _rows(ax, tasks)
        ax.set_xlim(0, 1)
        ax.grid(axis="x")
        ax.set_xlabel("accuracy on held-out examples (share right)")
        handles = role_handles(roles)
        if len(seeds) > 1:
            handles.append(handle("other seeds", INK, "o", markerfacecolor=CARD))
        return header(
            fig,
            "How often each model answers right",
            f"n = {count_text(table.n)} examples a task and model; bars: 95 % Wilson intervals",
            handles,
        )


@drawn_from_tables
def plot_orders(table: pd.DataFrame) -> Figure:
    """Accuracy of the MDM under each reveal order.

    Args:
        table: ``task, order, seed, accuracy, low, high, n``.
    """
    with theme():
        tasks, orders = present(table.task, ()), present(table.order, ())
        seeds = sorted(table.seed.unique())
        fig = figure(0.6 + len(tasks) * (0.4 + 0.24 * len(orders)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        for ax, task in zip(axes, tasks, strict=True):
            rows = table[table.task == task].sort_values("seed")
            shift = np.array([seeds.index(s) for s in rows.seed]) - (len(seeds) - 1) / 2
            y = np.array([orders.index(o) for o in rows.order]) + 0.3 * shift
            _dots(ax, rows, y, VERMILLION, "s")
            _rows(ax, orders)
            ax.grid(axis="x")
            ax.set_title(label(task))
            ax.set_xlim(0, 1)
        axes[-1].set_xlabel("accuracy of the MDM (share right)")
        handles = []
        if len(seeds) > 1:
            handles = [
                handle(f"seed {seeds[0]}", VERMILLION, "s"),
                handle("other seeds", VERMILLION, "s", markerfacecolor=CARD),
            ]
        return header(
            fig,
            "Does the order of revealing tokens matter?",
            f"n = {count_text(table.n)} examples a task; one token a step; "
            "bars: 95 % Wilson intervals",
            handles,
        )


@drawn_from_tables
def plot_metric(table: pd.DataFrame) -> Figure:
    """Metric on clean and on corrupted prompts: what a circuit has to explain.

    Args:
        table: ``task, role, metric, clean, clean_low, clean_high, corrupted, corrupted_low,
            corrupted_high, n``.
    """
    with theme():
        tasks, roles = present(table.task, ()), present(table.role, ROLES)
        fig = figure(0.4 + len(tasks) * (0.72 + 0.24 * len(roles)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1))
        for ax, task in zip(axes, tasks, strict=True):
            rows = table[table.task == task].set_index("role")
            for y, role in enumerate(roles):
                if role not in rows.index:
                    continue
                row, color = rows.loc[role], ROLE_COLORS[role]
                ax.hlines(y, row.corrupted, row.clean, color=color, linewidth=1.2, alpha=0.6)
                for run, face in (("corrupted", CARD), ("clean", color)):
                    ax.hlines(y, row[f"{run}_low"], row[f"{run}_high"], color=color, linewidth=3)
                    ax.plot(
                        row[run],
                        y,
                        marker=MARKERS[role],
                        markersize=6.5,
                        markerfacecolor=face,
                        markeredgecolor=color,
                        zorder=3,
                    )
            _rows(ax, roles)
            ax.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
            ax.grid(axis="x")
            ax.set_title(label(task))
            ax.set_xlabel(_unit(rows.metric.iloc[0]))
        return header(
            fig,
            "The metric on clean and on corrupted prompts",
            f"mean over n = {count_text(table.n)} examples and the answer positions that differ; "
            "bars: 95 % intervals of the mean",
            [handle("clean", INK), handle("corrupted", INK, markerfacecolor=CARD)],
        )


def _unit(metric: str) -> str:
    return {
        "logit-diff": "logit difference, answer minus distractor (nats)",
        "prob-diff": "probability of right minus wrong answers",
    }.get(metric, metric)
