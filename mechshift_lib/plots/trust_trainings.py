"""EAP-IG beside exact patching, a dot for every training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import CARD, GRID, INK, ROLE_COLORS
from mechshift_lib.plots.theme import (
    MARKERS,
    figure,
    handle,
    header,
    label,
    present,
    theme,
)

MODELS = ("arm", "mdm", "continued")
#: What is said of two models: of the MDM and the control with the ARM, and their difference.
COMPARED = ("mdm", "continued", "beyond")
NAMES = {"beyond": "MDM minus control"}
TASKS = {"ioi-countdown": "IOI − Countdown"}


@drawn_from_tables
def plot_trainings(
    agreement: pd.DataFrame, readings: pd.DataFrame, over: pd.DataFrame, used: str
) -> Figure:
    """Left: how well circuits agree with exact ones. Right: the error of how alike models are.

    Args:
        agreement: ``task, seed, circuit, jaccard``: of EAP-IG's and the exact circuit.
        readings: ``task, circuit, seed, error`` of one reading: EAP-IG's minus the exact one.
        over: ``task, circuit, error, low, high`` of the same, over trainings.
        used: what people read for the estimate.
    """
    with theme():
        tasks = present(readings.task, list(dict.fromkeys(agreement.task)))
        fig = figure(0.75 + 0.62 * len(tasks))
        left, right = fig.subplots(1, 2, sharey=True, width_ratios=[0.75, 1])
        models = present(agreement.circuit, MODELS)
        compared = present(readings.circuit, COMPARED)
        _dots(left, agreement, "jaccard", tasks, models)
        _dots(right, readings, "error", tasks, compared)
        for row in over.itertuples():
            height = _height(tasks.index(row.task), compared.index(row.circuit), len(compared))
            color = ROLE_COLORS.get(row.circuit, INK)
            right.hlines(height, row.low, row.high, color, linewidth=1.4, alpha=0.7)
        right.axvline(0, color=INK, linewidth=0.9, linestyle="--", zorder=0)
        left.set_xlim(0, 1)
        left.set_yticks(range(len(tasks)), [TASKS.get(task, label(task)) for task in tasks])
        left.set_ylim(len(tasks) - 0.5, -0.5)
        left.set_xlabel("Jaccard with exact circuit", fontsize=10)
        right.set_xlabel(f"cosine, {used} − exact", fontsize=10)
        for ax in (left, right):
            ax.grid(axis="x")
            ax.tick_params(axis="y", length=0)
            for y in range(1, len(tasks)):
                ax.axhline(y - 0.5, color=GRID, linewidth=0.8, zorder=0)
        seeds = agreement.seed.nunique()
        names = present([*models, *compared], (*MODELS, "beyond"))
        return header(
            fig,
            f"{used} beside exact patching in every training",
            f"small: {seeds} training{'s' if seeds != 1 else ''}, large: their mean; right: "
            "likeness to the ARM, above 0: too alike; lines: 95 % intervals over trainings",
            [handle(NAMES.get(n, label(n)), ROLE_COLORS.get(n, INK), _marker(n)) for n in names],
        )


def _dots(
    ax: Axes, table: pd.DataFrame, column: str, tasks: Sequence[str], names: Sequence[str]
) -> None:
    """Small dots of every training and a large one of their mean, in rows of tasks."""
    values: Mapping[tuple[str, str], pd.Series] = dict(
        iter(table.groupby(["task", "circuit"])[column])  # type: ignore[arg-type]
    )
    for (task, name), here in values.items():
        height = _height(tasks.index(task), list(names).index(name), len(names))
        color, marker = ROLE_COLORS.get(name, INK), _marker(name)
        ax.plot(here, [height] * len(here), marker, color=color, ms=3.5, alpha=0.45)
        ax.plot([here.mean()], [height], marker, color=color, ms=7, mec=CARD)


def _height(row: int, place: int, of: int) -> float:
    return row + 0.6 * ((place + 0.5) / of - 0.5)


def _marker(name: str) -> str:
    return MARKERS.get(name, "D")
