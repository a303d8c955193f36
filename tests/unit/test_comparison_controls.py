"""Control sets: matched, different, and drawn the same way every time."""

import itertools

import numpy as np
import pytest

from mechshift_lib.comparison.controls import matched_sets, same_mass, strongest, third_of
from mechshift_lib.errors import CircuitError

LAYERS = np.repeat(np.arange(6), 4)
ALL = np.ones(24, dtype=bool)


def test_thirds_of_models_of_any_depth():
    assert third_of(range(6), 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert third_of(range(7), 7).tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert third_of([0, 1], 2).tolist() == [0, 2]
    assert np.bincount(third_of(range(28), 28)).tolist() == [9, 10, 9]


def test_the_strongest_and_those_of_the_same_mass_by_hand():
    scores = np.array([0.5, -3.0, 1.0, 2.0, -0.25, 9.0])
    among = np.array([True] * 5 + [False])
    assert strongest(scores, among, 2) == [1, 3]
    assert same_mass(scores, among, 3.0) == [1]
    assert same_mass(scores, among, 3.1) == [1, 3]
    assert same_mass(scores, among, 5.0) == [1, 3]
    assert same_mass(scores, among, 100.0) == [0, 1, 2, 3, 4]
    with pytest.raises(CircuitError, match="6 components can't be chosen among 5"):
        strongest(scores, among, 6)
    with pytest.raises(CircuitError, match="no components"):
        same_mass(scores, ~ALL[:6], 1.0)


def test_matched_by_layer_where_there_are_enough():
    layers = np.repeat(np.arange(6), 12)
    chosen = [0, 5, 13]
    found = matched_sets(chosen, layers, 6, np.ones(72, dtype=bool), 50, 0)
    assert found.by_layer
    assert len({tuple(one) for one in found.sets}) == 50
    for one in found.sets:
        assert layers[one].tolist() == [0, 0, 1]
        assert one != chosen
    again = matched_sets(chosen, layers, 6, np.ones(72, dtype=bool), 50, 0)
    assert again == found
    assert matched_sets(chosen, layers, 6, np.ones(72, dtype=bool), 50, 1) != found


def test_matched_by_third_in_a_small_model_and_all_there_are():
    found = matched_sets([0, 1, 4], LAYERS, 6, ALL, 50, 0)
    assert not found.by_layer
    assert len({tuple(one) for one in found.sets}) == 50
    assert all(max(one) < 8 for one in found.sets)
    assert [0, 1, 4] not in found.sets
    few = matched_sets([0, 1, 4], LAYERS, 6, ALL, 100, 0)
    every = [list(one) for one in itertools.combinations(range(8), 3)]
    assert sorted(few.sets) == [one for one in every if one != [0, 1, 4]]


def test_only_components_of_the_wanted_type_are_drawn():
    heads = np.arange(24) % 4 != 3
    found = matched_sets([0, 1], LAYERS, 6, heads, 100, 0)
    assert all(heads[one].all() for one in found.sets)


def test_no_other_set_is_refused():
    with pytest.raises(CircuitError, match="no other set"):
        matched_sets([0, 1], np.zeros(2, dtype=int), 1, np.ones(2, dtype=bool), 5, 0)
