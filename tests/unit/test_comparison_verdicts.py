"""The rule of verdicts: by hand, and at its stated error rates on simulated effects."""

import math

import numpy as np
import pytest

from mechshift_lib.analyses.narrative_verdicts import details, grid, summary
from mechshift_lib.comparison.verdicts import (
    CLAIMS,
    ERROR,
    Contrast,
    decide,
    difference,
    judge,
    untold,
    verdict_table,
)
from mechshift_lib.errors import CircuitError


def contrast(effect, half=0.1, against="a", n=20):
    return Contrast(against, effect, effect - half, effect + half, n)


@pytest.mark.parametrize(
    ("effects", "margin", "said"),
    [
        ([0.3, 0.2], 0.0, "reproduced"),
        ([0.3, 0.05], 0.0, "undecided"),
        ([0.3, -0.3], 0.0, "not reproduced"),
        ([0.3, -0.11], 0.0, "undecided"),  # ruled out by one interval, not by both at once
        ([0.15], 0.5, "not reproduced"),
        ([0.15], 0.2, "reproduced"),
        ([0.05], 0.1, "undecided"),
    ],
)
def test_the_rule_by_hand(effects, margin, said):
    assert decide([contrast(x) for x in effects], margin) == said


def test_without_an_interval_or_a_contrast_nothing_is_decided():
    nan = float("nan")
    assert decide([contrast(0.5), Contrast("b", 0.9, nan, nan, 3)]) == "undecided"
    with pytest.raises(CircuitError, match="at least one contrast"):
        decide([])
    with pytest.raises(CircuitError, match="smallest effect"):
        decide([contrast(1)], -0.1)


@pytest.mark.parametrize("k", [1, 3])
def test_error_rates_on_simulated_effects(k):
    """No effect is called reproduced, and an effect of the margin not reproduced, 2.5 % at most."""
    rng, draws, margin = np.random.default_rng(k), 4000, 3.0
    wrong = {"reproduced": 0, "not reproduced": 0, "found": 0}
    for _ in range(draws):
        noise = rng.normal(size=k)
        one_absent = [contrast(x, 1.96) for x in noise + np.array([0.0] + [9.0] * (k - 1))]
        wrong["reproduced"] += decide(one_absent) == "reproduced"
        at_margin = [contrast(x, 1.96) for x in noise + margin]
        wrong["not reproduced"] += decide(at_margin, margin) == "not reproduced"
        planted = [contrast(x, 1.96) for x in noise + 6.0]
        wrong["found"] += decide(planted, margin) == "reproduced"
    three_sigma = 3 * math.sqrt(ERROR * (1 - ERROR) / draws)
    assert wrong["reproduced"] / draws <= ERROR + three_sigma
    assert wrong["not reproduced"] / draws <= ERROR + three_sigma
    assert wrong["found"] / draws > 0.95


def test_the_least_favourable_contrast_is_told():
    found = judge("C1", "p", [contrast(0.5), contrast(0.2, against="b")], measure="m", page="o")
    assert (found.verdict, found.yardstick, found.effect) == ("reproduced", "b", 0.2)
    found = judge("C1", "p", [contrast(0.5), contrast(-0.4, against="c")], measure="m", page="o")
    assert (found.verdict, found.yardstick, found.contrasts) == ("not reproduced", "c", 2)


def test_differences_of_independent_effects_by_hand():
    found = difference(contrast(0.5, 0.3), contrast(0.2, 0.4), "x")
    assert found.effect == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - 0.5)
    assert found.high == pytest.approx(0.3 + 0.5)


def test_the_table_has_a_row_a_verdict_and_a_cell_a_pair():
    made = [
        judge("C2", "q", [contrast(0.3)], measure="m", page="o", task="infilling"),
        judge("C2", "q", [contrast(-0.3)], measure="m", page="o", task="countdown"),
        untold("C1", "q", "no such task", "o"),
        judge("C1", "p", [contrast(0.0)], measure="m", page="o"),
    ]
    table = verdict_table(made)
    assert table.claim.tolist() == ["C1", "C1", "C2", "C2"]
    text = grid(table, {"p": "Pair P", "q": "Pair Q"})
    assert text.splitlines()[0] == "| claim | Pair P | Pair Q |"
    assert "? undecided 0.00 [-0.10, +0.10] | ? undecided |" in text
    assert "Infilling: ✓ reproduced +0.30" in text
    assert "Countdown: ✗ not reproduced -0.30" in text
    assert summary(table) == "Of 4 verdicts, 1 reproduced, 1 not reproduced and 2 undecided."
    assert details(table).task.tolist() == ["all", "all", "Infilling", "Countdown"]
    assert len(CLAIMS) == 7
