"""Mask-prediction loss against how much is masked."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import VERMILLION
from mechshift_lib.plots.theme import figure, header, present, theme


@drawn_from_tables
def plot_losses(table: pd.DataFrame) -> Figure:
    """A panel a kind of text, a line a training.

    Args:
        table: ``seed, text, low, high, loss``.
    """
    with theme():
        texts = present(table.text, ())
        fig = figure(2.6)
        axes = np.atleast_1d(fig.subplots(1, len(texts), sharey=True))
        for ax, text in zip(axes, texts, strict=True):
            rows = table[table.text == text]
            for _, one in rows.groupby("seed"):
                middle = (one.low + one.high) / 2
                ax.plot(middle, one.loss, color=VERMILLION, marker="s", markersize=4, alpha=0.8)
            ax.set_xlim(0, 1)
            ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            ax.grid(axis="y")
            ax.set_title(text)
            ax.set_xlabel("share masked")
        axes[0].set_ylim(0, 1.06 * table.loss.max())  # all panels': they share it
        axes[0].set_ylabel("cross-entropy (nats)")
        return header(
            fig,
            "What a mask costs, by how much is masked",
            "held-out texts at the end of training; a line a training",
            [],
        )
