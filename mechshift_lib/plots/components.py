"""Which components carry the answer: a map of them, Lorenz curves, and a dot for every training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    INK,
    MUTED,
    ROLE_COLORS,
    two_sided,
)
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

ROLES = ("arm", "mdm", "continued", "matched")
#: Models that are drawn side by side.
SIDE_BY_SIDE = ("arm", "mdm", "continued")
#: Measure -> what of the row is spread.
READINGS = {"participation_free": "components", "tokens": "tokens"}
#: Names of directions in the tables.
OWN, RANDOM = "own", "random"
#: Heads and layers up to which each has a tick.
FEW = 8


@drawn_from_tables
def plot_grid(table: pd.DataFrame) -> Figure:
    """What each head and MLP adds to answer − distractor: a map for every task and model.

    Args:
        table: ``task, model, component, layer, kind, share, n``.
    """
    with theme():
        tasks = list(dict.fromkeys(table.task))
        models = [m for m in SIDE_BY_SIDE if m in set(table.model)]
        n_layers = int(table.layer.max()) + 1
        fig = figure(0.7 + len(tasks) * (0.35 + min(0.17 * n_layers, 2.6)))
        axes = fig.subplots(len(tasks), len(models), squeeze=False, sharex=True, sharey=True)
        limit = float(table.share.abs().max())
        for row, task in zip(axes, tasks, strict=True):
            for ax, model in zip(row, models, strict=True):
                here = table[(table.task == task) & (table.model == model)]
                # Heads side by side, the MLP last: the order in which a layer writes.
                cells = np.stack([part.share for _, part in here.groupby("layer")])
                image = ax.imshow(
                    cells, cmap=two_sided(), vmin=-limit, vmax=limit, aspect="auto", origin="lower"
                )
                heads = cells.shape[1] - 1
                step = 1 if heads <= FEW else 3
                ticks = range(0, heads, step)
                ax.set_xticks([*ticks, heads], [*(f"h{i}" for i in ticks), "MLP"], fontsize=8.5)
                ax.set_yticks(range(0, n_layers, 1 if n_layers <= FEW else 5))
                ax.tick_params(length=0)
                ax.set_title(f"{label(task)}, {_short(model)}", fontsize=9)
        for ax in axes[:, 0]:
            ax.set_ylabel("layer")
        bar = fig.colorbar(image, ax=axes, orientation="horizontal", aspect=45, pad=0.02)
        bar.set_label("share of all that heads and MLPs write, signed")
        bar.outline.set_visible(False)  # type: ignore[operator]
        return header(
            fig,
            "Which components write the answer",
            "Direct attribution to logit(answer) − logit(distractor), a mean over answer "
            f"positions; n = {count_text(table.n)} examples at each; rose: towards the answer",
        )


@drawn_from_tables
def plot_lorenz(table: pd.DataFrame) -> Figure:
    """Lorenz curves of what heads and MLPs add to the answer, a panel for every task.

    Args:
        table: ``task, seed, model, position, directions, x, y, n``.
    """
    with theme():
        tasks = list(dict.fromkeys(table.task))
        own = table[table.directions == OWN]
        roles = present(own.model, ROLES)
        rows = -(-len(tasks) // 2)
        fig = figure(2.3 * rows + 0.2)
        axes = fig.subplots(rows, min(2, len(tasks)), squeeze=False, sharex=True, sharey=True)
        for ax in axes.flat[len(tasks) :]:
            ax.set_visible(False)
        for ax, task in zip(axes.flat, tasks, strict=False):
            ax.plot([0, 1], [0, 1], color=MUTED, lw=0.8)
            random = table[(table.task == task) & (table.directions == RANDOM)]
            level = random.groupby("x").y.mean()
            ax.plot(level.index, level, color=INK, lw=1.2, linestyle=":")
            for role in roles:
                here = own[(own.task == task) & (own.model == role)]
                color = ROLE_COLORS.get(role, INK)
                curves = here.groupby(["seed", "x"]).y.mean().unstack("seed")
                if curves.shape[1] > 1:
                    ax.plot(curves.index, curves, color=color, lw=0.7, alpha=0.35)
                ax.plot(curves.index, curves.mean(axis=1), color=color, lw=1.8)
            ax.set_title(label(task))
            ax.set_xticks([0, 0.5, 1])
            ax.xaxis.set_major_formatter(percent_axis())
            ax.yaxis.set_major_formatter(percent_axis())
            ax.grid()
        fig.supxlabel("share of heads and MLPs, the weakest first", fontsize=10.5)
        fig.supylabel("share of what they write", fontsize=10.5)
        lines = {"linestyle": "-", "linewidth": 1.8}
        handles = [handle(label(r), ROLE_COLORS.get(r, INK), "", **lines) for r in roles]
        handles += [
            handle("random directions", INK, "", linestyle=":"),
            handle("all alike", MUTED, "", linestyle="-", linewidth=0.8),
        ]
        seeds = table.seed.nunique()
        drawn = f"thin: {seeds} trainings, thick: their mean" if seeds > 1 else "one training"
        return header(
            fig,
            "How few components carry the answer",
            "Magnitude of each one's attribution to logit(answer) − logit(distractor); the lower "
            f"the curve, the fewer; n = {count_text(own.n)} examples at a position; {drawn}",
            handles,
            columns=3,
        )


@drawn_from_tables
def plot_spread(table: pd.DataFrame) -> Figure:
    """Over how many components and tokens each model spreads what it says; a dot a training.

    Args:
        table: ``task, seed, model, directions, n`` and the columns of :data:`READINGS`.
    """
    with theme():
        own, random = (table[table.directions == kind] for kind in (OWN, RANDOM))
        random = random.groupby(["task", "seed"], as_index=False, sort=False).mean(
            numeric_only=True
        )
        every = pd.concat([own, random.assign(model=RANDOM)])
        long = pd.concat(every.assign(what=what, value=every[x]) for x, what in READINGS.items())
        parts = {
            f"{label(task)},\n{what}": long[(long.task == task) & (long.what == what)]
            for task in dict.fromkeys(table.task)
            for what in READINGS.values()
        }
        order = (*ROLES, RANDOM)
        fig, ax = dots(parts, "value", "model", order)
        ax.xaxis.set_major_formatter(percent_axis())
        ax.set_xlabel("effective share (participation ratio)")
        return headed(
            fig,
            every,
            "model",
            order,
            "Over how much each model spreads what it says",
            "Components: heads and MLPs that carry the answer. Tokens: those of the vocabulary "
            f"that a component writes to. Random: directions; n = {count_text(own.n)} or more "
            "examples at a position",
        )


def _short(model: str) -> str:
    """A model's name where there is little room."""
    return model if model == "continued" else label(model)
