"""Whose features are, over trainings, and what is lost without those of the MDM only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    CARD,
    GRID,
    INK,
    MUTED,
    ROLE_COLORS,
)
from mechshift_lib.plots.theme import (
    count_text,
    figure,
    handle,
    header,
    label,
    percent_axis,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed

#: Crosscoders -> title of the panel, and the second model, whose colour it has.
PANELS = {
    "arm-mdm": ("MDM, whole texts", "mdm"),
    "arm-mdm-masked": ("MDM, with masks", "mdm"),
    "arm-continued": ("continued ARM", "continued"),
    "arm-matched": ("MDM as far as the control", "matched"),
}
ORDER = ("mdm", "continued", "matched")
#: Shares that are drawn: column -> what a row is called.
SHARES = {
    "shared": "alike in both",
    "other": "only in the model\ntrained on",
    "arm": "only in the ARM",
}
BINS = 20


@drawn_from_tables
def plot_relative(table: pd.DataFrame, bounds: tuple[float, float]) -> Figure:
    """Relative decoder norms of the features that each crosscoder has, a line a training.

    Args:
        table: ``name, seed, relative``.
        bounds: up to and from where a feature is of one model only.
    """
    with theme():
        names = [name for name in PANELS if name in set(table.name)]
        rows = -(-len(names) // 2)
        fig = figure(1.75 * rows + 0.4)
        axes = fig.subplots(rows, min(2, len(names)), squeeze=False, sharex=True, sharey=True)
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        edges = np.linspace(0, 1, BINS + 1)
        for ax, name in zip(axes.flat, names, strict=False):
            title, role = PANELS[name]
            for low, high in ((0, bounds[0]), (bounds[1], 1)):
                ax.axvspan(low, high, color=GRID, lw=0)
            for _, part in table[table.name == name].groupby("seed"):
                share = np.histogram(part.relative, edges)[0] / len(part)
                ax.stairs(share, edges, color=ROLE_COLORS.get(role, INK), lw=1.4, alpha=0.8)
            ax.set_title(title, fontsize=10)
            ax.set_xlim(0, 1)
            ax.set_xticks([0, 0.5, 1], ["ARM\nonly", "both", "other\nonly"])
            ax.yaxis.set_major_formatter(percent_axis())
        fig.supylabel("share of live features", fontsize=10.5)
        n = table.groupby(["name", "seed"]).size()
        seeds = table.seed.nunique()
        drawn = f"a line each of {seeds} trainings" if seeds > 1 else "one training"
        return header(
            fig,
            "Whose features are",
            "The other model's share of each feature's decoder norm, ARM beside four others; grey: "
            f"counted as of one model only; n = {count_text(n)} features; {drawn}",
        )


@drawn_from_tables
def plot_whose(table: pd.DataFrame) -> Figure:
    """Shares of features that both models have alike, or one only; a dot a training.

    Args:
        table: ``seed, name, model, live`` and the columns of :data:`SHARES`.
    """
    with theme():
        parts = {}
        for column, what in SHARES.items():
            for name in ("arm-mdm", "arm-mdm-masked"):
                masked = name == "arm-mdm-masked"
                here = table[(table.name == name) if masked else (table.name != "arm-mdm-masked")]
                how = "MDM with masks" if masked else "whole texts"
                if len(here):
                    parts[f"{what},\n{how}"] = here.assign(value=here[column])
        fig, ax = dots(parts, "value", "model", ORDER)
        ax.xaxis.set_major_formatter(percent_axis())
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("share of live features")
        return headed(
            fig,
            table,
            "model",
            ORDER,
            "How many features both models share",
            f"Crosscoders of the ARM and one other; n = {count_text(table.live)} live features",
        )


@drawn_from_tables
def plot_lost(table: pd.DataFrame) -> Figure:
    """What the answer loses without features of the MDM only, and without others of their size.

    Args:
        table: ``task, seed, what, lost, low, high, features, n``.
    """
    with theme():
        tasks, whats = list(dict.fromkeys(table.task)), list(dict.fromkeys(table.what))
        colors = dict(zip(whats, (ROLE_COLORS["mdm"], MUTED), strict=True))
        markers = dict(zip(whats, "sv", strict=True))
        fig = figure(0.75 + 0.5 * len(tasks))
        ax = fig.subplots()
        for y, task in enumerate(tasks):
            for i, what in enumerate(whats):
                here = table[(table.task == task) & (table.what == what)]
                style = {"color": colors[what], "marker": markers[what], "linestyle": "none"}
                height = y + 0.36 * (i - 0.5)
                ax.hlines([height] * len(here), here.low, here.high, color=colors[what], lw=1)
                ax.plot(here.lost, [height] * len(here), ms=4, alpha=0.5, **style)
                ax.plot([here.lost.mean()], [height], ms=8, mec=CARD, **style)
        ax.axvline(0, color=MUTED, lw=0.8)
        ax.set_yticks(range(len(tasks)), [label(task) for task in tasks])
        ax.set_ylim(len(tasks) - 0.5, -0.5)
        ax.grid(axis="x")
        ax.set_xlabel("logits that answer − distractor loses")
        texts = ("of the MDM only", "others of the same size")
        handles = [
            handle(text, colors[what], markers[what])
            for text, what in zip(texts, whats, strict=True)
        ]
        seeds = table.seed.nunique()
        return header(
            fig,
            "What the MDM's own features do",
            f"{count_text(table.features)} features taken out together; lines: smallest to largest "
            f"of the draws of others; n = {count_text(table.n)} examples a task; small: "
            f"{seeds} training{'s' if seeds != 1 else ''}, large: their mean",
            handles,
        )
