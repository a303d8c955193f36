"""How much two circuits have in common: edges, components, and heads by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import hypergeom

from mechshift_lib.choices import RANKINGS
from mechshift_lib.comparison.edges import Edges
from mechshift_lib.errors import CircuitError

Mask = NDArray[np.bool_]

#: The paper's circuit: its 1,000 strongest edges, of the 935,747 of a Qwen2.5-7B-shaped graph.
PAPER_EDGES = 1000
PAPER_FRACTION = 1000 / 935_747
#: The paper's top-K of components, of the 28 x 28 heads and 28 MLPs of Qwen2.5-7B.
PAPER_COMPONENT_FRACTION = 100 / 812
#: Budgets as fractions of all edges; :data:`REFERENCE_FRACTION` is the one single figures use.
FRACTIONS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
REFERENCE_FRACTION = 0.05


@dataclass(frozen=True)
class EdgeBudget:
    """A number of edges that makes a circuit, and where the number comes from."""

    label: str
    count: int
    fraction: float


def edge_budgets(n_edges: int, fractions: Sequence[float] = FRACTIONS) -> list[EdgeBudget]:
    """Budgets for a graph: fractions of all edges, and the paper's fraction and count.

    The paper's fraction is left out where it comes to fewer than 10 edges, and its count where it
    takes half of the graph or more: neither says anything there. Sorted by count, each count once.
    """
    wanted = {max(1, round(f * n_edges)): f"{f:.1%}" for f in fractions}
    if round(PAPER_FRACTION * n_edges) >= 10:
        wanted.setdefault(round(PAPER_FRACTION * n_edges), "paper's fraction")
    if n_edges > 2 * PAPER_EDGES:
        wanted.setdefault(PAPER_EDGES, "paper's count")
    return [EdgeBudget(wanted[k], k, k / n_edges) for k in sorted(wanted)]


def top_edges(scores: ArrayLike, count: int, by: str = "absolute") -> Mask:
    """Mask of the ``count`` strongest edges along the last axis, ``[..., n_edges]``.

    Exactly ``count`` edges are chosen; of equal scores the earlier edge wins. ``by`` is
    ``absolute`` (|score|, as in the paper) or ``signed``.

    Raises:
        CircuitError: the count is below 1 or above the number of edges, or a score is NaN.
    """
    if by not in RANKINGS:
        raise CircuitError(f"Edges are ranked by 'absolute' or 'signed' scores, not {by!r}.")
    values = np.abs(np.asarray(scores)) if by == "absolute" else np.asarray(scores)
    n_edges = values.shape[-1]
    if not 1 <= count <= n_edges:
        raise CircuitError(f"A circuit of {count} edges can't be taken from {n_edges} edges.")
    if np.isnan(values).any():
        raise CircuitError("An edge's score is not a number: the attribution it is from failed.")
    threshold = np.partition(values, n_edges - count, axis=-1)[..., n_edges - count, None]
    above = values > threshold
    tied = values == threshold
    room = count - above.sum(axis=-1, keepdims=True)
    return above | (tied & (np.cumsum(tied, axis=-1) <= room))


def top_edges_at(scores: NDArray[np.floating], counts: Sequence[int]) -> Mask:
    """:func:`top_edges` of one circuit ``[n_edges]`` at several counts, ``[n_counts, n_edges]``.

    The scores are partitioned once for all counts.
    """
    values = np.abs(scores)
    n_edges = values.size
    if not all(1 <= count <= n_edges for count in counts) or np.isnan(values).any():
        return np.stack([top_edges(scores, count) for count in counts])  # which says what is wrong
    ranked = np.partition(values, sorted({n_edges - count for count in counts}))
    masks = np.stack([values >= ranked[n_edges - count] for count in counts])
    for mask, count in zip(masks, counts, strict=True):
        if np.count_nonzero(mask) != count:  # a tie at the threshold
            mask[:] = top_edges(scores, count)
    return masks


def jaccard(a: Mask, b: Mask) -> NDArray[np.float64]:
    """Jaccard index |A ∩ B| / |A ∪ B| along the last axis; NaN where both sets are empty."""
    both = np.logical_and(a, b).sum(axis=-1)
    either = np.logical_or(a, b).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(both / np.where(either == 0, np.nan, either), dtype=np.float64)


def expected_jaccard(n: int, size_a: int, size_b: int) -> float:
    """Mean Jaccard index of two sets of these sizes drawn at random from ``n``.

    The intersection is hypergeometric; the mean is taken over it exactly. It is the chance level
    of an overlap. Two empty sets have none (NaN).

    Raises:
        CircuitError: a set is larger than ``n``.
    """
    if not (0 <= size_a <= n and 0 <= size_b <= n):
        raise CircuitError(f"Sets of {size_a} and {size_b} can't be drawn from {n}.")
    if size_a + size_b == 0:
        return float("nan")
    shared = np.arange(max(0, size_a + size_b - n), min(size_a, size_b) + 1)
    return float(
        np.sum(hypergeom.pmf(shared, n, size_a, size_b) * shared / (size_a + size_b - shared))
    )


def component_scores(
    edges: Edges, scores: ArrayLike, mask: Mask | None = None
) -> NDArray[np.float64]:
    """Sum of the attributions of each component's edges in the set, ``[..., n_components]``.

    An edge belongs to the component that writes it and to the one that reads it (through any of
    q, k and v). The paper doesn't say which of its edges a component is given; this is the
    reading in which no edge is left out. Signed: a positive score means that corrupting the
    component's edges lowers the metric.
    """
    values = np.asarray(scores, dtype=np.float64)
    kept = np.broadcast_to(True if mask is None else mask, values.shape)
    n_edges, n_components = values.shape[-1], len(edges.components)
    total = np.zeros((values.size // n_edges, n_components))
    rows = zip(total, values.reshape(-1, n_edges), kept.reshape(-1, n_edges), strict=True)
    for row, value, chosen in rows:
        inside = np.flatnonzero(chosen)
        for ends in (edges.source[inside], edges.reader[inside]):
            # Code -1 (input, logits) counts at 0 and is dropped.
            row += np.bincount(ends + 1, weights=value[inside], minlength=n_components + 1)[1:]
    return total.reshape(*values.shape[:-1], n_components)


@dataclass(frozen=True)
class ComponentOverlap:
    """Overlap of two top-K sets of components in both readings of the word.

    ``share`` is |A ∩ B| / K, ``jaccard`` is |A ∩ B| / |A ∪ B|. ``k`` is the K that was used:
    fewer where a circuit touches fewer components.
    """

    k: int
    share: float
    jaccard: float
    chance: float


def component_count(n_components: int) -> int:
    """The paper's K = 100 of 812 components as the same fraction of this graph, at least 3."""
    return min(n_components, max(3, round(PAPER_COMPONENT_FRACTION * n_components)))


