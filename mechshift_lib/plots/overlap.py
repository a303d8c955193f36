"""How much circuits have in common, beside what overlap could be expected."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    BLUE,
    COMPARISON_COLORS,
    GRID,
    INK,
    MUTED,
    VERMILLION,
)
from mechshift_lib.plots.theme import (
    count_text,
    figure,
    handle,
    header,
    label,
    present,
    theme,
)

COMPARISONS = tuple(COMPARISON_COLORS)
#: Drawn as lines over budgets; the others are left to the figure at one budget.
CURVES = ("arm-mdm", "arm-continued", "arm-halves", "mdm-halves")


@drawn_from_tables
def plot_overlap_curves(table: pd.DataFrame) -> Figure:
    """Edge overlap over the size of the circuit, one panel a task.

    Args:
        table: ``task, comparison, fraction, jaccard, low, high, chance, n``.
    """
    with theme():
        table = table[table.comparison.isin(CURVES)]
        tasks, shown = present(table.task, ()), present(table.comparison, CURVES)
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.35 + 2.05 * lines)
        axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            here = table[table.task == task]
            chance = here.drop_duplicates("fraction").sort_values("fraction")
            ax.plot(chance.fraction, chance.chance, color=MUTED, linestyle=":", linewidth=1.6)
            for name in shown:
                rows = here[here.comparison == name].sort_values("fraction")
                color = COMPARISON_COLORS[name]
                ax.fill_between(rows.fraction, rows.low, rows.high, color=color, alpha=0.15, lw=0)
                ax.plot(rows.fraction, rows.jaccard, color=color, marker="o", ms=3.5, lw=1.6)
            ax.set_xscale("log")
            ax.set_ylim(0, 1.02)
            ax.grid()
            ax.set_title(label(task))
            ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        for ax in axes[len(tasks) :]:
            ax.remove()
        fig.supxlabel("edges in the circuit (% of all edges, logarithmic)", fontsize=10.5)
        fig.supylabel("Jaccard index of the two edge sets", fontsize=10.5)
        handles = [
            handle(label(name), COMPARISON_COLORS[name], linestyle="-", markersize=4)
            for name in shown
        ]
        handles.append(handle("random sets", MUTED, "", linestyle=":"))
        return header(
            fig,
            "Edge overlap over the size of the circuit",
            f"n = {count_text(table.n)} examples a task; bands: 95 % bootstrap intervals "
            "(halves: 95 % of random splits)",
            handles,
        )


@drawn_from_tables
def plot_overlap_reference(table: pd.DataFrame, value: str = "jaccard") -> Figure:
    """All comparisons at one budget: is the overlap of ARM and MDM below the yardsticks?

    Args:
        table: ``task, comparison, <value>, low, high, chance, n, count`` (and ``k`` for
            components), of one budget.
        value: the column that is drawn, ``jaccard`` (edges) or ``share`` (components).
    """
    with theme():
        tasks, shown = present(table.task, ()), present(table.comparison, COMPARISONS)
        height = 0.5 + sum(0.32 + 0.22 * (table.task == task).sum() for task in tasks)
        fig = figure(height)
        ratios = [0.3 + 0.22 * (table.task == task).sum() for task in tasks]
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True, height_ratios=ratios))
        for ax, task in zip(axes, tasks, strict=True):
            rows = table[table.task == task].set_index("comparison")
            names = [name for name in shown if name in rows.index]
            for y, name in enumerate(names):
                row, color = rows.loc[name], COMPARISON_COLORS[name]
                if np.isnan(row[value]):  # circuits without any component
                    continue
                ax.hlines(y, row.low, row.high, color=color, linewidth=2.2, alpha=0.6)
                ax.plot(row[value], y, "o", color=color, markersize=6.5, clip_on=False, zorder=3)
                ax.plot(row.chance, y, "|", color=MUTED, markersize=11, markeredgewidth=2)
            ax.set_yticks(range(len(names)), [label(name) for name in names])
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_xlim(0, 1)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.grid(axis="x")
            ax.set_title(label(task))
        counts = count_text(table["count"])
        bars = "bars: 95 % bootstrap intervals"
        if value == "jaccard":
            unit, what = "Jaccard index of the two edge sets", f"top {counts} edges"
            bars += " (halves: 95 % of random splits, n / 2 examples each; between trainings: "
            bars += "the mean of pairs and all their intervals)"
        else:
            unit = "share of components in both sets"
            what = f"top {count_text(table.k)} components of circuits of {counts} edges"
        axes[-1].set_xlabel(unit)
        return header(
            fig,
            "Overlap of circuits, beside its yardsticks",
            f"{what}; n = {count_text(table.n)} examples; {bars}",
            [handle("overlap", INK), handle("random sets", MUTED, "|", markersize=10)],
        )


@drawn_from_tables
def plot_head_usage(table: pd.DataFrame) -> Figure:
    """Attention heads used by only one of the two models, by layer.

    Args:
        table: ``task, layer, arm_only, mdm_only, count, n``.
    """
    with theme():
        tasks = present(table.task, ())
        n_layers = int(table.layer.max()) + 1
        fig = figure(0.5 + len(tasks) * 1.35)
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True, sharey=True))
        high = max(1, int(table[["arm_only", "mdm_only"]].max().max()))
        for ax, task in zip(axes, tasks, strict=True):
            rows = table[table.task == task]
            ax.bar(rows.layer, rows.mdm_only, color=VERMILLION, width=0.75)
            ax.bar(rows.layer, -rows.arm_only, color=BLUE, width=0.75)
            difference = rows.mdm_only - rows.arm_only
            ax.plot(rows.layer, difference, color=INK, marker="D", ms=3.5, lw=1)
            ax.axhline(0, color=INK, linewidth=0.8)
            ax.set_ylim(-high - 0.5, high + 0.5)
            ax.yaxis.set_major_formatter(lambda v, _: f"{abs(v):g}")
            ax.yaxis.get_major_locator().set_params(integer=True)
            ax.grid(axis="y", color=GRID)
            ax.set_title(label(task))
        ticks = range(0, n_layers, max(1, n_layers // 10))
        axes[-1].set_xticks(list(ticks))
        axes[-1].set_xlabel("layer")
        fig.supylabel("heads", fontsize=10.5)
        return header(
            fig,
            "Attention heads that only one model uses",
            f"heads with an edge in the top {count_text(table['count'])}; up: MDM only, "
            f"down: ARM only; n = {count_text(table.n)} examples",
            [
                handle("MDM only", VERMILLION, "s"),
                handle("ARM only", BLUE, "s"),
                handle("MDM minus ARM", INK, "D", linestyle="-", markersize=4),
            ],
            columns=3,
        )
