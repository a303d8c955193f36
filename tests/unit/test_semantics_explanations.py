"""Explanations by hand: rules, their scores on the other half, and how they are counted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import pearsonr

from mechshift_lib.errors import ModelError
from mechshift_lib.semantics import rules
from mechshift_lib.semantics.explaining import (
    Explanation,
    RuleExplainer,
    correlations,
    information,
    score,
)
from mechshift_lib.semantics.explanations import crowding, expected_distinct, relative_variance
from mechshift_lib.semantics.rules import CLASSES, SPECIAL, Rules, Text, class_of, places, rules_of

RNG = np.random.default_rng(0)


def text(words: str, kind: str = "filler", start: int | None = None) -> Text:
    """A text of words that are tokens, behind the token that begins every text."""
    tokens = (SPECIAL, *words.split())
    return Text(tuple(sum(map(ord, token)) for token in tokens), tokens, kind, start)


def test_a_token_has_one_class() -> None:
    found = {
        "Mary": "a name", "store": "a place", "pen": "a thing", "cows": "an animal",
        "green": "a colour", "war": "an event", "small": "an adjective", "met": "a verb",
        "=": "an operator", "7": "a one-digit number", "17": "a two-digit number",
        "1732": "a longer number", "the": "another word", ".": "punctuation", "": "punctuation",
        SPECIAL: SPECIAL,
    }  # fmt: skip
    assert {token: class_of(token) for token in found} == found
    assert set(found.values()) <= set(CLASSES)


def test_rules_are_true_where_they_say() -> None:
    """Position by position, of two texts; the first token of a text has no row."""
    texts = [
        text("Mary met Mary .", "ioi", 4),
        text("7 + 7 = 14 .", "countdown", 5),
    ]
    where = places(texts)
    assert where.tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], *([1, p] for p in range(1, 7))]
    every = _all(texts)
    true = {name: np.flatnonzero(every[name]).tolist() for name in every}
    assert true["is a name"] == [0, 2]
    assert true["follows a name"] == [1, 3]
    assert true["precedes a name"] == [1]
    assert true["follows a start or end"] == [0, 4] == true["begins a sentence"]
    assert true["came before"] == [2, 6]
    assert true["comes again"] == [0, 4]
    assert true["is in the answer"] == [3, 8, 9]
    assert true["is the prompt's last"] == [2, 7]
    assert true["is the text's last"] == [3, 9]
    assert true["is in Countdown"] == [4, 5, 6, 7, 8, 9]
    assert true["precedes “=”"] == [6]
    assert true["is “Mary”"] == [0, 2]
    assert true["is a one-digit number and came before"] == [6]
    assert not any(name.startswith("precedes “”") for name in true)


def _all(texts: list[Text]) -> dict[str, np.ndarray]:
    """Rules of texts by name, both halves being all of them."""
    twice = [*texts, *texts]
    n = len(places(texts))
    found = rules_of(twice, np.repeat([0, 1], n))
    # Of rules that are true at the same places the first has the name, so look each one up.
    single = {name: found.truth[:n, i] for i, name in enumerate(found.names)}
    every = {name: truth[:n] for name, truth in rules._single(twice).items()}
    every |= {
        f"{a} and {b}": every[a] & every[b]
        for a, b in itertools.product(rules._classes(), rules._beside())
    }
    assert all((every[name] == truth).all() for name, truth in single.items())
    shown = {truth.tobytes() for truth in every.values() if truth.any() and not truth.all()}
    assert shown == {truth.tobytes() for truth in single.values()}
    assert len(shown) == len(single), "rules that are true at the same places are one"
    return every


def test_a_rule_must_be_true_and_false_in_both_halves() -> None:
    with pytest.raises(ModelError, match="give more texts"):
        rules_of([text("the"), text("the")], np.array([0, 1]))
    found = rules_of([text("the pen . the"), text("pen the Mary .")], np.repeat([0, 1], 4))
    assert "is a thing" in found.names
    assert not any("is a name" in name for name in found.names)


def test_the_masked_text_keeps_its_prompt() -> None:
    masked = text("7 + 7 = 14 .", "countdown", 5).masked(3)
    assert masked.tokens == (SPECIAL, "7", "+", "7", "=", "a mask", "a mask")
    assert masked.ids[5:] == (3, 3)
    assert text("the pen").masked(3) == text("the pen")


def made() -> tuple[Rules, np.ndarray]:
    """Three rules over eight positions and three neurons: one follows a rule, one hardly any."""
    a = np.array([1, 1, 0, 0, 1, 1, 0, 0], dtype=bool)
    b = np.array([1, 0, 1, 0, 1, 0, 1, 0], dtype=bool)
    truth = np.stack([a, b, a & b], axis=1)
    known = Rules(("a", "b", "a and b"), np.array([1, 1, 2]), truth)
    return known, np.stack([5.0 - 2 * b, a + 0.0, 3.0 * (a & b)], axis=1)


def test_a_neuron_gets_the_rule_that_predicts_it() -> None:
    known, neurons = made()
    explainer, first, second = RuleExplainer(known), np.arange(4), np.arange(4, 8)
    found = explainer.explain(neurons[first], first)
    assert [one.said for one in found] == ["b", "a", "a and b"]
    assert found[0] == Explanation("b", 3.0, 5.0)
    simulated = explainer.simulate(found, second)
    assert simulated[:, 0].tolist() == [3, 5, 3, 5]
    assert score(simulated, neurons[second]) == pytest.approx([1, 1, 1])
    # On a half where it does the opposite the same explanation fails.
    assert score(simulated, -neurons[second]) == pytest.approx([-1, -1, -1])
    with pytest.raises(ModelError, match="none of the rules"):
        explainer.simulate([Explanation("c", 0, 1)], second)


def test_two_statements_must_be_better_than_one() -> None:
    """A neuron that both rules fit alike gets the shorter, though it comes later in the list."""
    x = np.array([1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    known = Rules(("a and b", "a"), np.array([2, 1]), np.stack([x, x], axis=1))
    [found] = RuleExplainer(known).explain(x[:, None] + 0.0, np.arange(8))
    assert found.said == "a"


def test_neither_scale_nor_place_of_a_neuron_changes_its_explanation() -> None:
    truth = RNG.random((60, 5)) > 0.5
    explainer = RuleExplainer(Rules(tuple("abcde"), np.ones(5, dtype=int), truth))
    x, at = RNG.normal(size=(60, 4)), np.arange(60)
    one, other = explainer.explain(x, at), explainer.explain(7 - 3 * x, at)
    assert [e.said for e in one] == [e.said for e in other]
    assert score(explainer.simulate(one, at), x) == pytest.approx(
        score(explainer.simulate(other, at), 7 - 3 * x)
    )


def test_correlations_are_pearsons_and_0_where_nothing_varies() -> None:
    x, y = RNG.random((30, 3)) > 0.4, RNG.normal(size=(30, 2)) + 1e3
    x[:, 2] = True
    found = correlations(x, y)
    for i, j in itertools.product(range(2), range(2)):
        assert found[i, j] == pytest.approx(pearsonr(x[:, i], y[:, j])[0], abs=1e-6)
    assert found[2].tolist() == [0, 0]
    assert score(np.full((30, 1), 0.1), y[:, :1]).tolist() == [0]


def test_information_by_hand() -> None:
    """A neuron that tells four classes apart holds two bits, less what chance would give."""
    classes = np.repeat([0, 1, 2, 3], 100)
    x = np.stack([classes + 0.0, np.tile([0.0, 1, 2, 3], 100)], axis=1)
    chance = 9 / (2 * 400 * math.log(2))
    assert information(classes, x, 4) == pytest.approx([2 - chance, -chance])
    assert information(classes, np.ones((400, 1)), 4) == pytest.approx([0])


@pytest.mark.parametrize("counts", [(3, 1), (2, 2, 1), (5,), (1, 1, 1, 1)])
def test_expected_distinct_is_the_mean_over_all_draws(counts: tuple[int, ...]) -> None:
    neurons = [i for i, n in enumerate(counts) for _ in range(n)]
    for m in range(1, len(neurons) + 1):
        draws = list(itertools.combinations(neurons, m))
        literal = sum(len(set(draw)) for draw in draws) / len(draws)
        assert expected_distinct(counts, m) == pytest.approx(literal)
    assert math.isnan(expected_distinct(counts, len(neurons) + 1))
    with pytest.raises(ModelError, match="draw one at least"):
        expected_distinct(counts, 0)


def test_crowding_and_relative_variance_by_hand() -> None:
    assert crowding([1, 3]) == (1, 0.25)
    assert crowding([4, 4]) == (0, 0)
    assert all(math.isnan(x) for x in crowding([]))
    x = np.array([[1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]])
    assert relative_variance(x) == pytest.approx([0.6, 0, 2.4])
    assert relative_variance(100 * x) == pytest.approx([0.6, 0, 2.4])
    assert relative_variance(np.ones((2, 3))).tolist() == [1, 1, 1]
