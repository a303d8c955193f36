"""What places carry, what is lost when nobody looks there, and what can be read at them."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    INK,
    MUTED,
    PLACE_COLORS,
    READ,
    USED,
)
from mechshift_lib.plots.theme import (
    count_text,
    figure,
    handle,
    header,
    label,
    layer_ticks,
    present,
    theme,
)
from mechshift_lib.plots.trainings import dots, headed

MODELS = ("arm", "continued", "matched", "mdm")
#: Places from what is given to where the answer is read, and their names.
NAMES = {
    "prompt": "prompt",
    "revealed": "answer, revealed",
    "own": "mask being filled",
    "waiting": "masks that wait",
    "read": "where it is read",
}
#: Colour and marker of each.
LOOKS = {
    place: (PLACE_COLORS[place], marker)
    for place, marker in zip(NAMES, ("o", "^", "D", "s", "v"), strict=True)
}
#: What nobody may look at, in words.
CUTS = {"waiting": "masks that wait", "revealed": "answer, revealed"}
#: What is drawn of later tokens: column, name, colour, marker.
SERIES = (
    ("accuracy", "can be read (accuracy)", READ, "o"),
    ("used", "is lost when patched (share)", USED, "s"),
)


def _trainings(n: int) -> str:
    return f"{n} training{'s' if n != 1 else ''}"


def _each_and_mean(ax: Axes, rows: pd.DataFrame, column: str, color: str, marker: str) -> None:
    """Thin lines of the trainings over the layers, a thick one of their mean."""
    by_seed = rows.groupby(["seed", "layer"])[column].mean().unstack("seed")
    for values in by_seed.to_numpy(dtype=float).T:
        ax.plot(by_seed.index, values, color=color, lw=0.8, alpha=0.4)
    mean = by_seed.mean(axis=1)
    ax.plot(mean.index, mean, color=color, marker=marker, ms=4.5, lw=1.6)


@drawn_from_tables
def plot_layers(table: pd.DataFrame) -> Figure:
    """What each place carries over the layers, tasks by ARM and MDM.

    Args:
        table: ``task, seed, model, place, layer, share, n``.
    """
    with theme():
        table = table[table.model.isin(["arm", "mdm"])]
        tasks, models = present(table.task, ()), present(table.model, ("arm", "mdm"))
        fig = figure(0.45 + 1.5 * len(tasks))
        axes = fig.subplots(len(tasks), len(models), sharex=True, sharey=True, squeeze=False)
        for row, task in zip(axes, tasks, strict=True):
            for ax, model in zip(row, models, strict=True):
                here = table[(table.task == task) & (table.model == model)]
                for place in present(here.place, list(NAMES)):
                    _each_and_mean(ax, here[here.place == place], "share", *LOOKS[place])
                ax.axhline(0, color=MUTED, lw=0.9, ls="--", zorder=0)
                ax.set_title(f"{label(task)}, {label(model)}", fontsize=10)
                ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
                ax.set_xticks(layer_ticks(table.layer))
                ax.grid(axis="y")
        fig.supxlabel("layer whose input is patched (the last: the final norm)", fontsize=10.5)
        fig.supylabel("share of the gap lost", fontsize=10.5)
        there = present(table.place, list(NAMES))
        return header(
            fig,
            "What each place carries, layer by layer",
            "the corrupted run's residual stream put at all positions of a place at once; n = "
            f"{count_text(table.n)} examples; thin: {_trainings(table.seed.nunique())}, thick: "
            "their mean",
            [handle(NAMES[p], *LOOKS[p], linestyle="-", markersize=4.5) for p in there],
        )


@drawn_from_tables
def plot_cuts(table: pd.DataFrame) -> Figure:
    """Accuracy lost beyond as many tokens of the prompt, a row for each task and cut.

    Args:
        table: ``task, seed, model, kind, lost, n``.
    """
    with theme():
        rows = table[["task", "kind"]].drop_duplicates().to_records(index=False).tolist()
        parts = {
            f"{label(task)},\n{CUTS[kind]}": table[(table.task == task) & (table.kind == kind)]
            for task, kind in rows
        }
        fig, ax = dots(parts, "lost", "model", MODELS)
        ax.axvline(0, color=INK, lw=0.8)
        ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        ax.set_xlabel("answers lost beyond as many prompt tokens (points)")
        return headed(
            fig,
            table,
            "model",
            MODELS,
            "What is lost when nobody looks there",
            "attention of all other tokens to these positions is cut in every layer, minus the "
            f"same for as many tokens of the prompt; n = {count_text(table.n)} examples",
        )


@drawn_from_tables
def plot_cells(table: pd.DataFrame) -> Figure:
    """Later tokens: how well they can be read at a place, and what that place carries, by layer.

    Args:
        table: ``task, seed, model, layer, accuracy, input, used, n``; means over steps and tokens
            are drawn.
    """
    with theme():
        tasks = present(table.task, ())
        models = present(table.model, ("arm", "continued", "mdm"))
        fig = figure(0.45 + 2.4 * len(tasks))
        # What is used is a small part of the whole, so it has a scale of its own.
        axes = fig.subplots(
            2 * len(tasks), len(models), sharex=True, sharey="row", squeeze=False
        ).reshape(len(tasks), 2, len(models))
        for rows, task in zip(axes, tasks, strict=True):
            for (column, name, color, marker), row in zip(SERIES, rows, strict=True):
                row[0].set_ylabel(name.partition("(")[2].rstrip(")"))
                for ax, model in zip(row, models, strict=True):
                    here = table[(table.task == task) & (table.model == model)]
                    ax.grid(axis="y")
                    ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
                    if column == "accuracy":
                        ax.set_title(f"{label(task)},\n{label(model)}", fontsize=10)
                        ax.set_ylim(0, 1.05)
                        ax.axhline(float(here.input.mean()), color=INK, lw=1, ls="--", zorder=0)
                    else:
                        ax.axhline(0, color=MUTED, lw=0.9, zorder=0)
                    if len(here):
                        _each_and_mean(ax, here, column, color, marker)
                        ax.set_xticks(layer_ticks(here.layer))
        fig.supxlabel("layer whose input is probed and patched", fontsize=10.5)
        handles = [
            handle(name, color, marker, linestyle="-", markersize=4.5)
            for _, name, color, marker in SERIES
        ]
        handles.append(handle("the input alone (accuracy)", INK, "", linestyle="--"))
        return header(
            fig,
            "Later tokens: read there, used there?",
            "MDM: at the later token's mask, patched for the token written now; ARM: where an "
            "earlier token is read, patched for the later one; means over steps and tokens; n = "
            f"{count_text(table.n)} patched examples; thin: {_trainings(table.seed.nunique())}, "
            "thick: their mean",
            handles,
        )
