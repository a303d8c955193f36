"""Overlap of circuits against hand-computed values and brute force."""

from itertools import combinations

import numpy as np
import pytest

from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.edges import parse_edges
from mechshift_lib.comparison.overlap import (
    PAPER_FRACTION,
    component_count,
    component_overlap,
    component_scores,
    edge_budgets,
    expected_jaccard,
    head_usage,
    jaccard,
    top_edges,
)
from mechshift_lib.errors import CircuitError

NAMES = ["input->a0.h0<q>", "a0.h0->m0", "a0.h1->m0", "m0->a1.h1<k>", "a1.h1->m1", "m1->logits"]
EDGES = parse_edges(NAMES, n_layers=2)


def test_top_edges_by_absolute_and_by_signed_score():
    scores = np.array([0.1, -5.0, 2.0, 0.0, 3.0])
    assert top_edges(scores, 2).tolist() == [False, True, False, False, True]
    assert top_edges(scores, 2, by="signed").tolist() == [False, False, True, False, True]


def test_top_edges_takes_exactly_the_count_and_earlier_edges_of_a_tie():
    scores = np.array([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert top_edges(scores, 2).tolist() == [
        [False, True, True, False],
        [True, True, False, False],
    ]


def test_top_edges_equal_a_full_sort():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(5, 300)).round(1)  # many ties
    for count in (1, 7, 150, 300):
        slow = np.zeros(scores.shape, dtype=bool)
        for row, values in zip(slow, scores, strict=True):
            row[np.argsort(-np.abs(values), kind="stable")[:count]] = True
        np.testing.assert_array_equal(top_edges(scores, count), slow)


def test_impossible_circuits_are_errors():
    with pytest.raises(CircuitError, match="0 edges"):
        top_edges(np.ones(3), 0)
    with pytest.raises(CircuitError, match="4 edges"):
        top_edges(np.ones(3), 4)
    with pytest.raises(CircuitError, match="not a number"):
        top_edges(np.array([1.0, np.nan]), 1)
    with pytest.raises(CircuitError, match="size"):
        top_edges(np.ones(3), 1, by="size")


def test_jaccard_by_hand_and_of_empty_sets():
    a = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    b = np.array([[0, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    values = jaccard(a, b)
    assert values[0] == pytest.approx(1 / 3)
    assert np.isnan(values[1])


def test_expected_jaccard_equals_the_mean_over_all_pairs_of_sets():
    n, a, b = 6, 2, 3
    values = [
        len(set(x) & set(y)) / len(set(x) | set(y))
        for x in combinations(range(n), a)
        for y in combinations(range(n), b)
    ]
    assert expected_jaccard(n, a, b) == pytest.approx(np.mean(values))


def test_expected_jaccard_at_the_edges():
    assert expected_jaccard(10, 10, 10) == pytest.approx(1.0)
    assert expected_jaccard(10, 0, 4) == 0.0
    assert np.isnan(expected_jaccard(10, 0, 0))
    with pytest.raises(CircuitError, match="can't be drawn"):
        expected_jaccard(5, 6, 1)


def test_a_small_graph_has_no_paper_budgets_and_a_large_one_has_both():
    small = {b.label: b.count for b in edge_budgets(1108)}
    assert "paper's count" not in small
    assert "paper's fraction" not in small
    assert small["5.0%"] == 55
    large = edge_budgets(128_000)
    counts = {b.label: b.count for b in large}
    assert counts["paper's count"] == 1000
    assert counts["paper's fraction"] == round(PAPER_FRACTION * 128_000)
    assert [b.count for b in large] == sorted(counts.values())
    assert all(b.fraction == b.count / 128_000 for b in large)


def test_component_scores_sum_the_edges_at_both_ends_within_the_set():
    scores = np.array([1.0, 2.0, 4.0, -8.0, 16.0, 32.0])
    assert EDGES.components == ("a0.h0", "a0.h1", "m0", "a1.h1", "m1")
    whole = component_scores(EDGES, scores)
    np.testing.assert_allclose(whole, [1 + 2, 4, 2 + 4 - 8, -8 + 16, 16 + 32])
    mask = np.array([True, True, False, True, False, True])
    np.testing.assert_allclose(component_scores(EDGES, scores, mask), [3, 0, -6, -8, 32])


def test_component_scores_keep_leading_axes():
    scores = np.arange(12.0).reshape(2, 6)
    both = component_scores(EDGES, scores)
    np.testing.assert_allclose(both[1], component_scores(EDGES, scores[1]))
    assert both.shape == (2, 5)


def test_component_overlap_in_both_readings():
    a = np.array([5.0, -4.0, 0.5, 0.0, 0.0, 0.0])
    b = np.array([5.0, 0.0, 1.0, -4.0, 0.0, 0.0])
    overlap = component_overlap(a, b, 2)
    assert (overlap.k, overlap.share, overlap.jaccard) == (2, 0.5, pytest.approx(1 / 3))
    assert overlap.chance == pytest.approx(expected_jaccard(6, 2, 2))


def test_component_overlap_never_counts_unused_components():
    a = np.array([1.0, 0.0, 0.0])
    assert component_overlap(a, a, 3).k == 1
    empty = component_overlap(a, np.zeros(3), 3)
    assert empty.k == 0
    assert np.isnan(empty.jaccard)


def test_k_is_the_papers_fraction_of_the_components():
    assert component_count(812) == 100
    assert component_count(30) == 4
    assert component_count(2) == 2


def test_head_usage_by_layer():
    first = np.array([True, True, False, False, False, False])  # head a0.h0
    second = np.array([True, False, True, True, False, False])  # heads a0.h0, a0.h1, a1.h1
    assert head_usage(EDGES, first, second).tolist() == [[0, 1, 1], [0, 1, 0]]


def test_centre_of_mass_weighs_by_absolute_score():
    depth = np.array([0.0, 0.5, 1.0])
    assert centre_of_mass(np.array([1.0, 0.0, -3.0]), depth) == pytest.approx(0.75)
    mask = np.array([True, True, False])
    assert centre_of_mass(np.array([1.0, 1.0, -3.0]), depth, mask) == pytest.approx(0.25)
    assert np.isnan(centre_of_mass(np.zeros(3), depth))
