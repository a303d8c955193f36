"""What probes read: by layer, by step and answer token, and what taking directions out costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    GRID,
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
    present,
    theme,
)

ROLES = ("arm", "mdm", "continued")
#: What the panels of the maps are called.
PLACES = {"now": "at the next token", "own": "at its own MASK", "input": "the input itself"}


def _panels(tasks: list[str], fig: Figure) -> list[Axes]:
    columns = 2 if len(tasks) > 1 else 1
    lines = -(-len(tasks) // columns)
    axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
    for ax in axes[len(tasks) :]:
        ax.remove()
    for ax, task in zip(axes, tasks, strict=False):
        ax.set_title(label(task))
        ax.set_ylim(-0.03, 1.06)
        ax.grid(axis="y", color=GRID)
    return list(axes[: len(tasks)])


def _line(ax: Axes, rows: pd.DataFrame, role: str, column: str) -> None:
    rows, color = rows.sort_values("layer"), ROLE_COLORS[role]
    ax.fill_between(rows.layer, rows.low, rows.high, color=color, alpha=0.15, lw=0)
    ax.plot(rows.layer, rows[column], color=color, marker=MARKERS[role], ms=4, lw=1.6)


@drawn_from_tables
def plot_probe_layers(table: pd.DataFrame) -> Figure:
    """Accuracy of probes for the token read next, by layer, one panel a task.

    Args:
        table: ``task, model, layer, accuracy, low, high, control, input, n``.
    """
    with theme():
        tasks, roles = present(table.task, ()), present(table.model, ROLES)
        fig = figure(0.4 + 1.7 * -(-len(tasks) // 2))
        for ax, task in zip(_panels(tasks, fig), tasks, strict=True):
            rows = table[table.task == task]
            for role in roles:
                _line(ax, rows[rows.model == role], role, "accuracy")
            control = rows[rows.model == "mdm"].sort_values("layer")
            ax.plot(control.layer, control.control, color=MUTED, ls=":", marker="v", ms=3.5, lw=1.2)
            ax.axhline(rows.input.iloc[0], color=INK, lw=1, ls="--", zorder=0)
        fig.supxlabel("layer whose input is probed (last: the final norm's)", fontsize=10.5)
        fig.supylabel("accuracy on held-out examples", fontsize=10.5)
        handles = [_handle(role) for role in roles]
        handles.append(handle("control task (MDM)", MUTED, "v", linestyle=":", markersize=4))
        handles.append(handle("input itself", INK, "", linestyle="--"))
        return header(
            fig,
            "Where the next token can be read",
            "linear probes at the position where it is read, mean over steps; "
            f"n = {count_text(table.n)} held-out examples; bands: 95 % bootstrap intervals",
            handles,
        )


def _handle(role: str):  # type: ignore[no-untyped-def]
    return handle(label(role), ROLE_COLORS[role], MARKERS[role], linestyle="-", markersize=4)


def _cells(ax: Axes, grid: np.ndarray) -> None:
    ax.imshow(grid, cmap=shades(0.5), vmin=0, vmax=1, aspect="auto", interpolation="none")
    for (row, column), value in np.ndenumerate(grid):
        if not np.isnan(value):
            ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=9.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


@drawn_from_tables
def plot_later(table: pd.DataFrame, task: str) -> Figure:
    """Accuracy for every answer token at every step: rows are steps, columns tokens.

    Args:
        table: ``model, place, step, target, accuracy, n``.
        task: its name.
    """
    with theme():
        order = [("arm", "now"), ("mdm", "now"), ("mdm", "own"), ("input", "input")]
        there = set(zip(table.model, table.place, strict=True))
        panels = [one for one in order if one in there]
        n = int(table.target.max()) + 1
        lines = -(-len(panels) // 2)
        fig = figure(0.35 + lines * (0.45 + 0.27 * n))
        axes = fig.subplots(lines, 2, sharex=True, sharey=True, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.remove()
        for ax, (model, place) in zip(axes, panels, strict=False):
            rows = table[(table.model == model) & (table.place == place)]
            grid = np.full((n, n), np.nan)
            grid[rows.step, rows.target] = rows.accuracy
            _cells(ax, grid)
            who = "" if model == "input" else f"{label(model)}, "
            ax.set_title(f"{who}{PLACES[place]}", fontsize=10)
            ax.set_xticks(range(n), [str(j + 1) for j in range(n)])
            ax.set_yticks(range(n), [str(s) for s in range(n)])
        fig.supxlabel("answer token that is read", fontsize=10.5)
        fig.supylabel("tokens written", fontsize=10.5)
        return header(
            fig,
            f"{label(task)}: what is known of the answer before it is written",
            "accuracy of linear probes in %, at the layer that the validation examples chose; "
            f"n = {count_text(table.n)} held-out examples",
        )


@drawn_from_tables
def plot_map(table: pd.DataFrame, task: str) -> Figure:
    """Accuracy for the token after the next, by layer and step.

    Args:
        table: ``model, place, step, layer, accuracy, n``.
        task: its name.
    """
    with theme():
        order = [("arm", "now"), ("continued", "now"), ("mdm", "now"), ("mdm", "own")]
        there = set(zip(table.model, table.place, strict=True))
        panels = [one for one in order if one in there]
        n_step, n_layer = int(table.step.max()) + 1, int(table.layer.max()) + 1
        lines = -(-len(panels) // 2)
        fig = figure(0.35 + lines * (0.45 + 0.27 * n_layer))
        axes = fig.subplots(lines, 2, sharex=True, sharey=True, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.remove()
        for ax, (model, place) in zip(axes, panels, strict=False):
            rows = table[(table.model == model) & (table.place == place)]
            grid = np.full((n_layer, n_step), np.nan)
            grid[rows.layer, rows.step] = rows.accuracy
            _cells(ax, grid)
            ax.set_title(f"{label(model)}, {PLACES[place]}", fontsize=10)
            ax.set_xticks(range(n_step), [str(s) for s in range(n_step)])
            ax.set_yticks(range(n_layer))
            ax.set_ylim(-0.5, n_layer - 0.5)
        fig.supxlabel("tokens written", fontsize=10.5)
        fig.supylabel("layer", fontsize=10.5)
        return header(
            fig,
            f"{label(task)}: the token after the next, by layer and step",
            f"accuracy of linear probes in %; n = {count_text(table.n)} held-out examples",
        )


@drawn_from_tables
def plot_amnesia(table: pd.DataFrame) -> Figure:
    """Accuracy with the answer's directions taken out, beside those of shuffled labels.

    Args:
        table: ``task, model, layer, whole, without, control, low, high, n``.
    """
    with theme():
        tasks, roles = present(table.task, ()), present(table.model, ROLES)
        fig = figure(0.4 + 1.7 * -(-len(tasks) // 2))
        for ax, task in zip(_panels(tasks, fig), tasks, strict=True):
            for role in roles:
                rows = table[(table.task == task) & (table.model == role)].sort_values("layer")
                _line(ax, rows, role, "without")
                ax.plot(rows.layer, rows.control, color=ROLE_COLORS[role], ls=":", lw=1.4)
            ax.set_xticks(sorted(table.layer.unique()))
        fig.supxlabel("layer at whose input directions are taken out", fontsize=10.5)
        fig.supylabel("first answer token right", fontsize=10.5)
        handles = [_handle(role) for role in roles]
        handles.append(handle("shuffled labels' directions", MUTED, "", linestyle=":"))
        return header(
            fig,
            "What the models do without the answer's directions",
            "class means of the answer taken out where it is read; "
            f"n = {count_text(table.n)} held-out examples; bands: 95 % Wilson intervals",
            handles,
        )
