"""Where attribution is read, and what is lost when nobody looks there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.theme import (
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    YELLOW,
    count_text,
    figure,
    handle,
    header,
    label,
    present,
    theme,
)

PLACES = ("prompt", "revealed", "own", "waiting")
NAMES = {
    "prompt": "prompt",
    "revealed": "answer, revealed",
    "own": "mask being filled",
    "waiting": "masks that wait",
}
#: None is the colour of a model.
COLORS = {"prompt": "#9aa5b1", "revealed": SKY, "own": YELLOW, "waiting": PURPLE}
MODELS = ("arm", "mdm", "continued")
CUTS = {
    "waiting": "masks that wait",
    "control": "as many prompt tokens",
    "revealed": "revealed answer tokens",
}
CUT_COLORS = {"waiting": PURPLE, "control": MUTED, "revealed": SKY}


def plot_shares(table: pd.DataFrame) -> Figure:
    """Shares of attribution by the reader's place, a bar for each model and task.

    Args:
        table: ``task, model, place, share, n``.
    """
    with theme():
        tasks, models = present(table.task, ()), present(table.model, MODELS)
        fig = figure(0.5 + len(tasks) * (0.3 + 0.26 * len(models)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        for ax, task in zip(axes, tasks, strict=True):
            for y, model in enumerate(models):
                rows = table[(table.task == task) & (table.model == model)].set_index("place")
                left = 0.0
                for place in PLACES:
                    share = float(rows.share.get(place, 0.0))
                    ax.barh(y, share, left=left, height=0.72, color=COLORS[place])
                    if share >= 0.07:
                        text = f"{100 * share:.0f} %"
                        ax.text(
                            left + share / 2,
                            y,
                            text,
                            ha="center",
                            va="center",
                            fontsize=8.5,
                            color=INK,
                        )
                    left += share
            ax.set_yticks(range(len(models)), [label(m) for m in models])
            ax.set_ylim(len(models) - 0.5, -0.5)
            ax.set_xlim(0, 1)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.set_title(label(task))
            ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes[-1].set_xlabel("share of summed |attribution|")
        return header(
            fig,
            "Where edges read what decides the answer",
            f"by position of the edge's reader; n = {count_text(table.n)} examples",
            [handle(NAMES[p], COLORS[p], "s") for p in PLACES],
        )


def plot_layers(table: pd.DataFrame, n: pd.Series) -> Figure:
    """Shares by layer of the reader in the MDM, one panel a task.

    Args:
        table: ``task, model, layer, place, share``; rows of the MDM are drawn.
        n: numbers of examples.
    """
    with theme():
        table = table[table.model == "mdm"]
        tasks = present(table.task, ())
        columns = 2 if len(tasks) > 1 else 1
        lines = -(-len(tasks) // columns)
        fig = figure(0.35 + 1.75 * lines)
        axes = np.atleast_1d(fig.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        for ax, task in zip(axes, tasks, strict=False):
            here = table[table.task == task]
            base = np.zeros(here.layer.nunique())
            for place in PLACES:
                rows = here[here.place == place].sort_values("layer")
                ax.bar(rows.layer, rows.share, bottom=base, width=0.8, color=COLORS[place])
                base += rows.share.to_numpy()
            ax.set_title(label(task))
            ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        for ax in axes[len(tasks) :]:
            ax.remove()
        fig.supxlabel("layer of the reader (the last: the logits)", fontsize=10.5)
        fig.supylabel("share of |attribution|", fontsize=10.5)
        return header(
            fig,
            "At which depth the MDM reads where",
            f"of all attribution of the MDM; n = {count_text(n)} examples",
            [handle(NAMES[p], COLORS[p], "s") for p in PLACES],
        )


def plot_cuts(table: pd.DataFrame) -> Figure:
    """Accuracy that the MDM loses when no other token sees some positions, one panel a task.

    Args:
        table: ``task, kind, lost, low, high, n``.
    """
    with theme():
        table = table[table.kind.isin(list(CUTS))]
        tasks, kinds = present(table.task, ()), present(table.kind, list(CUTS))
        fig = figure(0.5 + len(tasks) * (0.3 + 0.3 * len(kinds)))
        axes = np.atleast_1d(fig.subplots(len(tasks), 1, sharex=True))
        for ax, task in zip(axes, tasks, strict=True):
            rows = table[table.task == task].set_index("kind")
            for y, kind in enumerate(kinds):
                row, color = rows.loc[kind], CUT_COLORS[kind]
                ax.hlines(y, row.low, row.high, color=color, linewidth=2.2, alpha=0.6)
                ax.plot(row.lost, y, "o", color=color, ms=6, zorder=3)
                if pd.isna(row.lost):
                    ax.annotate(
                        "nothing to cut",
                        (0, y),
                        (4, 0),
                        textcoords="offset points",
                        va="center",
                        fontsize=9,
                        color=MUTED,
                    )
            ax.axvline(0, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
            ax.set_yticks(range(len(kinds)), [CUTS[kind] for kind in kinds])
            ax.set_ylim(len(kinds) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.grid(axis="x")
            ax.set_title(label(task))
            ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        axes[-1].set_xlabel("accuracy lost (percentage points)")
        return header(
            fig,
            "What the MDM loses when nobody looks there",
            "attention of all other tokens to these positions is cut in every layer; steps with a "
            f"mask that waits; n = {count_text(table.n)} examples; lines: 95 % intervals "
            "(bootstrap; exact where no example differs)",
        )


def plot_waiting(table: pd.DataFrame) -> Figure:
    """Exact patching of the waiting masks over the layers.

    Args:
        table: ``task, layer, effect, low, high, n``.
    """
    colors = {"countdown": PURPLE, "infilling": ORANGE}
    markers = {"countdown": "s", "infilling": "D"}
    with theme():
        tasks = present(table.task, list(colors))
        fig = figure(2.2)
        ax = fig.subplots()
        for task in tasks:
            rows, color = table[table.task == task].sort_values("layer"), colors.get(task, GREEN)
            ax.fill_between(
                rows.layer, rows.low.astype(float), rows.high.astype(float), color=color, alpha=0.15
            )
            ax.plot(rows.layer, rows.effect, color=color, marker=markers.get(task, "o"), ms=5)
        ax.axhline(0, color=MUTED, linewidth=0.9, linestyle="--", zorder=0)
        ax.set_xlabel("layer whose input is patched (the last: the final norm)")
        ax.set_ylabel("share of the gap lost")
        ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        ax.grid(axis="y")
        return header(
            fig,
            "What the masks that wait know of the prompt",
            "the corrupted run's residual stream put at one waiting mask at a time, effects added; "
            f"n = {count_text(table.n)} examples; bands: 95 % bootstrap intervals",
            [handle(label(t), colors.get(t, GREEN), markers.get(t, "o")) for t in tasks],
        )
