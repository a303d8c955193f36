"""The explorer's shortcuts by rank against the circuits taken one size at a time."""

from __future__ import annotations

import numpy as np
import pytest

from mechshift_lib.comparison.bootstrap import split_halves
from mechshift_lib.comparison.overlap import edge_budgets, expected_jaccard, jaccard, top_edges
from mechshift_lib.explorer import curves
from mechshift_lib.explorer.curves import chance, halves, overlaps, ranks, stops

COUNTS = [1, 2, 3, 5, 8, 13, 21, 40]


def rounded(seed: int, *shape: int) -> np.ndarray:
    """Scores of one decimal, so that many are equal."""
    return np.random.default_rng(seed).normal(size=shape).round(1).astype(np.float32)


@pytest.mark.parametrize("largest", [40, 21])
def test_an_edge_is_in_the_circuit_if_its_rank_is_below_its_size(largest: int) -> None:
    scores = rounded(1, 40)
    assert len(np.unique(np.abs(scores))) < 25, "there are ties"
    found = ranks(scores, largest)
    for count in range(1, largest + 1):
        np.testing.assert_array_equal(found < count, top_edges(scores, count))


@pytest.mark.parametrize("largest", [40, 21])
def test_overlaps_are_the_jaccard_index_at_every_size(largest: int) -> None:
    a, b = rounded(1, 40), rounded(2, 40)
    counts = [count for count in COUNTS if count <= largest]
    found = overlaps(ranks(a, largest), ranks(b, largest), counts)
    slow = [jaccard(top_edges(a, count), top_edges(b, count)) for count in counts]
    np.testing.assert_array_equal(found, slow)


@pytest.mark.parametrize("contenders", [8, 1])
def test_halves_are_those_of_the_circuits_of_each_half(
    monkeypatch: pytest.MonkeyPatch, contenders: int
) -> None:
    monkeypatch.setattr(curves, "CONTENDERS", contenders)
    monkeypatch.setattr(curves, "COUNTED", 5)
    names, scores = ("arm", "mdm"), (rounded(3, 9, 40), rounded(4, 9, 40))
    splits = list(split_halves(9, 7, seed=5))
    pairs = [("arm", "arm"), ("arm", "mdm")]
    shown = np.array([0, 7, 39])
    counts = [count for count in COUNTS if count <= 13 or contenders > 1]
    found = halves(names, scores, splits, counts, pairs, shown)
    own = dict(zip(names, scores, strict=True))
    for first, second in pairs:
        for at, count in enumerate(counts):
            values = [
                jaccard(
                    top_edges(own[first][one].mean(axis=0), count),
                    top_edges(own[second][other].mean(axis=0), count),
                )
                for one, other in splits
            ]
            low, high = np.quantile(values, [0.025, 0.975])
            np.testing.assert_allclose(
                found.overlap[first, second][:, at], [np.mean(values), low, high]
            )
    assert found.n_halves == 10
    inside = found.entering.cumsum(axis=-1)
    for number, one in enumerate(scores):
        for at, count in enumerate(counts):
            circuits = [top_edges(one[rows].mean(axis=0), count) for s in splits[:5] for rows in s]
            np.testing.assert_array_equal(inside[number, :, at], np.sum(circuits, axis=0)[shown])


@pytest.mark.parametrize(("n_edges", "largest"), [(1108, 1108), (124_000, 2000), (7, 7)])
def test_stops_rise_to_the_largest_and_have_the_chapters_budgets(
    n_edges: int, largest: int
) -> None:
    found = stops(n_edges, largest)
    assert found == sorted(set(found))
    assert (found[0], found[-1]) == (1, largest)
    assert {one.count for one in edge_budgets(n_edges) if one.count <= largest} <= set(found)
    assert len(found) < 160


def test_chance_is_that_of_the_comparison() -> None:
    assert chance(40, [2, 40]) == [expected_jaccard(40, 2, 2), 1.0]


def test_only_edges_that_can_be_in_a_circuit_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """One strong block and many weak edges: the weak ones aren't ranked, and nothing changes."""
    strong = np.random.default_rng(6).normal(3, 0.1, size=(8, 30))
    weak = np.random.default_rng(7).normal(0, 0.1, size=(8, 500))
    scores = [np.hstack([weak, strong]).astype(np.float32)]
    splits, shown = list(split_halves(8, 5, seed=1)), np.arange(500, 530)
    looked = []

    def ranks(values: np.ndarray, largest: int) -> np.ndarray:
        looked.append(values.shape[-1])
        return real(values, largest)

    real = curves.ranks
    monkeypatch.setattr(curves, "ranks", ranks)
    counts = [1, 5, 10]
    found = halves(["arm"], scores, splits, counts, [("arm", "arm")], shown)
    assert set(looked) == {120}
    monkeypatch.setattr(curves, "CONTENDERS", 1000)
    whole = halves(["arm"], scores, splits, counts, [("arm", "arm")], shown)
    assert looked[-1] == 530
    np.testing.assert_array_equal(found.overlap["arm", "arm"], whole.overlap["arm", "arm"])
    np.testing.assert_array_equal(found.entering, whole.entering)
