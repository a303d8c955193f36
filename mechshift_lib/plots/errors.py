"""How often the rule for a claim errs."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from mechshift_lib.comparison.proportions import clopper_pearson
from mechshift_lib.plots.drawn_from import drawn_from_tables
from mechshift_lib.plots.palette import (
    INK,
    MUTED,
)
from mechshift_lib.plots.theme import (
    figure,
    handle,
    header,
    label,
    present,
    theme,
)

COLORS = {"noiseless": INK, "jaccard": MUTED}
MARKS = {"noiseless": "o", "jaccard": "s"}


def listed_counts(table: pd.DataFrame) -> str:
    """How many studies each similarity is judged by, the most first."""
    counts = sorted({int(n) for n in table.studies}, reverse=True)
    return " or ".join(f"{n:,}" for n in counts)


@drawn_from_tables
def plot_rates(table: pd.DataFrame, promised: float) -> Figure:
    """Share of simulated studies that end in "reproduced", a row for each world.

    Args:
        table: ``measure, world, true, reproduced, studies``.
        promised: the largest share that is promised where the claim is false.
    """
    with theme():
        worlds = present(table.world, ())
        kinds = present(table.measure, ("noiseless", "jaccard"))
        fig = figure(0.7 + 0.42 * len(worlds))
        ax = fig.subplots()
        for i, kind in enumerate(kinds):
            rows = table[table.measure == kind].set_index("world").loc[worlds]
            shares = rows.reproduced / rows.studies
            ends = [clopper_pearson(int(r.reproduced), int(r.studies)) for r in rows.itertuples()]
            y = [k + 0.3 * (i - (len(kinds) - 1) / 2) for k in range(len(worlds))]
            color = COLORS.get(kind, MUTED)
            ax.hlines(y, *zip(*ends, strict=True), color=color, linewidth=1.6)
            ax.plot(shares, y, MARKS.get(kind, "o"), color=color, markersize=6)
        ax.axvline(promised, color=MUTED, linewidth=1, linestyle=":")
        false = int((~table.drop_duplicates("world").true).sum())
        ax.axhline(false - 0.5, color=MUTED, linewidth=0.8)
        ax.set_yticks(range(len(worlds)), worlds)
        ax.set_ylim(len(worlds) - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel('share of studies that end in "reproduced"')
        ax.grid(axis="x")
        return header(
            fig,
            "False verdicts where the claim is false, true ones where it is true",
            "Above the line the claim is false, below it is true; "
            f"{listed_counts(table)} simulated studies of {int(table.seeds.iloc[0])} trainings a "
            "row, exact 95 % intervals; dotted: the 5 % that a rule should keep to",
            [handle(label(kind), COLORS.get(kind, MUTED), MARKS.get(kind, "o")) for kind in kinds],
        )
