"""What heads look at: rows of classes of keys, maps of heads, and a dot for every training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    CARD,
    INK,
    MUTED,
    ROLE_COLORS,
    shades,
)
from mechshift_lib.plots.theme import (
    MARKERS,
    count_text,
    figure,
    handle,
    header,
    label,
    percent_axis,
    present,
    role_handles,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed

ROLES = ("arm", "mdm", "continued", "matched")
#: Models that are drawn side by side.
SIDE_BY_SIDE = ("arm", "mdm", "continued")
#: Queries -> what heads their panel.
QUERIES = {"reads": "where answers are read", "prompt": "over the prompt"}
#: Heads and layers up to which each has a tick.
FEW = 8
#: Marker of a yardstick.
BAR = "|"


@drawn_from_tables
def plot_classes(table: pd.DataFrame) -> Figure:
    """How much attention each class of keys gets, at reads and over the prompt.

    Args:
        table: ``seed, model, queries, looked, mass, uniform, n``.
    """
    with theme():
        names = list(dict.fromkeys(table.looked))
        roles = present(table.model, ROLES)
        fig = figure(0.5 + 0.4 * len(names))
        axes = fig.subplots(1, len(QUERIES), sharex=True, sharey=True)
        for ax, (queries, title) in zip(axes, QUERIES.items(), strict=True):
            own = table[table.queries == queries]
            for y, name in enumerate(names):
                for i, role in enumerate(roles):
                    here = own[(own.looked == name) & (own.model == role)]
                    height = y + 0.7 * ((i + 0.5) / len(roles) - 0.5)
                    _dots(ax, here, height, role)
            ax.set_title(title)
            ax.grid(axis="x")
            ax.set_xlim(0, None)
            ax.xaxis.set_major_formatter(percent_axis())
        axes[0].set_yticks(range(len(names)), names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        fig.supxlabel("attention, mean over heads", fontsize=10.5)
        seeds = table.seed.nunique()
        drawn = f"{seeds} training{'s' if seeds != 1 else ''}"
        uniform = handle("looking alike at all it may", INK, BAR, markersize=9)
        return header(
            fig,
            "What heads look at",
            "Share of a query's attention, of queries that see such a key; classes overlap; mean "
            f"over tasks, n = {count_text(table.n)} examples each; small: {drawn}, large: their "
            "mean",
            [*role_handles(roles), uniform],
            columns=2,
        )


def _dots(ax: Axes, here: pd.DataFrame, height: float, role: str) -> None:
    values = here.mass.dropna()
    if values.empty:
        return
    style: dict[str, Any] = {"color": ROLE_COLORS.get(role, INK), "marker": MARKERS.get(role, "o")}
    ax.plot(values, [height] * len(values), linestyle="none", ms=3, alpha=0.45, **style)
    ax.plot([here.uniform.mean()], [height], linestyle="none", marker=BAR, color=INK, ms=7)
    ax.plot([values.mean()], [height], linestyle="none", ms=5.5, mec=CARD, mew=0.6, **style)


@drawn_from_tables
def plot_heads(table: pd.DataFrame, seed: int) -> Figure:
    """How much of each head's attention some classes get: maps for every model.

    Args:
        table: ``queries, looked, model, layer, head, mass, n``.
        seed: the training.
    """
    with theme():
        rows = list(dict.fromkeys(zip(table.queries, table.looked, strict=True)))
        models = [m for m in SIDE_BY_SIDE if m in set(table.model)]
        layers, heads = int(table.layer.max()) + 1, int(table["head"].max()) + 1
        fig = figure(0.7 + len(rows) * (0.36 + min(0.1 * layers, 1.1)))
        axes = fig.subplots(len(rows), len(models), squeeze=False, sharex=True, sharey=True)
        for row, (queries, looked) in zip(axes, rows, strict=True):
            for ax, model in zip(row, models, strict=True):
                own = (table.queries == queries) & (table.looked == looked)
                cells = np.zeros((layers, heads))  # what a model never sees gets nothing
                here = table[own & (table.model == model)]
                cells[here.layer, here["head"]] = here.mass
                image = ax.imshow(
                    cells,
                    cmap=shades(),
                    vmin=0,
                    vmax=float(table.mass.max()),
                    aspect="auto",
                    origin="lower",
                    interpolation="none",
                )
                ax.set_xticks(range(0, heads, 1 if heads <= FEW else 2))
                ax.set_yticks(range(0, layers, 1 if layers <= 3 else _step(layers)))
                ax.tick_params(length=0, labelsize=8)
                name = model if model == "continued" else label(model)
                ax.set_title(f"{looked}, {name}", fontsize=8.5)
            row[0].set_ylabel(queries, fontsize=8.5)
        fig.supylabel("layer", fontsize=10.5)
        bar = fig.colorbar(image, ax=axes, orientation="horizontal", aspect=45, pad=0.02)
        bar.set_label("attention of a head (columns) to the class")
        bar.ax.xaxis.set_major_formatter(percent_axis())
        bar.outline.set_visible(False)  # type: ignore[operator]
        return header(
            fig,
            "Head by head",
            f"Training {seed}, mean over tasks; n = {count_text(table.n)} examples each; queries: "
            "the prompt, or where answers are read",
        )


def _step(layers: int) -> int:
    return 2 if layers <= FEW else 10


@drawn_from_tables
def plot_moved(table: pd.DataFrame) -> Figure:
    """How far heads are from those of the ARM; a dot for every training.

    Args:
        table: ``task, seed, model, whole, between, n``.
    """
    with theme():
        parts = {label(task): table[table.task == task] for task in dict.fromkeys(table.task)}
        fig, ax = dots(parts, "whole", "model", ROLES)
        for y, here in enumerate(parts.values()):
            ax.plot([here.between.mean()] * 2, [y - 0.4, y + 0.4], color=MUTED, lw=1.4)
        ax.set_xlim(0, 1.06 * float(table[["whole", "between"]].max(axis=None)))
        ax.xaxis.set_major_formatter(percent_axis())
        ax.set_xlabel("attention that has to be moved (total variation)")
        return headed(
            fig,
            table,
            "model",
            ROLES,
            "How far heads are from the ARM's",
            f"At reads, mean over heads, n = {count_text(table.n)} examples; grey line: two heads "
            "of one layer of the ARM",
        )


@drawn_from_tables
def plot_waiting(table: pd.DataFrame) -> Figure:
    """Attention to MASKs while the answer fills from the left; a panel for every task.

    Args:
        table: ``task, seed, model, position, mass, uniform, n``.
    """
    with theme():
        tasks, roles = list(dict.fromkeys(table.task)), present(table.model, ROLES)
        fig = figure(2.3)
        axes = fig.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
        for ax, task in zip(axes, tasks, strict=True):
            own = table[table.task == task]
            even = own.groupby("position").uniform.mean()
            ax.plot(even.index + 1, even, color=INK, lw=1.2, linestyle=":")
            for role in roles:
                curves = own[own.model == role].pivot_table(
                    "mass", "position", "seed", aggfunc="mean"
                )
                _curves(ax, curves, role)
            ax.set_title(label(task))
            ax.set_xticks(even.index + 1)
            ax.set_ylim(0, None)
            ax.yaxis.set_major_formatter(percent_axis())
            ax.grid()
        fig.supxlabel("answer token that is read", fontsize=10.5)
        axes[0].set_ylabel("attention to MASKs")
        return header(
            fig,
            "As the canvas fills",
            "Answers are revealed from the left, so that fewer and fewer MASKs are left; mean over "
            f"heads, n = {count_text(table.n)} examples at a position; thin: trainings, thick: "
            "their mean",
            [*role_handles(roles), handle("looking alike at all", INK, "", linestyle=":")],
            columns=3,
        )


def _curves(ax: Axes, curves: pd.DataFrame, role: str) -> None:
    color, at = ROLE_COLORS.get(role, INK), np.asarray(curves.index) + 1
    ax.plot(at, curves, color=color, lw=0.7, alpha=0.35)
    ax.plot(at, curves.mean(axis=1), color=color, lw=1.8, marker=MARKERS.get(role, "o"), ms=5)
