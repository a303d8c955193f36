"""The dial: models that differ in one part of their post-training, a dot for every training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.theme import count_text, theme
from mechshift_lib.plots.trainings import dots, headed
from mechshift_lib.plots.trajectory import read_label

ROLES = ("continued", "mdm-causal", "mdm", "mdm-answers")


@drawn_from_tables
def plot_dial(table: pd.DataFrame) -> Figure:
    """Cosine with the ARM's circuit, a row a read.

    Args:
        table: ``seed, model, step, read, cosine, n``, after one step, without the ARM.
    """
    with theme():
        parts = {
            read_label(str(name)).replace(", ", ",\n"): part
            for name, part in table.groupby("read", sort=False)
        }
        fig, ax = dots(parts, "cosine", "model", ROLES)
        ax.set_xlabel("cosine with the ARM")
        return headed(
            fig,
            table,
            "model",
            ROLES,
            "How much of the ARM's circuit is left, by what the training changed",
            f"after {int(table.step.max())} steps; cosine of the scores of all edges by EAP-IG, "
            "divided by what halves of the examples allow; "
            f"n = {count_text(table.n)} groups of examples",
            columns=2,
        )
