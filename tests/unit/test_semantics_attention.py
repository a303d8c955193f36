"""Classes of keys and distances of heads, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mechshift_lib.semantics.attention import (
    CLASSES,
    Told,
    allowed,
    between_heads,
    exclusive,
    masses,
    total_variation,
    uniform,
    within,
)

#:     0  1  2  3  4  5  6  7      MASK is 9
IDS = (0, 5, 6, 7, 5, 8, 9, 9)
TOLD = Told(IDS, mask_id=9, decisive=(3,), given=(2,))


def named(classes: np.ndarray) -> dict[str, list[int]]:
    """Class -> its keys; those without are left out."""
    return {n: np.flatnonzero(c).tolist() for n, c in zip(CLASSES, classes, strict=True) if c.any()}


def test_classes_by_hand() -> None:
    """At the second 5: the first one, what followed it, and what stands around."""
    assert named(TOLD.classes(4, answers=(6, 8), distractors=(7,))) == {
        "itself": [4],
        "first": [0],
        "mask": [6, 7],
        "decisive": [3],
        "answer": [2, 5],
        "distractor": [3],
        "given": [2],
        "induction": [2],
        "duplicate": [1],
        "previous": [3],
        "next": [5],
        "right": [5, 6, 7],
    }
    first = named(TOLD.classes(1))
    assert first["later copy"] == [4]
    assert first["previous"] == first["first"] == [0]
    assert "duplicate" not in first
    assert "induction" not in first
    assert "rest" not in first


def test_what_is_in_no_class_is_the_rest() -> None:
    assert named(Told(IDS).classes(3))["rest"] == [1]
    assert named(Told(IDS).classes(5))["rest"] == [1, 2, 3]


def test_masks_are_no_copies_of_each_other_and_a_repeated_token_is_itself() -> None:
    at_mask = named(TOLD.classes(7))
    assert at_mask["mask"] == [6, 7]
    assert not {"duplicate", "induction", "later copy"} & set(at_mask)
    # Without a MASK it is a token like others; what follows the copy is the query itself.
    twice = named(Told(IDS).classes(7))
    assert twice["duplicate"] == [6]
    assert "induction" not in twice


def test_a_query_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="query 8 is outside of an input of 8 tokens"):
        TOLD.classes(8)


@pytest.mark.parametrize("query", range(8))
def test_each_key_is_in_exactly_one_class_of_the_partition(query: int) -> None:
    classes = TOLD.classes(query, answers=(6, 8), distractors=(7,))
    alone = exclusive(classes)
    assert (alone.sum(0) == 1).all()
    assert (alone <= classes).all()
    for key in range(8):  # literally: the first class that it is in
        assert alone[:, key].argmax() == min(i for i in range(len(CLASSES)) if classes[i, key])


def test_heads_of_one_kind_have_all_of_their_mass_in_it() -> None:
    """A previous-token, a duplicate-token and an induction head at the second 5, and a mix."""
    patterns = np.zeros((1, 4, 8))
    for head, key in enumerate((3, 1, 2)):
        patterns[0, head, key] = 1
    patterns[0, 3, [3, 1, 7, 4]] = (0.5, 0.25, 0.125, 0.125)
    classes = TOLD.classes(4)
    found = dict(zip(CLASSES, masses(patterns, classes)[0].T, strict=True))
    assert found["previous"].tolist() == [1, 0, 0, 0.5]
    assert found["duplicate"].tolist() == [0, 1, 0, 0.25]
    assert found["induction"].tolist() == [0, 0, 1, 0]
    assert found["right"].tolist() == found["mask"].tolist() == [0, 0, 0, 0.125]
    np.testing.assert_allclose(masses(patterns, exclusive(classes)).sum(-1), 1)


def test_uniform_attention_is_a_share_of_what_may_be_seen() -> None:
    classes = TOLD.classes(4)
    causal = dict(zip(CLASSES, uniform(classes, allowed(4, 8, "causal")), strict=True))
    full = dict(zip(CLASSES, uniform(classes, allowed(4, 8, "full")), strict=True))
    assert causal["right"] == causal["mask"] == 0
    assert causal["previous"] == pytest.approx(1 / 5)
    assert full["right"] == pytest.approx(3 / 8)
    assert full["mask"] == pytest.approx(2 / 8)


def test_distances_by_hand() -> None:
    causal = np.array([0.5, 0.5])
    full = np.array([0.25, 0.25, 0.5])
    assert total_variation(causal, full) == pytest.approx(0.5)
    # Over what both may look at, they are the same head.
    assert total_variation(causal, within(full, 2)) == pytest.approx(0)
    assert total_variation(np.array([1.0, 0]), np.array([0, 1.0])) == 1
    assert within(np.array([0.0, 0.0, 1.0]), 2).tolist() == [0, 0]


def test_distances_between_heads_are_those_of_each_two() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.dirichlet(np.ones(5), (2, 3)), rng.dirichlet(np.ones(7), (2, 3))
    found = between_heads(one, other)
    assert found.shape == (2, 3, 3)
    for layer, i, j in np.ndindex(2, 3, 3):
        longer = np.concatenate([one[layer, i], [0, 0]])
        assert found[layer, i, j] == pytest.approx(abs(longer - other[layer, j]).sum() / 2)
    np.testing.assert_allclose(np.diagonal(between_heads(one, one), axis1=1, axis2=2), 0)
