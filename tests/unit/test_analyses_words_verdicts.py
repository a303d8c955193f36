"""Verdicts in words: one sentence an outcome, with unit, yardstick and what is missing."""

import re

import pytest

from mechshift_lib.analyses.words.verdicts import (
    answers,
    badge,
    cell,
    details,
    effect,
    grid,
    sentence,
    summary,
)
from mechshift_lib.comparison.verdicts import (
    OUTCOMES,
    Contrast,
    absent,
    inapplicable,
    judge,
    unmeasured,
)
from mechshift_lib.plots.palette import OUTCOME_COLORS
from mechshift_lib.plots.theme import OUTCOME_SIGNS


def contrast(value, against="the ARM"):
    return Contrast(against, value, value - 0.1, value + 0.1, 20)


def about(value, *more, claim="C2", pair="p", task="countdown", unit="depth"):
    found = [contrast(value), *more]
    return judge(claim, pair, found, measure="how much", unit=unit, page="overlap", task=task)


def test_every_outcome_has_its_sentence():
    assert sentence(about(0.3, contrast(0.2, "the control"))) == (
        "✓ **C2 is reproduced** on Countdown. How much: +20.0 % of the model's depth "
        "[+10.0, +30.0] against the control, the least favourable of 2; n = 20 examples."
    )
    assert sentence(about(-0.3)).startswith("⇄ **C2 is reversed** on Countdown. How much: −30.0 %")
    assert "✗ **C2 is not reproduced**" in sentence(about(-0.3, contrast(0.2)))
    lacking = sentence(about(0.3, absent("the control")))
    assert lacking.startswith("? **C2 is undecided**")
    assert lacking.endswith("n = 20 examples. Missing: the control.")
    asked = inapplicable("C6", "p", "the pair has no Countdown")
    assert sentence(asked) == "⊘ **C6 doesn't apply**. The pair has no Countdown."
    assert sentence(unmeasured("C3", "p", "nobody looked")) == (
        "○ **C3 is not measured**. Nobody looked."
    )


def test_without_an_interval_the_effect_is_told_all_the_same():
    nan = float("nan")
    found = judge(
        "C5",
        "p",
        [Contrast("90 %", -0.15, nan, nan, 8)],
        measure="share",
        unit="components",
        page="circuits",
    )
    assert sentence(found) == (
        "? **C5 is undecided**. Share: −15.0 percentage points against 90 %, n = 8 examples."
    )


def test_outcomes_differ_in_word_sign_and_colour():
    assert set(OUTCOME_SIGNS) == set(OUTCOME_COLORS) == set(OUTCOMES)
    assert len(set(OUTCOME_SIGNS.values())) == len(set(OUTCOME_COLORS.values())) == len(OUTCOMES)
    for outcome in OUTCOMES:
        text = re.sub("<[^>]+>", "", badge(outcome))
        assert text.startswith(OUTCOME_SIGNS[outcome])
        assert OUTCOME_COLORS[outcome] in badge(outcome)


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("cosine", "+0.04 in cosine"),
        ("depth", "+4.1 % of the model's depth"),
        ("accuracy", "+4.1 percentage points of accuracy"),
        ("components", "+4.1 percentage points"),
        ("logarithm", "+0.04 in natural logarithm"),
    ],
)
def test_effects_have_their_unit(unit, written):
    found = effect(about(0.041, unit=unit))
    assert found.startswith(f"{written} ")
    assert found.endswith(("[−5.9, +14.1]", "[−0.06, +0.14]"))


def test_the_grid_has_a_cell_a_pair():
    found = [
        about(0.3, pair="q", task="infilling"),
        about(-0.3, pair="q"),
        inapplicable("C2", "p", "no global task"),
    ]
    text = re.sub("<(?!br)[^>]+>", "", grid(found, {"p": "Pair P", "q": "Pair Q"}))
    head, _, row = text.splitlines()
    assert head == "| claim | Pair P | Pair Q |"
    assert "| ⊘ doesn't apply |" in row
    shown = (
        "Infilling<br>✓ reproduced<br>+30.0 % of depth [+20.0, +40.0]<br>Countdown<br>⇄ reversed"
    )
    assert shown in row
    assert cell(found[2:]) == badge("doesn't apply")
    assert summary(found) == "3 verdicts: reproduced 1, reversed 1 and doesn't apply 1."
    table = details(found, {"p": "Pair P", "q": "Pair Q"})
    assert table.pair.tolist() == ["Pair Q", "Pair Q", "Pair P"]
    assert table.task.tolist() == ["Infilling", "Countdown", "all"]
    assert table.what.tolist() == ["how much", "how much", "no global task"]


def test_the_answer_is_three_sentences_over_all_verdicts():
    found = [
        about(0.3),
        about(0.2, pair="q", claim="C1", task=None, unit="cosine"),
        about(-0.3, pair="q"),
        about(0.05, claim="C7"),
        inapplicable("C6", "p", "the pair has no Countdown"),
    ]
    text = answers(found, {"p": "One", "q": "Two"})
    holds, fails, open_, over = text.split("\n\n")
    assert holds.startswith("**Reproduced here:** On global tasks the MDM's circuit lies earlier")
    assert "(**C2**: One on Countdown)" in holds
    assert "(**C1**: Two)" in holds
    assert "One" not in fails
    assert "(**C2**: Two on Countdown, reversed)" in fails
    assert open_.startswith("**Undecided:**")
    assert "C7" in open_
    assert "C6" not in text
    assert over.startswith("They rest on 20 examples each of One and Two, each held against")
    *_, nothing, _ = answers(found[:1], {"p": "One"}).split("\n\n")
    assert nothing == "**Undecided:** None of the paper's claims."
    assert len(answers(found[-1:], {"p": "One"}).split("\n\n")) == 3
