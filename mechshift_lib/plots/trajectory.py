"""A post-training as it goes: a thin line for every training, small multiples."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import INK, ROLE_COLORS
from mechshift_lib.plots.theme import (
    MARKERS,
    count_text,
    figure,
    header,
    label,
    present,
    role_handles,
    theme,
)

MODELS = ("continued", "mdm")
#: Steps up to which the axis of steps is linear; from there on it is logarithmic.
LINEAR = 10


def read_label(name: str) -> str:
    """What people read for what is followed: a read, or the cue."""
    return "the number that is left" if name == "cue" else label(name)


@drawn_from_tables
def plot_behaviour(table: pd.DataFrame) -> Figure:
    """Accuracy of every task against the training step.

    Args:
        table: ``seed, model, step, task, accuracy, n``.
    """
    return _panels(
        table.assign(panel=table.task, value=table.accuracy, at=table.step),
        "step of the training",
        "share of right answers",
        "What the models can do, as they are trained on",
        f"n = {count_text(table.n)} held-out examples of each task",
        steps=True,
        limits=(-0.03, 1.03),
    )


@drawn_from_tables
def plot_similarity(table: pd.DataFrame) -> Figure:
    """Similarity of the circuit to the ARM's against the distance from the ARM.

    Args:
        table: ``seed, model, displacement, read, cosine, n``.
    """
    return _panels(
        table.assign(panel=table["read"], value=table.cosine, at=table.displacement),
        "distance from the ARM, ‖Δθ‖",
        "cosine with the ARM",
        "How alike the circuit stays to the ARM's, the further the weights move",
        "cosine of the scores of all edges by EAP-IG, divided by what halves of the examples "
        f"allow; n = {count_text(table.n)} groups of examples",
    )


@drawn_from_tables
def plot_signals(table: pd.DataFrame) -> Figure:
    """Probability of the decisive cue, and depth of the circuits, against the training step.

    Args:
        table: ``seed, model, step, what, value``.
    """
    return _panels(
        table.assign(panel=table.what, at=table.step),
        "step of the training",
        "probability, or depth",
        "Cue and depth, as the models are trained on",
        "probability of the number that is left where the target asks for another; mean depth of "
        "the sources of the top 5 % of edges, in layers / number of layers",
        steps=True,
        same=False,
    )


@drawn_from_tables
def plot_layers(table: pd.DataFrame) -> Figure:
    """Linear CKA with the ARM by layer.

    Args:
        table: ``seed, model, task, layer, cka, n``.
    """
    return _panels(
        table.assign(panel=table.task, value=table.cka, at=table.layer),
        "layers before",
        "linear CKA with the ARM",
        "How alike the residual streams are at the end, layer by layer",
        f"debiased, at the positions of answers, n = {count_text(table.n)} examples",
    )


def _panels(
    table: pd.DataFrame,
    x: str,
    y: str,
    title: str,
    subtitle: str,
    *,
    steps: bool = False,
    limits: tuple[float, float] | None = None,
    same: bool = True,
) -> Figure:
    """A panel for each value of ``panel``, two in a row: ``value`` against ``at``, a line for
    every ``seed`` and ``model``; on the same scale, where they are of the same kind.
    """
    with theme():
        names = present(table.panel, ())
        models = present(table.model, MODELS)
        down = -(-len(names) // 2)
        fig = figure(0.35 + 1.75 * down)
        axes = fig.subplots(down, min(2, len(names)), sharex=True, sharey=same, squeeze=False)
        for ax, name in zip(axes.flat, names, strict=False):
            for model in models:
                _lines(ax, table[(table.panel == name) & (table.model == model)], model)
            ax.set_title(read_label(name), fontsize=10)  # the longest just fits its panel
            ax.grid(axis="y")
            if steps:
                ax.set_xscale("symlog", linthresh=LINEAR)
                ax.set_xlim(left=0)
            if limits:
                ax.set_ylim(*limits)
        for ax in axes.flat[len(names) :]:
            ax.set_visible(False)
        fig.supxlabel(x, fontsize=10.5)
        fig.supylabel(y, fontsize=10.5)
        seeds = table.seed.nunique()
        lines = f"{subtitle}; a line a training ({seeds} training{'s' if seeds != 1 else ''})"
        return header(fig, title, lines, role_handles(models), columns=2)


def _lines(ax: Axes, rows: pd.DataFrame, model: str) -> None:
    color, marker = ROLE_COLORS.get(model, INK), MARKERS.get(model, "o")
    for _, one in rows.groupby("seed"):
        ax.plot(one["at"], one.value, color=color, marker=marker, ms=3, lw=1.1, alpha=0.7)
