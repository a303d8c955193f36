"""Control sets: matched, disjoint, and drawn the same way every time."""

import numpy as np
import pytest

from mechshift_lib.comparison.controls import disjoint_sets, strongest, third_of
from mechshift_lib.errors import CircuitError

LAYERS = np.repeat(np.arange(6), 4)


def test_thirds_of_models_of_any_depth():
    assert third_of(range(6), 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert third_of(range(7), 7).tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert third_of([0, 1], 2).tolist() == [0, 2]
    assert np.bincount(third_of(range(28), 28)).tolist() == [9, 10, 9]


def test_the_strongest_by_hand():
    scores = np.array([0.5, -3.0, 1.0, 2.0, -0.25, 9.0])
    among = np.array([True] * 5 + [False])
    assert strongest(scores, among, 2) == [1, 3]
    with pytest.raises(CircuitError, match="6 components can't be chosen among 5"):
        strongest(scores, among, 6)


def test_as_many_in_each_layer_and_none_of_the_chosen():
    layers = np.repeat(np.arange(6), 12)
    chosen = [0, 5, 13]
    found = disjoint_sets(chosen, layers, 50, 0)
    assert len({tuple(one) for one in found}) == 50
    for one in found:
        assert layers[one].tolist() == [0, 0, 1]
        assert not set(one) & set(chosen)
    assert disjoint_sets(chosen, layers, 50, 0) == found
    assert disjoint_sets(chosen, layers, 50, 1) != found


def test_all_there_are_in_a_small_model():
    found = disjoint_sets([0, 1, 4], LAYERS, 50, 0)
    assert sorted(found) == [[2, 3, 5], [2, 3, 6], [2, 3, 7]]
    assert len(disjoint_sets([0, 1, 4], LAYERS, 2, 0)) == 2


def test_too_few_others_are_refused():
    with pytest.raises(CircuitError, match="too few components"):
        disjoint_sets([0, 1, 2], LAYERS, 5, 0)
