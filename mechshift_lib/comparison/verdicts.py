"""When a claim counts as reproduced: the one rule, and the only place where a claim is decided.

A claim on a pair is one or several **contrasts**: numbers that are positive where the claim is
right, each with an interval, each against one yardstick (another task, the ARM, the control,
random sets). The claim says that all of them are positive. With ``k`` contrasts it is

- *reproduced* if every interval lies above 0 and none rules out the margin;
- *not reproduced* if some interval, widened for ``k``, lies below the margin: an effect that size
  is ruled out on at least one yardstick;
- *reversed* if, besides, every interval lies below 0: an effect of the other sign, beyond every
  yardstick;
- *undecided* otherwise.

A yardstick that a pair lacks (:func:`absent`: no control, no interval) can be neither beaten nor
lost to: such a claim is at best undecided. A claim that a pair can't be asked *doesn't apply*
(:func:`inapplicable`), and one that nobody has asked is *not measured* (:func:`unmeasured`): for
want of evidence nothing is ever "not reproduced".

The margin is the smallest effect that would matter (:func:`claims.margin`). Intervals are of 95 %
over examples and of 98 % over trainings (:mod:`mechshift_lib.comparison.over_seeds`).

Error rates, if intervals cover as they say: a claim with one effect at 0 or below is called
reproduced in at most 2.5 % of samples, and one with an effect at 0 or above reversed (an
intersection-union test needs no correction); a claim all of whose effects are at the margin or
above is called not reproduced or reversed in at most 2.5 % (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from scipy.stats import t as student

from mechshift_lib.comparison import claims
from mechshift_lib.comparison.claims import Claim
from mechshift_lib.errors import CircuitError

Outcome = Literal[
    "reproduced", "not reproduced", "reversed", "undecided", "doesn't apply", "not measured"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
#: What an effect is a fraction of: a cosine, the model's layers, tokens, components, or the natural
#: logarithm of a ratio.
Unit = Literal["cosine", "depth", "accuracy", "components", "logarithm"]

#: One-sided error rate of either mistake.
ERROR = 0.025


@dataclass(frozen=True)
class Contrast:
    """One number that is positive where a claim is right.

    Attributes:
        against: what it is held against, in words that end "… against …".
        effect: the estimate, as a fraction of the claim's unit; NaN where there is none.
        low: lower end of its interval; NaN where there is none.
        high: upper end.
        n: units that it is over (the smaller number where it compares tasks).
        of: what the units are, ``examples`` or ``trainings``.
        error: share of samples in which an end of the interval lies beyond the truth.
        freedom: degrees of freedom of the interval, where it is Student's.
    """

    against: str
    effect: float
    low: float
    high: float
    n: int
    of: str = "examples"
    error: float = ERROR
    freedom: float = math.inf

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))


def absent(against: str) -> Contrast:
    """A contrast that can't be made on a pair: ``against`` says what is missing."""
    return Contrast(against, math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Verdict:
    """A claim on a pair, or on one task of it.

    Attributes:
        claim: ``C1`` … ``C7``.
        pair: name of the pair.
        task: name of the task, None for the pair as a whole.
        outcome: one of :data:`OUTCOMES`.
        measure: what the effect is, in words.
        unit: what it is a fraction of; None without contrasts.
        effect: effect of the contrast that decides, the least favourable one; NaN without any.
        low: lower end of its interval.
        high: upper end.
        wide_low: lower end of the interval that holds for all contrasts at once.
        wide_high: upper end of that.
        yardstick: what it is held against.
        missing: the yardsticks that the pair lacks, the precondition that fails, or what was not
            measured.
        contrasts: number of contrasts that have to hold.
        n: units that the effect is over.
        page: the chapter that shows it.
        of: what the units are, ``examples`` or ``trainings``.
    """

    claim: Claim
    pair: str
    task: str | None
    outcome: Outcome
    measure: str
    unit: Unit | None
    effect: float
    low: float
    high: float
    yardstick: str
    missing: str
    contrasts: int
    n: int
    page: str
    of: str = "examples"
    wide_low: float = math.nan
    wide_high: float = math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The interval that its outcome is read from: that of all contrasts at once, unless the
        claim is reproduced or reversed, which each contrast has to show by itself.
        """
        if self.outcome in ("reproduced", "reversed"):
            return self.low, self.high
        return self.wide_low, self.wide_high


def decide(contrasts: Sequence[Contrast], margin: float = 0.0) -> Outcome:
    """The rule of this module.

    Raises:
        CircuitError: there is no contrast, or the margin is negative.
    """
    if not contrasts:
        raise CircuitError("A verdict needs at least one contrast: say `inapplicable` without any.")
    if margin < 0:
        raise CircuitError(f"A margin is the smallest effect that matters, so {margin} can't be.")
    known = [contrast for contrast in contrasts if contrast.known]
    complete = len(known) == len(contrasts)
    if any(_upper(contrast, len(contrasts)) < margin for contrast in known):
        below = complete and all(contrast.high < 0 for contrast in known)
        return "reversed" if below else "not reproduced"
    above = all(contrast.low > 0 and contrast.high >= margin for contrast in known)
    return "reproduced" if complete and above else "undecided"


def _upper(contrast: Contrast, k: int) -> float:
    """Upper end of the interval, widened so that all ``k`` hold at once (Bonferroni)."""
    return contrast.effect + (contrast.high - contrast.effect) * _factor(contrast, k)


def _factor(contrast: Contrast, k: int) -> float:
    """How many times as wide the interval is that holds for ``k`` contrasts at once."""
    wider, usual = student.ppf([1 - contrast.error / k, 1 - contrast.error], contrast.freedom)
    return float(wider / usual)


def judge(
    claim: Claim,
    pair: str,
    contrasts: Sequence[Contrast],
    *,
    measure: str,
    unit: Unit,
    page: str,
    task: str | None = None,
    margin: float | None = None,
) -> Verdict:
    """Decide a claim and say by which contrast.

    Args:
        claim: the claim.
        pair: name of the pair.
        contrasts: what must be positive for the claim to hold.
        measure: what the effects are.
        unit: what they are fractions of.
        page: the chapter that shows them.
        task: the task that it is about; None for the pair as a whole.
        margin: smallest effect that matters; by default :func:`claims.margin`.

    Raises:
        CircuitError: as :func:`decide`.
    """
    outcome = decide(contrasts, claims.margin(claim) if margin is None else margin)
    worst, k = _least_favourable(contrasts, outcome), len(contrasts)
    return Verdict(
        claim=claim,
        pair=pair,
        task=task,
        outcome=outcome,
        measure=measure,
        unit=unit,
        effect=worst.effect,
        low=worst.low,
        high=worst.high,
        yardstick=worst.against,
        missing="; ".join(dict.fromkeys(c.against for c in contrasts if math.isnan(c.effect))),
        contrasts=k,
        n=worst.n,
        page=page,
        of=worst.of,
        wide_low=worst.effect - (worst.effect - worst.low) * _factor(worst, k),
        wide_high=_upper(worst, k),
    )


def _least_favourable(contrasts: Sequence[Contrast], outcome: Outcome) -> Contrast:
    """The contrast that decides: of a reversal, the one that is nearest to 0."""
    known = [c for c in contrasts if c.known]
    if not known:
        return next((c for c in contrasts if not math.isnan(c.effect)), contrasts[0])
    if outcome == "reversed":
        return max(known, key=lambda c: c.high)
    if outcome == "not reproduced":
        return min(known, key=lambda c: _upper(c, len(contrasts)))
    return min(known, key=lambda c: c.low)


def inapplicable(
    claim: Claim, pair: str, why: str, page: str = "", task: str | None = None
) -> Verdict:
    """A claim that the pair can't be asked: ``why`` says which precondition fails."""
    return _without_effect(claim, pair, "doesn't apply", why, page, task)


def unmeasured(claim: Claim, pair: str, why: str) -> Verdict:
    """A claim that was not asked: ``why`` says what is missing."""
    return _without_effect(claim, pair, "not measured", why, "", None)


def _without_effect(
    claim: Claim, pair: str, outcome: Outcome, why: str, page: str, task: str | None
) -> Verdict:
    nan = math.nan
    return Verdict(claim, pair, task, outcome, "", None, nan, nan, nan, "", why, 0, 0, page)
