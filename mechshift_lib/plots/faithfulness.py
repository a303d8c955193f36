"""How much of its model's work a circuit does, alone and inside another model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mechshift_lib.plots.theme import (
    GRID,
    MARKERS,
    MUTED,
    ROLE_COLORS,
    count_text,
    figure,
    handle,
    header,
    label,
    present,
    role_handles,
    theme,
)

CIRCUITS = ("arm", "mdm", "continued", "random")
#: Faithfulness outside of these is cut off: single edges can overshoot many times.
RANGE = (-0.5, 1.6)
#: Sizes that are marked, far enough from each other for their numbers.
TICKS = (0.001, 0.01, 0.1, 1)


def _curve(ax: Axes, rows: pd.DataFrame, circuit: str) -> None:
    rows, color = rows.sort_values("fraction"), ROLE_COLORS[circuit]
    ax.fill_between(rows.fraction, rows.low, rows.high, color=color, alpha=0.15, lw=0)
    style = ":" if circuit == "random" else "-"
    ax.plot(
        rows.fraction,
        rows.faithfulness,
        color=color,
        marker=MARKERS[circuit],
        ms=3.5,
        lw=1.6,
        linestyle=style,
    )


def _dress(ax: Axes, table: pd.DataFrame) -> None:
    low, high = float(table.low.min()), float(table.high.max())
    margin = 0.06 * (high - low)
    for level in (0, 1):
        ax.axhline(level, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
    ax.set_xscale("log")
    ax.set_ylim(max(RANGE[0], low - margin), min(RANGE[1], high + margin))
    ax.grid(axis="y", color=GRID)
    ax.set_xticks(TICKS)
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    ax.minorticks_off()


def plot_faithfulness(table: pd.DataFrame) -> Figure:
    """Faithfulness of each model's own circuit over its size, one panel a task.

    Args:
        table: ``task, model, circuit, by, fraction, faithfulness, low, high, n``; the signed
            rankings of a model's own circuit and the random ones in the MDM are drawn.
    """
    with theme():
        table = table[table.by == "signed"]
        own = table[(table.circuit == table.model)]
        chance = table[(table.circuit == "random") & (table.model == "mdm")]
        tasks, roles = present(table.task, ()), present(own.model, CIRCUITS)
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.35 + 1.9 * lines)
        axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            for role in roles:
                _curve(ax, own[(own.task == task) & (own.model == role)], role)
            _curve(ax, chance[chance.task == task], "random")
            _dress(ax, table)
            ax.set_title(label(task))
        for ax in axes[len(tasks) :]:
            ax.remove()
        fig.supxlabel("edges in the circuit (% of all edges, logarithmic)", fontsize=10.5)
        fig.supylabel("faithfulness", fontsize=10.5)
        handles = [_handle(role, label(role)) for role in roles]
        handles.append(_handle("random", "random edges (MDM)"))
        return header(
            fig,
            "How much of the task a circuit does alone",
            "0: as if all edges were corrupted, 1: as the whole model; edges by signed score; "
            f"n = {count_text(table.n)} examples; bands: 95 % bootstrap intervals",
            handles,
        )


def _handle(circuit: str, text: str) -> Line2D:
    style = ":" if circuit == "random" else "-"
    return handle(text, ROLE_COLORS[circuit], MARKERS[circuit], linestyle=style, markersize=4)


def plot_cross(table: pd.DataFrame) -> Figure:
    """Circuits of all models inside the MDM and inside the ARM, one row a task.

    Args:
        table: as for :func:`plot_faithfulness`.
    """
    with theme():
        table = table[(table.by == "signed") & table.model.isin(["mdm", "arm"])]
        tasks, circuits = present(table.task, ()), present(table.circuit, CIRCUITS)
        fig = figure(0.45 + 1.55 * len(tasks))
        axes = fig.subplots(len(tasks), 2, sharex=True, sharey=True, squeeze=False)
        for row, task in zip(axes, tasks, strict=True):
            for ax, model in zip(row, ("mdm", "arm"), strict=True):
                here = table[(table.task == task) & (table.model == model)]
                for circuit in circuits:
                    _curve(ax, here[here.circuit == circuit], circuit)
                _dress(ax, table)
                ax.set_title(f"{label(task)}, inside the {label(model)}", fontsize=10)
        fig.supxlabel("edges in the circuit (% of all edges, logarithmic)", fontsize=10.5)
        fig.supylabel("faithfulness", fontsize=10.5)
        names = {"random": "random edges"}
        return header(
            fig,
            "One model's circuit inside the other",
            "edges by signed score of the model named in the legend; "
            f"n = {count_text(table.n)} examples; bands: 95 % bootstrap intervals",
            [_handle(c, names.get(c, f"circuit of the {label(c)}")) for c in circuits],
        )


def plot_areas(table: pd.DataFrame) -> Figure:
    """CPR of every circuit inside every model, one panel a task.

    Args:
        table: ``task, model, circuit, measure, value, low, high, n``; rows of ``cpr`` are drawn.
    """
    with theme():
        table = table[table.measure == "cpr"]
        tasks, models = present(table.task, ()), present(table.model, ("arm", "mdm", "continued"))
        circuits = present(table.circuit, CIRCUITS)
        fig = figure(0.5 + len(tasks) * (0.3 + 0.3 * len(models)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        step = 0.8 / len(circuits)
        for ax, task in zip(axes, tasks, strict=True):
            for y, model in enumerate(models):
                rows = table[(table.task == task) & (table.model == model)].set_index("circuit")
                for i, circuit in enumerate(c for c in circuits if c in rows.index):
                    row, color = rows.loc[circuit], ROLE_COLORS[circuit]
                    place = y + (i - (len(circuits) - 1) / 2) * step
                    ax.hlines(place, row.low, row.high, color=color, linewidth=2, alpha=0.55)
                    ax.plot(row.value, place, MARKERS[circuit], color=color, ms=5.5, zorder=3)
            ax.set_yticks(range(len(models)), [f"in the {label(m)}" for m in models])
            ax.set_ylim(len(models) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            for y in range(1, len(models)):
                ax.axhline(y - 0.5, color=GRID, linewidth=0.8, zorder=0)
            ax.axvline(1, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
            ax.grid(axis="x")
            ax.set_title(label(task))
        axes[-1].set_xlabel("CPR (area below the faithfulness curve)")
        handles = role_handles(circuits)
        return header(
            fig,
            "Whose circuit serves which model",
            "dashed: a circuit that does all of the task at every size; colour: whose scores rank "
            f"the edges; n = {count_text(table.n)} examples; bars: 95 % bootstrap intervals",
            handles,
            columns=4,
        )
