"""Instruments along the layers, and components by place and meaning."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import CARD, GRID, INK, ROLE_COLORS
from mechshift_lib.plots.theme import (
    count_text,
    figure,
    handle,
    header,
    label,
    percent_axis,
    present,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed

ROLES = ("arm", "continued", "mdm", "matched")
#: Instrument -> what heads its column.
INSTRUMENTS = {
    "circuit": "circuit before",
    "writing": "written before",
    "lens": "lens: P(answer)",
    "probe": "probe: accuracy",
}
#: Kind of component -> marker.
KINDS = {"head": "o", "mlp": "s"}


@drawn_from_tables
def plot_depth(table: pd.DataFrame) -> Figure:
    """Four instruments by layer: a row for every task, a column for every instrument.

    Args:
        table: ``task, seed, model, instrument, layer, value, n``.
    """
    with theme():
        tasks = list(dict.fromkeys(table.task))
        columns = [name for name in INSTRUMENTS if name in set(table.instrument)]
        roles = present(table.model, ROLES)
        fig = figure(0.35 + 1.15 * len(tasks))
        axes = fig.subplots(len(tasks), len(columns), squeeze=False, sharex=True, sharey=True)
        last = int(table.layer.max())
        for row, task in zip(axes, tasks, strict=True):
            for ax, name in zip(row, columns, strict=True):
                here = table[(table.task == task) & (table.instrument == name)]
                for role in roles:
                    curves = here[here.model == role].pivot_table("value", "layer", "seed")
                    if curves.empty:
                        continue
                    color = ROLE_COLORS.get(role, INK)
                    if curves.shape[1] > 1:
                        ax.plot(curves.index, curves, color=color, lw=0.7, alpha=0.35)
                    ax.plot(curves.index, curves.mean(axis=1), color=color, lw=1.8)
                ax.set_ylim(-0.03, 1.03)
                ax.set_yticks([0, 0.5, 1])
                ax.yaxis.set_major_formatter(percent_axis())
                ax.set_xticks([0, last] if last > 8 else range(0, last + 1, 2))
                ax.grid()
            row[0].set_ylabel(label(task), fontsize=9.5)
        for ax, name in zip(axes[0], columns, strict=True):
            ax.set_title(INSTRUMENTS[name], fontsize=9)
        fig.supxlabel("layer (0: embedding)", fontsize=10.5)
        seeds = table.seed.nunique()
        drawn = f"thin: {seeds} trainings, thick: their mean" if seeds > 1 else "one training"
        lines = {"linestyle": "-", "linewidth": 1.8}
        handles = [handle(label(r), ROLE_COLORS.get(r, INK), "", **lines) for r in roles]
        return header(
            fig,
            "Four instruments along the layers",
            "How much of each is there at a layer's input, means over answer positions; "
            f"n = {count_text(table.n)} examples; {drawn}; probes: the first training",
            handles,
            columns=3,
        )


@drawn_from_tables
def plot_components(table: pd.DataFrame) -> Figure:
    """Components of one training by how much of their place and of their meaning is left.

    Args:
        table: ``task, model, component, kind, own, left, meaning, n``.
    """
    with theme():
        tasks = list(dict.fromkeys(table.task))
        models = [m for m in ("mdm", "continued") if m in set(table.model)]
        fig = figure(0.5 + 1.55 * len(tasks))
        axes = fig.subplots(len(tasks), len(models), squeeze=False, sharex=True, sharey=True)
        for row, task in zip(axes, tasks, strict=True):
            for ax, model in zip(row, models, strict=True):
                ax.axvline(0, color=GRID, lw=1)
                here = table[(table.task == task) & (table.model == model)]
                for kind, marker in KINDS.items():
                    some = here[here.kind == kind]
                    ax.scatter(
                        some.meaning,
                        some.left,
                        s=8 + 900 * some.own,
                        marker=marker,
                        color=ROLE_COLORS.get(model, INK),
                        alpha=0.55,
                        linewidths=0.5,
                        edgecolors=CARD,
                    )
                ax.set_title(f"{label(task)}, {label(model)}", fontsize=9)
                ax.set_ylim(-0.06, 1.16)
                ax.set_yticks([0, 0.5, 1])
                ax.yaxis.set_major_formatter(percent_axis())
                ax.grid()
        low = min(-0.2, float(np.floor(10 * table.meaning.min()) / 10))
        axes[0, 0].set_xlim(low, 1.12)
        fig.supxlabel("meaning: cosine of what it writes with the ARM's", fontsize=10)
        fig.supylabel("place: share of its own that is left", fontsize=10)
        handles = [handle(name, INK, marker) for name, marker in (("head", "o"), ("MLP", "s"))]
        return header(
            fig,
            "What is left of each component's place and meaning",
            "One training, the first answer token; the larger, the more of the ARM's circuit; "
            f"n = {count_text(table.n)} examples",
            handles,
        )


@drawn_from_tables
def plot_kept(table: pd.DataFrame) -> Figure:
    """Place and meaning that are kept; a dot for every training.

    Args:
        table: ``task, seed, model, part, place, meaning, n``.
    """
    with theme():
        long = pd.concat(table.assign(what=x, value=table[x]) for x in ("place", "meaning"))
        parts = {
            f"{label(task)}, {part},\n{what}": here
            for what in ("place", "meaning")
            for (task, part), here in long[long.what == what].groupby(["task", "part"], sort=False)
        }
        order = ("mdm", "matched", "continued")
        fig, ax = dots(parts, "value", "model", order)
        ax.set_xlabel("what is left of the ARM's")
        return headed(
            fig,
            long,
            "model",
            order,
            "Place and meaning, in every training",
            "Place: share of the circuit in common. Meaning: cosine of what is written, components "
            f"weighed by place; n = {count_text(table.n)} examples",
        )
