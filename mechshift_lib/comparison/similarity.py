"""How alike two circuits are, and what is left of it once the noise of both is divided out.

An overlap of two estimated circuits is low for two reasons: the circuits differ, or the estimates
are noisy. Tasks differ in noise, so their overlaps can't be compared as they are. With disjoint
halves of the examples 1 and 2, and a measure m of two mean score vectors,

    corrected = m(A₁, B₂) / √( m(A₁, A₂) · m(B₁, B₂) ),

the similarity divided by what two halves of the same model allow (Spearman's 1904 correction for
attenuation, with m the correlation; for other measures it is the same idea and no identity). It is
1 for two models that differ by noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mechshift_lib.comparison.bootstrap import split_halves
from mechshift_lib.comparison.overlap import jaccard, top_edges
from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]
#: Random halves behind every row of :func:`table`.
TABLE_SPLITS = 20
#: Two mean score vectors ``[..., n_edges]`` -> their similarity ``[...]``.
Measure = Callable[[Array, Array], Array]


def cosine(a: ArrayLike, b: ArrayLike) -> Array:
    """Cosine of two score vectors along the last axis; NaN where one is 0 throughout."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    norm = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray((x * y).sum(-1) / np.where(norm == 0, np.nan, norm))


def spearman(a: ArrayLike, b: ArrayLike) -> Array:
    """Correlation of the ranks of all edges by |score|."""
    ranks = [rankdata(np.abs(np.asarray(x)), axis=-1) for x in (a, b)]
    return cosine(*(x - x.mean(-1, keepdims=True) for x in ranks))


def weighted_jaccard(a: ArrayLike, b: ArrayLike) -> Array:
    """Σ min / Σ max of the two circuits' shares of summed |score|: no threshold to choose."""
    shares = []
    for x in (a, b):
        size = np.abs(np.asarray(x, dtype=np.float64))
        shares.append(size / size.sum(-1, keepdims=True))
    return np.asarray(np.minimum(*shares).sum(-1) / np.maximum(*shares).sum(-1))


def rank_biased_overlap(a: ArrayLike, b: ArrayLike, p: float = 0.98) -> Array:
    """Overlap of two rankings by |score|, their tops counting most (Webber et al. 2010, eq. 4).

    Args:
        a: scores ``[..., n_edges]``.
        b: scores, likewise.
        p: weight of depth d is ``p**(d - 1)``: the first 1 / (1 - p) edges carry 63 % of it.

    Returns:
        Between 0 and 1, 1 for equal rankings (all ranks are known, so nothing is extrapolated).
    """
    x, y = (np.abs(np.asarray(scores)) for scores in (a, b))
    n = x.shape[-1]
    order = [np.argsort(-z, axis=-1, kind="stable") for z in (x, y)]
    ranks = [np.argsort(o, axis=-1, kind="stable") for o in order]
    # An edge is in both tops of depth d from its later rank on.
    later = np.maximum(*ranks)
    flat = later.reshape(-1, n)
    both = np.stack([np.bincount(row, minlength=n) for row in flat]).cumsum(-1)
    depth = np.arange(1, n + 1)
    weight = p ** (depth - 1.0)
    value = (both / depth) @ weight / weight.sum()
    return np.asarray(value.reshape(later.shape[:-1]))


def top_jaccard(a: ArrayLike, b: ArrayLike, count: int) -> Array:
    """Jaccard index of the ``count`` strongest edges of each."""
    return np.asarray(jaccard(top_edges(a, count), top_edges(b, count)))


def measures(count: int) -> dict[str, Measure]:
    """Every measure of this module by name, Jaccard's at ``count`` edges."""
    return {
        "jaccard": partial(top_jaccard, count=count),
        "cosine": cosine,
        "weighted-jaccard": weighted_jaccard,
        "rbo": rank_biased_overlap,
        "spearman": spearman,
    }


