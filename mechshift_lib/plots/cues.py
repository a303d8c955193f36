"""Which cue wins, a dot for every training."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.plots.theme import (
    INK,
    MARKERS,
    ROLE_COLORS,
    count_text,
    figure,
    header,
    present,
    role_handles,
    theme,
)

ROLES = ("arm", "continued", "mdm")
#: Answer tokens at which numbers stand, in words.
PLACES = {0: "first number", 2: "second number", 4: "last number", 6: "fourth number"}


def plot_cues(table: pd.DataFrame) -> Figure:
    """Probability of what elimination names, a row for each kind of conflict and place.

    Args:
        table: ``seed, model, kind, at, listed, n``.
    """
    with theme():
        rows = table[["kind", "at"]].drop_duplicates().to_records(index=False).tolist()
        roles = present(table.model, ROLES)
        fig = figure(0.75 + 0.62 * len(rows))
        ax = fig.subplots()
        for y, (kind, at) in enumerate(rows):
            here = table[(table.kind == kind) & (table["at"] == at)]
            for i, role in enumerate(roles):
                values = here[here.model == role].listed
                if values.empty:  # a model that can't be asked so
                    continue
                height = y + 0.22 * (i - (len(roles) - 1) / 2)
                style: dict[str, Any] = {
                    "color": ROLE_COLORS.get(role, INK),
                    "marker": MARKERS.get(role, "o"),
                }
                ax.plot(values, [height] * len(values), linestyle="none", ms=4, alpha=0.45, **style)
                ax.plot([values.mean()], [height], linestyle="none", ms=8, mec="white", **style)
        ax.set_yticks(range(len(rows)), [f"{kind},\n{PLACES.get(at, at)}" for kind, at in rows])
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-0.03, 1.03)
        ax.set_xlabel("probability of the token that elimination names")
        ax.grid(axis="x")
        seeds = table.seed.nunique()
        return header(
            fig,
            "How sure each model is of what is left of the given numbers",
            f"Countdown, n = {count_text(table.n)} questions a row and training; small: "
            f"{seeds} training{'s' if seeds != 1 else ''}, large: their mean",
            role_handles(roles),
            columns=3,
        )