def component_overlap(a: NDArray[np.float64], b: NDArray[np.float64], k: int) -> ComponentOverlap:
    """Overlap of the ``k`` components with the largest |score| in each circuit, ``[n_components]``.

    Components with a score of exactly 0 (no edge in the set) are never chosen.
    """
    k = min(k, int(np.count_nonzero(a)), int(np.count_nonzero(b)))
    if k == 0:
        nan = float("nan")
        return ComponentOverlap(0, nan, nan, nan)
    in_a, in_b = top_edges(a, k), top_edges(b, k)
    return ComponentOverlap(
        k=k,
        share=float(np.logical_and(in_a, in_b).sum() / k),
        jaccard=float(jaccard(in_a, in_b)),
        chance=expected_jaccard(a.size, k, k),
    )


def shared_attribution(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Σ min of the two circuits' shares of summed |score|, along the last axis, ``[...]``.

    The part of the attribution that stays where it is; no number of components is chosen.
    """
    shares = []
    for scores in (a, b):
        size = np.abs(np.asarray(scores, dtype=np.float64))
        total = size.sum(axis=-1, keepdims=True)
        shares.append(size / np.where(total == 0, np.nan, total))
    return np.asarray(np.minimum(*shares).sum(axis=-1))


def used_components(edges: Edges, mask: Mask) -> Mask:
    """Which components write or read an edge of the set, ``[n_components]``."""
    used = np.zeros(len(edges.components), dtype=bool)
    for ends in (edges.source[mask], edges.reader[mask]):
        used[ends[ends >= 0]] = True
    return used


def head_usage(edges: Edges, first: Mask, second: Mask) -> NDArray[np.int64]:
    """Attention heads by layer: used by the first only, by the second only, by both.

    Returns:
        Counts ``[n_layers, 3]``. The paper's difference (MDM minus ARM) is column 1 minus column 0
        when the first is the ARM.
    """
    is_head = edges.component_head >= 0
    a, b = used_components(edges, first) & is_head, used_components(edges, second) & is_head
    layers = edges.component_layer
    return np.stack(
        [
            np.bincount(layers[chosen], minlength=edges.n_layers)
            for chosen in (a & ~b, b & ~a, a & b)
        ],
        axis=1,
    ).astype(np.int64)
