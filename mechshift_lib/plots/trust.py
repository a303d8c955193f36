"""Attribution beside exact patching of every edge."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    CARD,
    ESTIMATE,
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

SUBJECTS = ("arm", "mdm", "untrained")
ESTIMATES = (
    "eap",
    "clean-corrupted",
    "eap-ig-5",
    "eap-ig-5-right",
    "eap-ig-20",
    "eap-ig-activations-5",
    "exact-halves",
)
#: Measures that have a column in the figure; the others are left to the table.
MEASURES = ("pearson", "spearman", "recall-0.05")


@drawn_from_tables
def plot_scatter(table: pd.DataFrame, estimate: str) -> Figure:
    """Estimated against exact score, one dot an edge, one panel a task.

    Args:
        table: ``task, subject, edge, exact, estimate, n``, of one model.
        estimate: what people read for the estimate.
    """
    with theme():
        tasks, model = present(table.task, ()), table.subject.iloc[0]
        color = ROLE_COLORS[model]
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.35 + 2.2 * lines)
        axes = np.atleast_1d(fig.subplots(lines, columns)).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            rows = table[table.task == task]
            limit = 1.15 * max(float(rows[["exact", "estimate"]].abs().max().max()), 1e-9)
            ax.axline((0, 0), slope=1, color=MUTED, linewidth=1, linestyle="--", zorder=1)
            ax.plot(rows.exact, rows.estimate, "o", color=color, ms=3, alpha=0.45, mew=0, zorder=2)
            for scale, bound in ((ax.set_xscale, ax.set_xlim), (ax.set_yscale, ax.set_ylim)):
                scale("symlog", linthresh=limit / 100, linscale=0.7)
                bound(-limit, limit)
            power = 10.0 ** np.floor(np.log10(limit))
            ticks = [-power, -power / 10, 0, power / 10, power]
            names = [f"{-power:g}", "", "0", "", f"{power:g}"]  # numbers at a tenth would collide
            ax.set_xticks(ticks, names, fontsize=8.5)
            ax.set_yticks(ticks, names, fontsize=8.5)
            ax.minorticks_off()
            ax.grid(color=GRID)
            ax.set_title(f"{label(task)}, r = {rows.exact.corr(rows.estimate):.2f}")
        for ax in axes[len(tasks) :]:
            ax.remove()
        fig.supxlabel("exact patching (score)", fontsize=10.5)
        fig.supylabel(estimate, fontsize=10.5)
        return header(
            fig,
            f"{estimate} against exact patching, edge by edge",
            f"{label(model)}; one dot an edge, scores averaged over n = {count_text(table.n)} "
            "examples; r: Pearson correlation; symmetric logarithmic scales; dashed: equal",
        )


@drawn_from_tables
def plot_agreement(table: pd.DataFrame) -> Figure:
    """Every estimate's agreement with exact patching, one column a measure.

    Args:
        table: ``task, subject, estimate, measure, value, n``; one small dot a task, the large one
            their mean.
    """
    with theme():
        table = table[table.measure.isin(MEASURES)]
        measures = present(table.measure, MEASURES)
        names, subjects = present(table.estimate, ESTIMATES), present(table.subject, SUBJECTS)
        fig = figure(0.6 + 0.5 * len(names))
        axes = np.atleast_1d(fig.subplots(1, len(measures), sharey=True))
        step = 0.8 / len(subjects)
        for ax, measure in zip(axes, measures, strict=True):
            for i, subject in enumerate(subjects):
                color, marker = ROLE_COLORS[subject], MARKERS[subject]
                for y, name in enumerate(names):
                    chosen = (table.measure == measure) & (table.subject == subject)
                    values = table[chosen & (table.estimate == name)].value
                    place = y + (i - (len(subjects) - 1) / 2) * step
                    ax.plot(values, [place] * len(values), marker, color=color, ms=2.5, alpha=0.45)
                    ax.plot(values.mean(), place, marker, color=color, ms=5.5, mec=CARD, zorder=3)
            ax.set_title(label(measure), fontsize=10)
            ax.set_xlim(min(0, float(table.value.min()) - 0.05), 1.03)
            ax.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            ax.grid(axis="x")
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            for y in range(1, len(names)):
                ax.axhline(y - 0.5, color=GRID, linewidth=0.8, zorder=0)
        axes[0].set_yticks(range(len(names)), [label(name) for name in names])
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        return header(
            fig,
            "How well attribution agrees with exact patching",
            "over all edges; large: mean over tasks, small: single tasks; scores averaged over "
            f"n = {count_text(table.n)} examples; last row: what two halves of them agree",
            [handle(label(s), ROLE_COLORS[s], MARKERS[s]) for s in subjects],
            columns=3,
        )


@drawn_from_tables
def plot_consequences(table: pd.DataFrame) -> Figure:
    """What the comparison of ARM and MDM would be by each estimate, one row a task.

    Args:
        table: ``task, estimate, jaccard, low, high, shift, chance, count, n``; the estimate
            ``exact`` is drawn as a line, its interval as a band.
    """
    with theme():
        tasks = present(table.task, ())
        names = [n for n in present(table.estimate, ESTIMATES) if n != "exact"]
        fig = figure(0.5 + len(tasks) * (0.35 + 0.19 * len(names)))
        axes = fig.subplots(len(tasks), 2, sharex="col", sharey=True, squeeze=False)
        limit = 1.15 * max(0.05, float(table["shift"].abs().max()))
        for row, task in zip(axes, tasks, strict=True):
            here = table[table.task == task].set_index("estimate")
            for ax, column in zip(row, ("jaccard", "shift"), strict=True):
                ax.axvline(here.loc["exact", column], color=INK, linewidth=1.6, zorder=1)
                ax.plot(here.loc[names, column], range(len(names)), "s", color=ESTIMATE, ms=5.5)
                ax.grid(axis="x")
                ax.tick_params(axis="y", length=0)
                ax.spines["left"].set_visible(False)
            row[0].hlines(range(len(names)), here.low[names], here.high[names], ESTIMATE)
            row[0].axvspan(*here.loc["exact", ["low", "high"]], color=INK, alpha=0.1, linewidth=0)
            row[0].set_title(label(task))
            row[0].axvline(here.chance.iloc[0], color=MUTED, linestyle=":", linewidth=1.6)
            row[0].set_xlim(0, 1)
            row[1].axvline(0, color=GRID, linewidth=1, zorder=0)
            row[1].set_xlim(-limit, limit)
            row[0].set_yticks(range(len(names)), [label(n) for n in names], fontsize=8.5)
            row[0].set_ylim(len(names) - 0.5, -0.5)
        axes[-1, 0].set_xlabel("Jaccard, ARM ↔ MDM", fontsize=10)
        axes[-1, 1].set_xlabel("depth, MDM − ARM", fontsize=10)
        return header(
            fig,
            "What would be concluded from each estimate",
            f"top {count_text(table['count'])} edges; n = {count_text(table.n)} examples; lines, "
            "band: 95 % intervals from resampling them",
            [
                handle("estimate", ESTIMATE, "s"),
                handle("exact patching", INK, "", linestyle="-"),
                handle("random sets", MUTED, "", linestyle=":"),
            ],
            columns=3,
        )
