"""What is lost without some heads: a forest plot, one panel a task."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.theme import (
    GRID,
    INK,
    MARKERS,
    MUTED,
    ORANGE,
    PURPLE,
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

#: Sets of heads from top to bottom.
KINDS = {
    "early": "early heads",
    "random": "random, alike",
    "middle": "middle heads",
    "late": "late heads",
    "middle-mass": "middle, same mass",
    "late-mass": "late, same mass",
}
MODELS = ("arm", "mdm", "continued")


def _percent(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")


def plot_losses(table: pd.DataFrame, ablation: str = "zero") -> Figure:
    """Accuracy lost without each set of heads, one panel a task, all models.

    Args:
        table: ``task, model, ablation, kind, lost, low, high, least, most, n``.
        ablation: the ablation that is drawn.
    """
    with theme():
        table = table[table.ablation == ablation]
        tasks, models = present(table.task, ()), present(table.model, MODELS)
        kinds = [kind for kind in KINDS if kind in set(table.kind)]
        fig = figure(0.5 + len(tasks) * (0.3 + 0.27 * len(kinds)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        step = 0.75 / len(models)
        for ax, task in zip(axes, tasks, strict=True):
            for y, kind in enumerate(kinds):
                rows = table[(table.task == task) & (table.kind == kind)].set_index("model")
                for i, model in enumerate(m for m in models if m in rows.index):
                    row, color = rows.loc[model], ROLE_COLORS[model]
                    place = y + (i - (len(models) - 1) / 2) * step
                    if kind == "random":
                        ax.hlines(place, row.least, row.most, color=color, lw=5, alpha=0.2)
                    ax.hlines(place, row.low, row.high, color=color, lw=1.8, alpha=0.7)
                    ax.plot(row.lost, place, MARKERS[model], color=color, ms=4.5, zorder=3)
            ax.axvline(0, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
            ax.set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
            ax.set_ylim(len(kinds) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            for y in range(1, len(kinds)):
                ax.axhline(y - 0.5, color=GRID, linewidth=0.8, zorder=0)
            ax.grid(axis="x")
            ax.set_title(label(task))
            _percent(ax)
        axes[-1].set_xlabel("accuracy lost (percentage points)")
        return header(
            fig,
            f"What is lost without some heads ({ablation} ablation)",
            "the same heads in all models, chosen by the MDM's circuit; n = "
            f"{count_text(table.n)} examples; lines: 95 % intervals (bootstrap; exact where "
            "no example differs); wide bands: the middle 95 % of the random sets",
            role_handles(models),
            columns=3,
        )


def plot_contrasts(table: pd.DataFrame, model: str = "mdm") -> Figure:
    """How much more the early heads cost than each control, by ablation, one panel a task.

    Args:
        table: ``task, model, ablation, against, more, low, high, n``.
        model: the model that is drawn.
    """
    colors = {"zero": INK, "mean": PURPLE, "resample": ORANGE}  # not those of models
    markers = {"zero": "s", "mean": "o", "resample": "D"}
    with theme():
        table = table[table.model == model]
        tasks = present(table.task, ())
        ablations, controls = (
            present(table.ablation, list(colors)),
            present(table.against, list(KINDS)),
        )
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.4 + lines * (0.4 + 0.42 * len(controls)))
        axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        step = 0.7 / len(ablations)
        for ax, task in zip(axes, tasks, strict=False):
            for y, against in enumerate(controls):
                rows = table[(table.task == task) & (table.against == against)]
                for _, row in rows.iterrows():
                    i = ablations.index(row.ablation)
                    place = y + (i - (len(ablations) - 1) / 2) * step
                    color = colors[row.ablation]
                    ax.hlines(place, row.low, row.high, color=color, lw=1.8, alpha=0.7)
                    ax.plot(row.more, place, markers[row.ablation], color=color, ms=5, zorder=3)
            ax.axvline(0, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
            ax.set_yticks(range(len(controls)), controls)
            ax.set_ylim(len(controls) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="x")
            ax.set_title(label(task))
            _percent(ax)
        for ax in axes[len(tasks) :]:
            ax.remove()
        fig.supxlabel("more accuracy lost than without … (percentage points)", fontsize=10.5)
        return header(
            fig,
            f"Are the early heads special to the {label(model)}?",
            "above 0: its early heads cost more than the control; "
            f"n = {count_text(table.n)} examples; lines: 95 % intervals (bootstrap; exact "
            "where no example differs)",
            [handle(f"{x} ablation", colors[x], markers[x]) for x in ablations],
            columns=3,
        )
