"""Words of the page on error rates."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.comparison.proportions import clopper_pearson

#: Largest share of false verdicts that the book promises, and the power that it asks for.
PROMISED, ASKED = 0.05, 0.9
RATES = (
    "Where the claim is false, {false} of {n_false} simulated studies call it reproduced in the "
    "worst of {worlds} worlds ({worst}) by the rule of this book, and {jaccard} of {n_jaccard} if "
    "the overlap of the strongest edges took the cosine's place.{power}"
)
FOUND = (
    " With a shift as published, {used} of {n_used} and {paper} of {n_paper} do in the less "
    "favourable case."
)
NOT_PLANTED = (
    " A shift {names} can't be planted here: moves of these edges' own sizes don't take that much "
    "of the overlap."
)
NO_POWER = fmt.Finding("No shift of a published size can be planted, so there is no power to tell.")
POWER = (
    "With a shift as published, {few} trainings find it in {low} of {n} studies, {many} in {high}, "
    "in the less favourable case."
)


def rates(table: pd.DataFrame, effects: Collection[str] = ()) -> fmt.Finding:
    """False verdicts and power, of both similarities.

    Args:
        table: ``rates`` of :func:`errors.rates`.
        effects: names of the shifts that were to be planted.
    """
    used, paper = (table[table.measure == kind] for kind in ("noiseless", "jaccard"))
    null, null_paper = used[~used.true], paper[~paper.true]
    worst = null.loc[null.reproduced.idxmax()]
    said = RATES.format(
        false=int(worst.reproduced),
        n_false=f"{int(worst.studies):,}",
        worlds=len(null),
        worst=worst.world,
        jaccard=int(null_paper.reproduced.max()),
        n_jaccard=int(null_paper.studies.max()),
        power="".join(
            FOUND.format(
                used=int(a.reproduced.min()),
                n_used=int(a.studies.min()),
                paper=int(b.reproduced.min()),
                n_paper=int(b.studies.min()),
            )
            for a, b in [(used[used.true], paper[paper.true])]
            if len(a)
        ),
    )
    left_out = [name for name in effects if name not in set(table.world)]
    said += NOT_PLANTED.format(names=fmt.listed(left_out)) if left_out else ""
    return fmt.Finding(said, _shown(table, ["measure", "world"]))


def power(table: pd.DataFrame) -> fmt.Finding:
    """Power by number of trainings."""
    if table.empty:
        return NO_POWER
    least = table.groupby("seeds").reproduced.min()
    said = POWER.format(
        few=int(least.index.min()),
        low=int(least.iloc[0]),
        n=int(table.studies.iloc[0]),
        many=int(least.index.max()),
        high=int(least.iloc[-1]),
    )
    return fmt.Finding(said, _shown(table, ["world", "seeds"]))


def _shown(table: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    def share(row: pd.Series) -> str:
        low, high = clopper_pearson(int(row.reproduced), int(row.studies))
        value = row.reproduced / row.studies
        return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"

    rows = table.assign(claim=["true" if x else "false" for x in table.true])
    columns = {
        "reproduced (%)": share,
        "not reproduced or reversed (%)": lambda r: fmt.number(
            (r["not reproduced"] + r.reversed) / r.studies, ".0f", 100
        ),
        "undecided (%)": lambda r: fmt.number(r.undecided / r.studies, ".0f", 100),
        "IOI minus Countdown": fmt.value("effect", "+.3f"),
        "studies": lambda r: f"{int(r.studies):,}",
        "drift of the MDM (IOI, Countdown)": lambda r: f"{r.local:.2f}, {r.planned:.2f}",
    }
    found = fmt.lines(rows, [*index, "claim"], columns)
    return found.rename(columns={"seeds": "trainings", "claim": "there, it is", "measure": "of"})
