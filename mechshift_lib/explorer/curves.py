"""Overlap at every size of a circuit at once, and how often an edge is in the circuit of a half.

An edge is in the circuit of ``count`` edges exactly if its rank is below ``count``. So ranks say
everything about all sizes: the edges that two circuits share at a size are those whose larger rank
is below it. All of it equals :func:`~mechshift_lib.comparison.overlap.top_edges` and
:func:`~mechshift_lib.comparison.overlap.jaccard` taken at each size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.comparison.overlap import edge_budgets, expected_jaccard, top_edges

#: Sizes up to this are all offered; above, each is this much larger than the one before.
SINGLY, GROWTH = 20, 1.05
#: Two rows of a split: the examples of either half.
Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def stops(n_edges: int, largest: int) -> list[int]:
    """Sizes of circuits that can be chosen, ascending, from 1 to ``largest``.

    The budgets of the overlap chapters are among them, so that the same numbers stand in both.
    """
    found = {budget.count for budget in edge_budgets(n_edges)} | {largest}
    count = 1
    while count < largest:
        found.add(count)
        count = count + 1 if count < SINGLY else max(count + 1, round(count * GROWTH))
    return sorted(count for count in found if count <= largest)


def ranks(scores: NDArray[np.floating], largest: int) -> NDArray[np.int32]:
    """Rank of each edge by |score|, 0 the strongest, ``[n_edges]``; of equals the earlier first.

    Ranks from ``largest`` on aren't told apart: they are ``largest``.
    """
    found = np.full(scores.size, largest, dtype=np.int32)
    whole = largest == scores.size  # else only those that are wanted are sorted
    chosen = np.arange(largest) if whole else np.flatnonzero(top_edges(scores, largest))
    order = np.argsort(-np.abs(scores[chosen]), kind="stable")  # they are ascending: ties are kept
    found[chosen[order]] = np.arange(largest)
    return found


def overlaps(
    first: NDArray[np.int32], second: NDArray[np.int32], counts: Sequence[int]
) -> NDArray[np.float64]:
    """Jaccard index of two circuits at each size, from their :func:`ranks`, ``[n_counts]``."""
    sizes = np.asarray(counts)
    worse = np.bincount(np.maximum(first, second), minlength=int(sizes.max()))
    shared = np.cumsum(worse)[sizes - 1]
    return np.asarray(shared / (2 * sizes - shared), dtype=np.float64)


def chance(n_edges: int, counts: Sequence[int]) -> list[float]:
    """Mean Jaccard index of two random circuits at each size."""
    return [expected_jaccard(n_edges, count, count) for count in counts]


@dataclass(frozen=True)
class Halves:
    """What splitting the examples into halves says of the circuits of one training.

    Attributes:
        overlap: two circuits' names -> overlap of the one's first half with the other's second,
            rows mean, 2.5 % and 97.5 % over the splits, ``[3, n_counts]``.
        entering: in how many of the halves' circuits an edge is that it isn't in at the size before
            (its sum over sizes up to one is how many it is in there), ``[n_circuit, n_edges,
            n_counts]``.
        n_halves: of how many, twice the number of splits.
    """

    overlap: dict[tuple[str, str], NDArray[np.float64]]
    entering: NDArray[np.uint8]
    n_halves: int


def halves(
    names: Sequence[str],
    scores: Sequence[NDArray[np.float32]],
    splits: Sequence[Split],
    counts: Sequence[int],
    pairs: Sequence[tuple[str, str]],
    shown: NDArray[np.int64],
) -> Halves:
    """Circuits of halves of the examples, against each other and edge by edge.

    Args:
        names: of the circuits.
        scores: of each over the same examples, each ``[n_example, n_edges]``.
        splits: rows of the two halves of the examples; at most 127, as inclusion is a byte.
        counts: sizes of circuits, ascending.
        pairs: which circuits' halves are set against each other; a circuit's own, too.
        shown: edges whose inclusion is wanted.
    """
    largest = counts[-1]
    # Rank -> the smallest size whose circuit has it; those beyond all go to a column that is cut.
    first_size = np.searchsorted(counts, np.arange(1, largest + 2))
    drawn: dict[tuple[str, str], list[NDArray[np.float64]]] = {pair: [] for pair in pairs}
    entering = np.zeros((len(names), len(shown), len(counts) + 1), dtype=np.uint8)
    every = np.arange(len(shown))
    for split in splits:
        ranked = {}
        for number, (name, one) in enumerate(zip(names, scores, strict=True)):
            for half, rows in enumerate(split):
                found = ranks(one[rows].mean(axis=0), largest)
                ranked[name, half] = found
                entering[number, every, first_size[found[shown]]] += 1
        for first, second in pairs:
            drawn[first, second].append(overlaps(ranked[first, 0], ranked[second, 1], counts))
    overlap = {}
    for pair, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975], axis=0)
        overlap[pair] = np.stack([np.mean(values, axis=0), low, high])
    return Halves(overlap, entering[:, :, :-1], 2 * len(splits))
