"""What would change each verdict: how much more of what would set an effect apart from 0.

Nothing is decided here; verdicts and the simulated power are taken as they stand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechshift_lib.analyses import errors
from mechshift_lib.analyses.study import Study
from mechshift_lib.book.models import shape
from mechshift_lib.comparison.verdicts import Verdict

#: How far numbers of trainings or examples are carried on from what was seen.
FARTHEST = 1_000
#: Power that a study should have.
WANTED = 0.9


@dataclass(frozen=True)
class Power:
    """What the simulations say of C1 on a pair.

    Attributes:
        needed: the fewest trainings of those simulated that find a shift of a published size often
            enough in every world; None where not even the most do.
        most: the most that were simulated.
        share: share of studies that these find it in, in the least favourable world.
    """

    needed: int | None
    most: int
    share: float


def power(study: Study) -> Power | None:
    """How many trainings would find a shift as published; None where nothing could be simulated."""
    if "errors" not in study.pair.analyses or errors.obstacle(study):
        return None
    return power_of(errors.rates(study)["power"])


def power_of(table: pd.DataFrame) -> Power | None:
    """:func:`power` from the table of simulated studies; None where no shift could be planted.

    Args:
        table: ``seeds, reproduced, studies``, a row a world and number of trainings.
    """
    if table.empty:
        return None
    share = (table.reproduced / table.studies).groupby(table.seeds).min()
    enough = share.index[share >= WANTED]
    most = int(share.index.max())
    return Power(int(enough.min()) if len(enough) else None, most, float(share[most]))


def more(verdict: Verdict) -> float:
    """How many times as many of what ``n`` counts would set the deciding effect apart from 0.

    If effect and spread stayed what they are and the interval shrank with √n: the square of its
    nearer half-width over the effect. A positive effect is shown by its own interval, a negative
    one by that which holds for all contrasts at once, as in the rule.

    Returns:
        1 or less where the interval doesn't reach 0; NaN where there is no interval or no effect.
    """
    if math.isnan(verdict.low) or math.isnan(verdict.high) or verdict.effect == 0:
        return math.nan
    above = verdict.effect > 0
    half = verdict.effect - verdict.low if above else verdict.wide_high - verdict.effect
    return (half / abs(verdict.effect)) ** 2


def needed(verdict: Verdict) -> int | None:
    """How many of what ``n`` counts an undecided verdict would need; None for any other, and where
    that is no matter of number: a yardstick is missing, there is no interval, or the effect is so
    near to 0 that more than :data:`FARTHEST` would be needed, which says only that it is near 0.
    """
    times = more(verdict)
    if verdict.outcome != "undecided" or verdict.missing or math.isnan(times):
        return None
    found = math.ceil(verdict.n * max(times, 1.0))
    return found if found <= FARTHEST else None


def sizes(studies: Sequence[Study]) -> Mapping[str, int]:
    """Title of each pair -> number of parameters of its ARM, where its weights are there."""
    found = {study.pair.title: shape(study.pair, study.root) for study in studies}
    return {title: has["parameters"] for title, has in found.items() if "parameters" in has}
