"""When a claim counts as reproduced: the rule, written down before any result was looked at.

A claim on a pair is one or several **contrasts**: numbers that are positive where the claim is
right, each with a 95 % interval, each against one yardstick (another task, the ARM, the control,
random sets). The claim says that all of them are positive, so it is

- *reproduced* if every interval lies above 0 and none rules out the margin;
- *not reproduced* if some interval, widened for the number of contrasts, lies below the margin: an
  effect that size is ruled out on at least one yardstick;
- *undecided* otherwise, and where a contrast has no interval.

The margin is the smallest effect that would matter. Where the paper gives sizes, it is
:data:`SHARE` of the smaller of its two families' (:data:`MARGINS`); else it is 0, and only an
effect of the other sign counts as not reproduced.

Error rates, if intervals cover as they say: a claim with one effect at 0 or below is called
reproduced in at most 2.5 % of samples (an intersection-union test needs no correction); a claim all
of whose effects are at the margin or above is called not reproduced in at most 2.5 % (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from scipy.stats import norm

from mechshift_lib.errors import CircuitError

Claim = Literal["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
CLAIMS: tuple[Claim, ...] = get_args(Claim)
Outcome = Literal["reproduced", "not reproduced", "undecided"]

#: One-sided error rate of either mistake.
ERROR = 0.025
#: Part of the smaller published effect that is the smallest effect to matter.
SHARE = 0.25
#: Margins in units of each claim's effect. C1: Jaccard index; the published overlap of IOI exceeds
#: Countdown's by 0.185 (Qwen series) and 0.056 (LLaMA series). C2 and C7: layers / number of
#: layers; the sources of the published top 30 edges of Countdown move by 0.340 and 0.205.
MARGINS: dict[Claim, float] = {
    "C1": 0.014,
    "C2": 0.051,
    "C3": 0.0,
    "C4": 0.0,
    "C5": 0.0,
    "C6": 0.0,
    "C7": 0.051,
}


@dataclass(frozen=True)
class Contrast:
    """One number that is positive where a claim is right.

    Attributes:
        against: what it is held against, in words that end "… against …".
        effect: the estimate, in the claim's units.
        low: lower end of its 95 % interval; NaN where there is none.
        high: upper end.
        n: examples that it is over (the smaller number where it compares tasks).
    """

    against: str
    effect: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """One line of the table of verdicts: a claim on a pair, or on one task of it.

    Attributes:
        claim: ``C1`` … ``C7``.
        pair: name of the pair.
        task: name of the task, None for the pair as a whole.
        verdict: what :func:`decide` says.
        measure: what the effect is, with its unit.
        effect: effect of the contrast that decides: the least favourable one; NaN without any.
        low: lower end of its 95 % interval.
        high: upper end.
        yardstick: what it is held against, or why there is nothing to hold.
        contrasts: number of contrasts that had to hold.
        n: examples.
        page: the chapter that shows it.
    """

    claim: Claim
    pair: str
    task: str | None
    verdict: Outcome
    measure: str
    effect: float
    low: float
    high: float
    yardstick: str
    contrasts: int
    n: int
    page: str


def decide(contrasts: Sequence[Contrast], margin: float = 0.0) -> Outcome:
    """The rule of this module.

    Raises:
        CircuitError: there is no contrast, or the margin is negative.
    """
    if not contrasts:
        raise CircuitError("A verdict needs at least one contrast: say `untold` where none is.")
    if margin < 0:
        raise CircuitError(f"A margin is the smallest effect that matters, so {margin} can't be.")
    if any(math.isnan(c.low) or math.isnan(c.high) for c in contrasts):
        return "undecided"
    if any(_upper(c, len(contrasts)) < margin for c in contrasts):
        return "not reproduced"
    reaches = all(c.high >= margin for c in contrasts)
    return "reproduced" if reaches and all(c.low > 0 for c in contrasts) else "undecided"


def _upper(contrast: Contrast, k: int) -> float:
    """Upper end of the interval, widened so that all ``k`` hold at once (Bonferroni)."""
    wider = norm.ppf(1 - ERROR / k) / norm.ppf(1 - ERROR)
    return float(contrast.effect + (contrast.high - contrast.effect) * wider)


def judge(
    claim: Claim,
    pair: str,
    contrasts: Sequence[Contrast],
    *,
    measure: str,
    page: str,
    task: str | None = None,
    margin: float | None = None,
) -> Verdict:
    """Decide a claim and say by which contrast.

    Args:
        claim: the claim.
        pair: name of the pair.
        contrasts: what must be positive for the claim to hold.
        measure: what the effects are, with their unit.
        page: the chapter that shows them.
        task: the task that it is about; None for the pair as a whole.
        margin: smallest effect that matters; by default that of :data:`MARGINS`.

    Raises:
        CircuitError: as :func:`decide`.
    """
    outcome = decide(contrasts, MARGINS[claim] if margin is None else margin)
    missing = [c for c in contrasts if math.isnan(c.low) or math.isnan(c.high)]
    if missing:
        worst = missing[0]
    elif outcome == "not reproduced":
        worst = min(contrasts, key=lambda c: _upper(c, len(contrasts)))
    else:
        worst = min(contrasts, key=lambda c: c.low)
    return Verdict(
        claim=claim,
        pair=pair,
        task=task,
        verdict=outcome,
        measure=measure,
        effect=worst.effect,
        low=worst.low,
        high=worst.high,
        yardstick=worst.against,
        contrasts=len(contrasts),
        n=worst.n,
        page=page,
    )


def untold(claim: Claim, pair: str, why: str, page: str, task: str | None = None) -> Verdict:
    """An undecided verdict for want of data: ``why`` says which."""
    nan = float("nan")
    return Verdict(claim, pair, task, "undecided", "–", nan, nan, nan, why, 0, 0, page)


def difference(a: Contrast, b: Contrast, against: str) -> Contrast:
    """``a`` minus ``b`` where the two are of independent examples.

    The interval is Zou and Donner's (2008, MOVER): the distances of the ends from their estimates
    are added as squares, which keeps a skewed interval skewed.
    """
    below = math.hypot(a.effect - a.low, b.high - b.effect)
    above = math.hypot(a.high - a.effect, b.effect - b.low)
    effect = a.effect - b.effect
    return Contrast(against, effect, effect - below, effect + above, min(a.n, b.n))


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per verdict with the attributes of :class:`Verdict` as columns, by claim.

    Within a claim the order of the list is kept.
    """
    columns = list(Verdict.__dataclass_fields__)
    frame = pd.DataFrame([asdict(verdict) for verdict in verdicts], columns=columns)
    order = np.argsort([CLAIMS.index(claim) for claim in frame.claim], kind="stable")
    return frame.iloc[order].reset_index(drop=True)
