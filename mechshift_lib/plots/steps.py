"""What stays of a circuit from step to step, a dot for every training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import INK, MUTED
from mechshift_lib.plots.theme import count_text, label, theme
from mechshift_lib.plots.trainings import dots, headed

MODELS = ("mdm", "arm")
#: What is revealed when a position is read.
STATES = {"nothing": "nothing revealed", "left": "its left revealed", "others": "all revealed"}


@drawn_from_tables
def plot_steps(table: pd.DataFrame, stable: float) -> Figure:
    """How much of a circuit stays: an MDM's at one position, the ARM's from one to the next.

    Args:
        table: ``task, seed, model, kept, n``, one row a training.
        stable: the share that must stay.
    """
    with theme():
        parts = {label(task): table[table.task == task] for task in dict.fromkeys(table.task)}
        fig, ax = dots(parts, "kept", "model", MODELS)
        ax.axvline(stable, color=MUTED, lw=1, ls="--")
        ax.axvline(1, color=INK, lw=0.8)
        ax.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
        ax.set_xlabel("kept, % of what two halves of the examples share")
        told = (
            "MDM: the same answer position as more is revealed; ARM: one position and the next; "
            f"n = {count_text(table.n)} examples a training; dashed: the paper's share"
        )
        return headed(fig, table, "model", MODELS, "Does the circuit stay the same?", told)
