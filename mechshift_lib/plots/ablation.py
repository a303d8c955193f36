"""What is lost without some heads: a dot for every training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    CARD,
    GRID,
    INK,
    MUTED,
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
from mechshift_lib.plots.trainings import dots, headed

#: Sets of heads from top to bottom.
KINDS = {"early": "early heads", "random": "random others", "later": "later heads"}
ABLATIONS = {"zero": "zeroed", "mean": "set to their mean"}
MODELS = ("arm", "continued", "matched", "mdm")
#: What is held against what (see :data:`mechshift_lib.analyses.shift.HELD`).
CONTRASTS = {
    "mdm": "MDM",
    "mdm-continued": "MDM − control",
    "matched-continued": "MDM as far\n− control",
    "mdm-matched": "MDM −\nMDM as far",
}
#: Signs of the ablations; their colours are no model's.
SIGNS = {"zero": ("s", INK), "mean": ("o", MUTED)}


@drawn_from_tables
def plot_losses(table: pd.DataFrame) -> Figure:
    """Accuracy lost without each set of heads, all models and trainings.

    Args:
        table: ``task, seed, model, ablation, kind, lost, n``.
    """
    with theme():
        parts = {
            f"{label(task)}: {KINDS[kind]},\n{ABLATIONS[ablation]}": rows
            for task in present(table.task, ())
            for ablation in ABLATIONS
            for kind in KINDS
            if len(rows := _of(table, task, ablation).query("kind == @kind"))
        }
        fig, ax = dots(parts, "lost", "model", MODELS)
        ax.axvline(0, color=INK, lw=0.8)
        ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        ax.set_xlabel("accuracy lost (percentage points)")
        told = f"each model loses its own heads; n = {count_text(table.n)} examples a training"
        return headed(fig, table, "model", MODELS, "What is lost without some heads", told)


@drawn_from_tables
def plot_contrasts(table: pd.DataFrame, more: pd.DataFrame) -> Figure:
    """How much more the early heads cost than random others, over trainings.

    Args:
        table: ``task, ablation, against, contrast, value, low, high``.
        more: ``task, seed, model, ablation, against, more, n``, the dots.
    """
    with theme():
        table, more = (rows[rows.against == "random"] for rows in (table, more))
        tasks, names = present(table.task, ()), present(table.contrast, tuple(CONTRASTS))
        fig = figure(0.5 + len(tasks) * (0.35 + 0.45 * len(names)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        for ax, task in zip(axes, tasks, strict=True):
            for i, (ablation, (marker, color)) in enumerate(SIGNS.items()):
                wide = _of(more, task, ablation).pivot_table("more", "seed", "model")
                rows = _of(table, task, ablation).set_index("contrast")
                for y, name in enumerate(n for n in names if n in rows.index):
                    row, height = rows.loc[name], y + 0.3 * (i - 0.5)
                    model, _, base = name.partition("-")
                    each = (wide[model] - (wide[base] if base else 0.0)).dropna()
                    ax.plot(each, [height] * len(each), marker, color=color, ms=3, alpha=0.4)
                    ax.hlines(height, row.low, row.high, color=color, lw=1.8, alpha=0.7)
                    ax.plot([row.value], [height], marker, color=color, ms=6, mec=CARD)
            ax.axvline(0, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
            ax.set_yticks(range(len(names)), [CONTRASTS[name] for name in names])
            ax.set_ylim(len(names) - 0.5, -0.5)
            for y in range(1, len(names)):
                ax.axhline(y - 0.5, color=GRID, linewidth=0.8, zorder=0)
            ax.grid(axis="x")
            ax.set_title(label(task))
            ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        axes[-1].set_xlabel("more lost than with random others (percentage points)")
        seeds = more.seed.nunique()
        return header(
            fig,
            "Is it the early heads?",
            f"n = {count_text(more.n)} examples a training; small: {seeds} "
            f"training{'s' if seeds != 1 else ''}, large: their mean; lines: 98 % intervals over "
            "trainings",
            [handle(ABLATIONS[x], color, marker) for x, (marker, color) in SIGNS.items()],
        )


def _of(table: pd.DataFrame, task: str, ablation: str) -> pd.DataFrame:
    return table[(table.task == task) & (table.ablation == ablation)]
