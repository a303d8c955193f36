"""Words of the page on error rates."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.comparison.proportions import clopper_pearson

#: Largest share of false verdicts that the book promises, and the power that it asks for.
PROMISED, ASKED = 0.05, 0.9
RATES = (
    "Where the claim is false, {false} of {n_false} simulated studies call it reproduced in the "
    "worst of {worlds} worlds ({worst}) when the cosine of all scores is compared with noise "
    "divided out, and {jaccard} when the overlap is; with a shift as published, {power} and "
    "{jaccard_power} do in the less favourable case."
)
POWER = (
    "With a shift as published, {few} trainings find it in {low} of {n} studies, {many} in {high}, "
    "in the less favourable case."
)


def rates(table: pd.DataFrame) -> fmt.Finding:
    """False verdicts and power, of both similarities."""
    used, paper = (table[table.measure == kind] for kind in ("cosine", "jaccard"))
    null, null_paper = used[~used.true], paper[~paper.true]
    worst = null.loc[null.reproduced.idxmax()]
    said = RATES.format(
        false=int(worst.reproduced),
        n_false=int(worst.studies),
        worlds=len(null),
        worst=worst.world,
        jaccard=int(null_paper.reproduced.max()),
        power=int(used[used.true].reproduced.min()),
        jaccard_power=int(paper[paper.true].reproduced.min()),
    )
    return fmt.Finding(said, _shown(table, ["measure", "world"]))


def power(table: pd.DataFrame) -> fmt.Finding:
    """Power by number of trainings."""
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
        return f"{100 * value:.0f} [{100 * low:.0f}, {100 * high:.0f}]"

    rows = table.assign(claim=["true" if x else "false" for x in table.true])
    columns = {
        "reproduced (%)": share,
        "not reproduced or reversed (%)": lambda r: fmt.number(
            (r["not reproduced"] + r.reversed) / r.studies, ".0f", 100
        ),
        "undecided (%)": lambda r: fmt.number(r.undecided / r.studies, ".0f", 100),
        "IOI minus Countdown": fmt.value("effect", "+.3f"),
        "drift of the MDM (IOI, Countdown)": lambda r: f"{r.local:.2f}, {r.planned:.2f}",
    }
    found = fmt.lines(rows, [*index, "claim"], columns)
    return found.rename(columns={"seeds": "trainings", "claim": "there, it is", "measure": "of"})
