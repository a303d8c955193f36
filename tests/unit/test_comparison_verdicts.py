"""The rule of verdicts: by hand, and at its stated error rates on simulated effects."""

import math

import numpy as np
import pytest

from mechshift_lib.comparison import claims
from mechshift_lib.comparison.verdicts import (
    ERROR,
    Contrast,
    absent,
    decide,
    inapplicable,
    judge,
    unmeasured,
)
from mechshift_lib.errors import CircuitError

NAN = float("nan")


def contrast(effect, half=0.1, against="a", n=20):
    return Contrast(against, effect, effect - half, effect + half, n)


def about(contrasts, **kwargs):
    return judge("C2", "p", contrasts, measure="m", unit="depth", page="o", **kwargs)


@pytest.mark.parametrize(
    ("effects", "margin", "said"),
    [
        ([0.3, 0.2], 0.0, "reproduced"),
        ([0.3, 0.05], 0.0, "undecided"),
        ([0.3, -0.3], 0.0, "not reproduced"),
        ([-0.3, -0.2], 0.0, "reversed"),
        ([-0.3, -0.11], 0.0, "reversed"),
        ([-0.3, -0.05], 0.0, "not reproduced"),  # below the one yardstick, not told from the other
        ([-0.11, -0.11], 0.0, "undecided"),  # each is below 0, but not both at once
        ([0.3, -0.11], 0.0, "undecided"),  # ruled out by one interval, not by both at once
        ([0.15], 0.5, "not reproduced"),
        ([-0.15], 0.5, "reversed"),
        ([0.15], 0.2, "reproduced"),
        ([0.05], 0.1, "undecided"),
    ],
)
def test_the_rule_by_hand(effects, margin, said):
    assert decide([contrast(x) for x in effects], margin) == said


@pytest.mark.parametrize("lacking", [absent("the control"), Contrast("b", 0.9, NAN, NAN, 3)])
def test_what_is_missing_can_be_neither_beaten_nor_lost_to(lacking):
    assert decide([lacking]) == "undecided"
    assert decide([contrast(0.5), lacking]) == "undecided"
    assert decide([contrast(-0.5), lacking]) == "not reproduced"  # the other yardstick is not met


def test_a_rule_needs_contrasts_and_a_margin():
    with pytest.raises(CircuitError, match="at least one contrast"):
        decide([])
    with pytest.raises(CircuitError, match="smallest effect"):
        decide([contrast(1)], -0.1)


@pytest.mark.parametrize("k", [1, 3])
def test_error_rates_on_simulated_effects(k):
    """The three mistakes are made 2.5 % of times at most, and planted effects are found."""
    rng, draws, margin = np.random.default_rng(k), 4000, 3.0
    wrong = {"reproduced": 0, "reversed": 0, "refuted": 0, "missed": 0, "reversal missed": 0}
    one_absent = np.array([0.0] + [9.0] * (k - 1))
    for _ in range(draws):
        noise = rng.normal(size=k)

        def said(effects, margin=0.0, noise=noise):
            return decide([contrast(x, 1.96) for x in noise + effects], margin)

        wrong["reproduced"] += said(one_absent) == "reproduced"
        wrong["reversed"] += said(-one_absent) == "reversed"
        wrong["refuted"] += said(margin, margin) in ("not reproduced", "reversed")
        wrong["missed"] += said(6.0, margin) != "reproduced"
        wrong["reversal missed"] += said(-6.0, margin) != "reversed"
    three_sigma = 3 * math.sqrt(ERROR * (1 - ERROR) / draws)
    for mistake in ("reproduced", "reversed", "refuted"):
        assert wrong[mistake] / draws <= ERROR + three_sigma, mistake
    assert wrong["missed"] / draws < 0.05
    assert wrong["reversal missed"] / draws < 0.05


def test_the_least_favourable_contrast_is_told():
    found = about([contrast(0.5), contrast(0.2, against="b")])
    assert (found.outcome, found.yardstick, found.effect) == ("reproduced", "b", 0.2)
    found = about([contrast(0.5), contrast(-0.4, against="c")])
    assert (found.outcome, found.yardstick, found.contrasts) == ("not reproduced", "c", 2)
    found = about([contrast(-0.5), contrast(-0.3, against="d")])
    assert (found.outcome, found.yardstick) == ("reversed", "d")
    found = about([contrast(0.5), absent("the control")])
    assert (found.yardstick, found.missing, found.n) == ("a", "the control", 20)


def test_the_interval_that_is_told_is_that_which_decides():
    """Student's at 98 % with 4 degrees of freedom: 3.747 for one contrast, 4.604 for two."""

    def few(effect, half):
        return Contrast("a", effect, effect - half, effect + half, 5, "trainings", 0.01, 4)

    wider = 4.604 / 3.747
    below = about([few(-0.3, 0.29), few(-0.3, 0.29)])  # by themselves, both lie below 0
    assert below.outcome == "undecided"
    assert below.interval == pytest.approx((-0.3 - 0.29 * wider, -0.3 + 0.29 * wider), abs=1e-4)
    assert below.interval[1] > claims.margin("C2")
    shown = about([few(0.3, 0.28), few(0.3, 0.28)])
    assert (shown.outcome, shown.interval) == ("reproduced", (shown.low, shown.high))
    against = about([few(-0.3, 0.2), few(0.3, 0.28)])
    assert against.outcome == "not reproduced"
    assert against.interval == pytest.approx((-0.3 - 0.2 * wider, -0.3 + 0.2 * wider), abs=1e-4)


def test_what_can_t_be_asked_and_what_wasn_t_have_outcomes_of_their_own():
    found = inapplicable("C6", "p", "no Countdown", "ablation", "countdown")
    assert (found.outcome, found.missing, found.contrasts) == ("doesn't apply", "no Countdown", 0)
    assert math.isnan(found.effect)
    assert unmeasured("C3", "p", "no chapter").outcome == "not measured"


def test_claims_with_a_margin_of_their_own():
    assert claims.margin("C2") == claims.margin("C2") == 0.05
    assert claims.margin("C6") == 0


def test_an_interval_over_trainings_is_widened_by_its_own_quantiles():
    """Student's at 98 % with 4 degrees of freedom: 3.747 for one contrast, 4.604 for two."""

    def few(high):
        return Contrast("a", -0.1, -0.2, high, 5, "trainings", 0.01, 4)

    just_below, just_above = (-0.1 + 0.1 * 3.747 / 4.604 + x for x in (-1e-4, 1e-4))
    assert decide([few(just_below)] * 2) == "reversed"
    assert decide([few(just_above)] * 2) == "undecided"
