"""Which cue wins, in words."""

from __future__ import annotations

import math

import pandas as pd

from mechshift_lib.plots.cues import PLACES
from mechshift_lib.plots.theme import count_text, label

#: The conflict that the finding is about: elimination determines the last number, and the target
#: asks for another number of the list.
DECISIVE = ("other target", 4)


def finding(by_seed: pd.DataFrame, over_seeds: pd.DataFrame) -> str:
    """What happens at the last number when the target is another equation's."""
    kind, at = DECISIVE
    rows = by_seed[(by_seed.kind == kind) & (by_seed["at"] == at)]
    if rows.empty:
        return "No example of this pair gives a conflict at the last number."
    parts = []
    for model, part in rows.groupby("model", sort=False):
        left, wanted = 100 * part.listed.mean(), 100 * part.targeted.mean()
        parts.append(f"{label(str(model))} {left:.0f} % (the target's {wanted:.0f} %)")
    seeds = rows.seed.nunique()
    text = (
        "**At the last number, with a target that asks for another one than is left, the number "
        f"that is left has a probability of: {'; '.join(parts)}.** Means over {seeds} "
        f"training{'s' if seeds != 1 else ''}, n = {count_text(rows.n)} prompts each; the "
        "differences below are over trainings."
    )
    told = over_seeds[(over_seeds.kind == kind) & (over_seeds["at"] == at)]
    for row in told.itertuples():
        text += f" {label(str(row.model))} minus {label(str(row.base))}: {_points(row)}."
    return text


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Differences between models as the page shows them."""
    return pd.DataFrame(
        {
            "conflict": [f"{row.kind}, {PLACES.get(row.at, row.at)}" for row in table.itertuples()],
            "compared": [f"{label(r.model)} − {label(r.base)}" for r in table.itertuples()],
            "points of probability [95 % over trainings]": [
                _points(row) for row in table.itertuples()
            ],
            "trainings": table.n,
        }
    )


def _points(row: object) -> str:
    effect, low, high = (100 * getattr(row, name) for name in ("difference", "low", "high"))
    if math.isnan(low):
        return f"{effect:+.0f} (one training, so no interval)"
    return f"{effect:+.0f} [{low:+.0f}, {high:+.0f}]"
