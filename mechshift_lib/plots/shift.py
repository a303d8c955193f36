"""Likeness and depth of circuits in every training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import INK
from mechshift_lib.plots.theme import count_text, label, percent_axis, theme
from mechshift_lib.plots.trainings import dots, headed

CIRCUITS = ("continued", "matched", "mdm")


@drawn_from_tables
def plot_likeness(table: pd.DataFrame) -> Figure:
    """How alike each training's circuits are to its ARM's, a row for each task and position.

    Args:
        table: ``seed, circuit, what`` (heading of the row), ``cosine, n``.
    """
    with theme():
        parts = {what: table[table.what == what] for what in dict.fromkeys(table.what)}
        fig, ax = dots(parts, "cosine", "circuit", CIRCUITS)
        ax.axvline(1, color=INK, lw=0.8)
        ax.set_xlabel("cosine with the ARM's circuit (1: the same)")
        return _headed(fig, table, "How much of the ARM's circuit is kept", "noise taken off")


@drawn_from_tables
def plot_earlier(table: pd.DataFrame) -> Figure:
    """How much earlier than the ARM's each training's circuits lie, a row for each task.

    Args:
        table: ``seed, circuit, task, earlier`` (layers / number of layers), ``n``.
    """
    with theme():
        parts = {label(task): table[table.task == task] for task in dict.fromkeys(table.task)}
        fig, ax = dots(parts, "earlier", "circuit", CIRCUITS)
        ax.axvline(0, color=INK, lw=0.8)
        ax.xaxis.set_major_formatter(percent_axis())
        ax.set_xlabel("earlier than the ARM's, of the model's depth")
        return _headed(fig, table, "Do sources move to earlier layers?", "negative: later")


def _headed(fig: Figure, table: pd.DataFrame, title: str, what: str) -> Figure:
    told = f"{what}; n = {count_text(table.n)} examples a training"
    return headed(fig, table, "circuit", CIRCUITS, title, told)
