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

from mechshift_lib.comparison.overlap import edge_budgets, expected_jaccard

#: Sizes up to this are all offered; above, each is this much larger than the one before.
SINGLY, GROWTH = 20, 1.05
#: Splits of which it is said which edges are in their halves' circuits: enough for a share.
COUNTED = 25
#: In a large graph, this many times as many edges as a circuit's are looked at in each half.
CONTENDERS = 12
#: Splits that are taken at once.
CHUNK = 20
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


def ranks(scores: NDArray[np.float32], largest: int) -> NDArray[np.int32]:
    """Rank of each edge by |score|, 0 the strongest, ``[..., n_edges]``; of equals the earlier one.

    Ranks from ``largest`` on aren't told apart: they are ``largest``.
    """
    # One number an edge, to be sorted without looking anything up: a float's bits grow with its
    # size, so the strongest edge has the least number, and of equals the one whose place is least.
    bits = np.abs(scores, dtype=np.float32).view(np.uint32).astype(np.uint64)
    low = np.uint64(0xFFFFFFFF)
    keys = ((low - bits) << np.uint64(32)) | np.arange(scores.shape[-1], dtype=np.uint64)
    keys.sort(axis=-1)
    found = np.full(scores.shape, largest, dtype=np.int32)
    order = (keys[..., :largest] & low).astype(np.int64)
    np.put_along_axis(found, order, np.arange(largest, dtype=np.int32), axis=-1)
    return found


def overlaps(
    first: NDArray[np.int32], second: NDArray[np.int32], counts: Sequence[int]
) -> NDArray[np.float64]:
    """Jaccard index of two circuits at each size, from their :func:`ranks`, ``[..., n_counts]``."""
    sizes, length = np.asarray(counts), max(counts) + 1
    worse = np.minimum(np.maximum(first, second), length - 1).reshape(-1, first.shape[-1])
    rows = np.arange(len(worse))[:, None] * length
    entered = np.bincount((worse + rows).ravel(), minlength=len(worse) * length)
    shared = entered.reshape(-1, length).cumsum(axis=1)[:, sizes - 1]
    return np.asarray(shared / (2 * sizes - shared)).reshape(*first.shape[:-1], len(sizes))


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
            (its sum over sizes up to one is how many it is in there), ``[n_circuit, n_shown,
            n_counts]``.
        n_halves: of how many.
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
        splits: rows of the two halves of the examples; of the first :data:`COUNTED` it is said
            which edges are in their circuits.
        counts: sizes of circuits, ascending.
        pairs: which circuits' halves are set against each other; a circuit's own, too.
        shown: edges of which it is said in how many circuits they are, ascending, ``[n_shown]``.
    """
    among, bound = _contenders(scores, splits, counts[-1])
    among = np.union1d(among, shown)
    found = _halves(names, scores, splits, counts, pairs, shown, among, bound)
    if found is None:  # an edge that was left out may be in some half's circuit
        every = np.arange(scores[0].shape[1])
        found = _halves(names, scores, splits, counts, pairs, shown, every, -1.0)
        assert found is not None
    return found


def _contenders(
    scores: Sequence[NDArray[np.float32]], splits: Sequence[Split], largest: int
) -> tuple[NDArray[np.int64], float]:
    """Edges that are likely in some half's circuit, and what no other's |score| exceeds in a half.

    A half's mean is at most the sum of all examples' |scores|, divided by the half's size.
    """
    least = min(len(rows) for split in splits for rows in split)
    most = np.max([np.abs(one).sum(axis=0, dtype=np.float64) / least for one in scores], axis=0)
    n_edges, kept = most.size, CONTENDERS * largest
    if n_edges <= kept:
        return np.arange(n_edges), -1.0
    order = np.argpartition(-most, kept)
    return np.sort(order[:kept]), float(most[order[kept]]) * (1 + 1e-5)  # sums are rounded


def _halves(
    names: Sequence[str],
    scores: Sequence[NDArray[np.float32]],
    splits: Sequence[Split],
    counts: Sequence[int],
    pairs: Sequence[tuple[str, str]],
    shown: NDArray[np.int64],
    among: NDArray[np.int64],
    bound: float,
) -> Halves | None:
    """:func:`halves` of some of the edges only; None where another may be in a circuit."""
    largest, places = counts[-1], np.searchsorted(among, shown)
    # Rank -> the smallest size whose circuit has it; those beyond all go to a column that is cut.
    first_size = np.searchsorted(counts, np.arange(1, largest + 2))
    drawn: dict[tuple[str, str], list[NDArray[np.float64]]] = {pair: [] for pair in pairs}
    entering = np.zeros((len(names), len(shown), len(counts) + 1), dtype=np.uint8)
    every, parts = np.arange(len(shown)), [one[:, among] for one in scores]
    for start in range(0, len(splits), CHUNK):
        rows = np.array(splits[start : start + CHUNK])  # [n_split, 2, n_example // 2]
        ranked = {}
        for place, (name, one) in enumerate(zip(names, parts, strict=True)):
            means = one[rows].mean(axis=2)
            found = ranked[name] = ranks(means, largest)
            if np.where(found < largest, np.abs(means), np.inf).min() <= bound:
                return None
            for half in found[: max(0, COUNTED - start)].reshape(-1, len(among)):
                entering[place, every, first_size[half[places]]] += 1
        for first, second in pairs:
            drawn[first, second] += list(
                overlaps(ranked[first][:, 0], ranked[second][:, 1], counts)
            )
    overlap = {}
    for pair, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975], axis=0)
        overlap[pair] = np.stack([np.mean(values, axis=0), low, high])
    return Halves(overlap, entering[:, :, :-1], 2 * min(COUNTED, len(splits)))