@dataclass(frozen=True)
class Corrected:
    """A similarity of two circuits over disjoint halves of the examples.

    Attributes:
        between: of the two models, m(A₁, B₂).
        first: of the first model with itself, m(A₁, A₂).
        second: of the second.
    """

    between: float
    first: float
    second: float

    @property
    def ceiling(self) -> float:
        """What two models that differ by noise alone would have."""
        return float(np.sqrt(max(self.first, 0.0) * max(self.second, 0.0)))

    @property
    def value(self) -> float:
        """Between, divided by the ceiling; NaN where a model doesn't agree with itself at all."""
        return self.between / self.ceiling if self.ceiling > 0 else float("nan")


def corrected(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    measure: Measure,
    *,
    splits: int = 50,
    seed: int = 0,
) -> Corrected:
    """Similarity of two models' circuits with what noise allows, over random halves.

    Args:
        a: scores of the first model, ``[n_example, n_edges]``.
        b: scores of the second over the same examples.
        measure: of two mean score vectors.
        splits: random halves that are averaged over, before anything is divided.
        seed: seed of the halves.

    Raises:
        CircuitError: the examples differ in number, or there are fewer than 4.
    """
    if len(a) != len(b) or len(a) < 4:
        raise CircuitError("Halves need the same examples of both models, and at least 4.")
    halves = list(split_halves(len(a), splits, seed))
    weights = np.zeros((2, splits, len(a)))
    for i, pair in enumerate(halves):
        for half, rows in enumerate(pair):
            weights[half, i, rows] = 1 / len(rows)
    (a1, a2), (b1, b2) = ((weights @ np.asarray(x, dtype=np.float64)) for x in (a, b))
    between = (measure(a1, b2).mean() + measure(a2, b1).mean()) / 2
    return Corrected(float(between), float(measure(a1, a2).mean()), float(measure(b1, b2).mean()))


def way_gone(
    start: NDArray[np.floating], now: NDArray[np.floating], end: NDArray[np.floating]
) -> tuple[float, float]:
    """How far a circuit has gone from one to another, along the straight line between them.

    Circuits are compared by their directions: each is divided by the norm of its mean. With d(x) =
    x - start, the way is ⟨d(now), d(end)⟩ / ⟨d(end), d(end)⟩, and both products are between
    disjoint examples, so that the noise of an estimate isn't taken for a way.

    Args:
        start: scores where the way begins, ``[n_example, n_edges]`` (or groups of examples).
        now: scores in between, over the same examples.
        end: scores where it ends.

    Returns:
        The share of the way (0 at the start, 1 at the end; NaN where the two are no further apart
        than their noise), and the squared distance of start and end, noise taken out.

    Raises:
        CircuitError: the examples differ in number, or there are fewer than 2.
    """
    if not len(start) == len(now) == len(end) or len(start) < 2:
        raise CircuitError("A way needs the same examples all along, and at least 2.")
    begun, here, ended = (
        np.asarray(x, dtype=np.float64) / np.linalg.norm(np.mean(x, axis=0, dtype=np.float64))
        for x in (start, now, end)
    )
    moved, whole = here - begun, ended - begun
    along, length = _between_examples(moved, whole), _between_examples(whole, whole)
    return (along / length if length > 0 else float("nan")), length


def _between_examples(a: Array, b: Array) -> float:
    """Mean inner product of rows of two tables, over pairs of different rows."""
    products = a @ b.T
    n = len(products)
    return float((products.sum() - np.trace(products)) / (n * (n - 1)))


def table(
    first: NDArray[np.floating], others: Mapping[str, NDArray[np.floating]], count: int
) -> list[dict[str, float | str | int]]:
    """Every measure of one model against others: one row each, plain and corrected.

    Returns:
        ``comparison, measure, plain`` (all examples), ``between, ceiling, corrected``, ``n``.
    """
    rows: list[dict[str, float | str | int]] = []
    for name, other in others.items():
        for measure, of in measures(count).items():
            found = corrected(first, other, of, splits=TABLE_SPLITS)
            rows.append(
                {
                    "comparison": name,
                    "measure": measure,
                    "plain": float(of(first.mean(0), other.mean(0))),
                    "between": found.between,
                    "ceiling": found.ceiling,
                    "corrected": found.value,
                    "n": len(first),
                }
            )
    return rows
