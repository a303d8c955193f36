"""How much of its model's work a circuit does, alone and inside another model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    GRID,
    INK,
    MUTED,
    ROLE_COLORS,
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
from mechshift_lib.plots.trainings import dots, headed

CIRCUITS = ("arm", "mdm", "continued", "matched", "random")
#: Faithfulness outside of these is cut off: single edges can overshoot many times.
RANGE = (-0.5, 1.6)
#: Sizes that are marked, far enough from each other for their numbers.
TICKS = (0.01, 0.1, 1)


def _curve(ax: Axes, rows: pd.DataFrame, circuit: str) -> None:
    """Thin lines of the trainings, a thick one of their mean; of one training its band."""
    color = ROLE_COLORS[circuit]
    style = ":" if circuit == "random" else "-"
    by_seed = rows.pivot_table("faithfulness", "fraction", "seed")
    for values in by_seed.to_numpy(dtype=float).T:
        ax.plot(by_seed.index, values, color=color, lw=0.8, alpha=0.4, ls=style)
    if by_seed.shape[1] == 1:
        rows = rows.sort_values("fraction")
        ax.fill_between(rows.fraction, rows.low, rows.high, color=color, alpha=0.15, lw=0)
    mean = by_seed.mean(axis=1)
    ax.plot(mean.index, mean, color=color, marker=MARKERS[circuit], ms=3.5, lw=1.6, ls=style)


def _dress(ax: Axes, table: pd.DataFrame, margin: float) -> None:
    low, high = float(table.faithfulness.min()), float(table.faithfulness.max())
    room = 0.06 * (high - low)
    for level in (0, 1):
        ax.axhline(level, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    ax.axhline(margin, color=INK, linewidth=1.1, linestyle=(0, (1, 1.5)), zorder=0)
    ax.set_xscale("log")
    ax.set_ylim(max(RANGE[0], low - room), min(RANGE[1], high + room))
    ax.grid(axis="y", color=GRID)
    ax.set_xticks(TICKS)
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    ax.minorticks_off()


def _told(table: pd.DataFrame) -> str:
    """How many trainings and examples, and what is drawn of them."""
    seeds = table.seed.nunique()
    n = f"n = {count_text(table.n)} examples"
    if seeds == 1:
        return f"{n}; 1 training, bands: 95 % bootstrap intervals over examples"
    return f"{n}; thin: {seeds} trainings, thick: their mean"


def _margin_handle(margin: float) -> Line2D:
    return handle(f"margin: {margin:g}", INK, "", linestyle=":")


@drawn_from_tables
def plot_faithfulness(table: pd.DataFrame, margin: float) -> Figure:
    """Faithfulness of each model's own circuit over its size, one panel a task.

    Args:
        table: ``task, seed, model, circuit, fraction, faithfulness, low, high, n``; a model's own
            circuit and the random ones in the MDM are drawn.
        margin: faithfulness from which on a circuit counts as doing the task.
    """
    with theme():
        own = table[table.circuit == table.model]
        chance = table[(table.circuit == "random") & (table.model == "mdm")]
        drawn = pd.concat([own, chance])
        tasks, roles = present(table.task, ()), present(own.model, CIRCUITS)
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.35 + 1.9 * lines)
        axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            for role in roles:
                _curve(ax, own[(own.task == task) & (own.model == role)], role)
            _curve(ax, chance[chance.task == task], "random")
            _dress(ax, drawn, margin)
            ax.set_title(label(task))
        for ax in axes[len(tasks) :]:
            ax.remove()
        fig.supxlabel("edges in the circuit (% of all edges, logarithmic)", fontsize=10.5)
        fig.supylabel("faithfulness", fontsize=10.5)
        handles = [_handle(role, label(role)) for role in roles]
        handles += [_handle("random", "random edges (MDM)"), _margin_handle(margin)]
        return header(
            fig,
            "How much of the task a circuit does alone",
            "0: as if all edges were corrupted, 1: as the whole model; edges by signed score; "
            + _told(table),
            handles,
        )


def _handle(circuit: str, text: str) -> Line2D:
    style = ":" if circuit == "random" else "-"
    return handle(text, ROLE_COLORS[circuit], MARKERS[circuit], linestyle=style, markersize=4)


@drawn_from_tables
def plot_cross(table: pd.DataFrame, margin: float) -> Figure:
    """Circuits of ARM and MDM inside the MDM and inside the ARM, one row a task.

    Args:
        table: as for :func:`plot_faithfulness`.
        margin: as there.
    """
    with theme():
        table = table[table.model.isin(["mdm", "arm"])]
        tasks, circuits = present(table.task, ()), present(table.circuit, CIRCUITS)
        fig = figure(0.45 + 1.55 * len(tasks))
        axes = fig.subplots(len(tasks), 2, sharex=True, sharey=True, squeeze=False)
        for row, task in zip(axes, tasks, strict=True):
            for ax, model in zip(row, ("mdm", "arm"), strict=True):
                here = table[(table.task == task) & (table.model == model)]
                for circuit in present(here.circuit, CIRCUITS):
                    _curve(ax, here[here.circuit == circuit], circuit)
                _dress(ax, table, margin)
                ax.set_title(f"{label(task)}, inside the {label(model)}", fontsize=10)
        fig.supxlabel("edges in the circuit (% of all edges, logarithmic)", fontsize=10.5)
        fig.supylabel("faithfulness", fontsize=10.5)
        names = {"random": "random edges"}
        handles = [_handle(c, names.get(c, f"circuit of the {label(c)}")) for c in circuits]
        return header(
            fig,
            "One model's circuit inside the other",
            f"edges by signed score of the model named in the legend; {_told(table)}",
            [*handles, _margin_handle(margin)],
        )


@drawn_from_tables
def plot_cpr_lost(table: pd.DataFrame, margin: float) -> Figure:
    """What the ARM's circuit loses of CPR in each later model, one row a task.

    Args:
        table: ``task, seed, model, circuit, loss, n``; rows of the ARM's circuit are drawn.
        margin: the smallest loss that matters.
    """
    with theme():
        table = table[table.circuit == "arm"]
        parts = {label(task): table[table.task == task] for task in present(table.task, ())}
        models = ("continued", "matched", "mdm")
        fig, ax = dots(parts, "loss", "model", models)
        ax.axvline(0, color=INK, lw=0.8)
        ax.axvline(margin, color=INK, lw=1.1, ls=(0, (1, 1.5)))
        ax.set_xlabel(f"CPR lost (dotted: {margin:g}, the margin)")
        return headed(
            fig,
            table,
            "model",
            models,
            "What the ARM's circuit lacks in later models",
            "area below the faithfulness curve, that of the model's own circuit minus that of the "
            f"ARM's; n = {count_text(table.n)} examples",
        )
