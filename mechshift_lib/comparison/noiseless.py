"""How alike two circuits are, once the noise of both is taken off: the measure of C1.

Two circuits of the same examples are vectors of mean scores, a and b. Their **noiseless cosine** is

    c = ⟨a, b⟩ / √(⟨a, a⟩ ⟨b, b⟩),   ⟨a, b⟩ = mean over i ≠ j of Σₑ wₑ aᵢₑ bⱼₑ.

Products are of *different* examples i and j, so what an example adds to both circuits by chance
has mean 0 in them: c is 1 for models that differ by noise alone, however noisy (as in
cross-validated distances: Walther et al. 2016, doi:10.1016/j.neuroimage.2015.12.012). It doesn't
change where one circuit is the other times a number.

Scores are heavy-tailed: without weights a handful of edges is all of ⟨a, b⟩, and what chance moves
on a handful of edges is skewed, so intervals over a few trainings don't cover. The weight of an
edge is 1 / its standard deviation over examples (in the first model), which lets several times as
many edges count. Simulated worlds (:mod:`mechshift_lib.comparison.worlds`) chose this measure:
distance, cosine, cosine² and tan² were tried, each with weights of the standard deviation to the
power 0, -1, -1.5 and -2. Without weights up to 8 % of verdicts were false; a cosine² leans towards
the claim where models drift far; a distance takes a change of scale for a change of circuit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]
#: Variance that every edge has at least, as a part of the edges' mean: no weight is endless.
FLOOR = 0.01


def weights(scores: NDArray[np.floating]) -> Array:
    """Weight of every edge, 1 / its standard deviation over examples, ``[n_edges]``.

    Args:
        scores: ``[n_example, n_edges]``.

    Raises:
        CircuitError: no edge's score varies.
    """
    variance = np.asarray(scores, dtype=np.float64).var(0, ddof=1)
    if not variance.any():
        raise CircuitError("These scores are the same in every example, so none can be weighed.")
    return np.asarray(1 / np.sqrt(variance + FLOOR * variance.mean()))


def product(a: NDArray[np.floating], b: NDArray[np.floating], weight: Array) -> float:
    """⟨a, b⟩ of this module: unbiased, so it may be negative for two that are noise only.

    Args:
        a: scores, ``[n_example, n_edges]``.
        b: scores over the same examples.
        weight: of every edge, ``[n_edges]``.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return _product(x * weight, y)


def _product(weighted: Array, other: Array) -> float:
    """:func:`product` of two circuits, the first of which is weighed already."""
    n = len(weighted)
    # All pairs of examples, without those of an example with itself.
    different = weighted.sum(0) @ other.sum(0) - np.vdot(weighted, other)
    return float(different / (n * (n - 1)))


def noiseless_cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """The cosine of two circuits without the noise of either.

    Args:
        a: scores of the first model, whose noise gives the weights, ``[n_example, n_edges]``.
        b: scores of the second over the same examples.

    Returns:
        1 for circuits that differ by noise and scale alone (a little above it by chance), 0 for
        unrelated ones; NaN where one of the two is noise only.

    Raises:
        CircuitError: the examples differ in number, or there are fewer than 4.
    """
    return noiseless_cosines(a, [b])[0]


def noiseless_cosines(
    a: NDArray[np.floating], others: Sequence[NDArray[np.floating]]
) -> list[float]:
    """:func:`noiseless_cosine` of one circuit with each of several, which takes less time."""
    if len(a) < 4 or any(len(a) != len(b) for b in others):
        raise CircuitError("Two circuits need the same examples to be compared, and at least 4.")
    weight, first = weights(a), np.asarray(a, dtype=np.float64)
    weighted = first * weight
    own, found = _product(weighted, first), []
    for b in others:
        second = np.asarray(b, dtype=np.float64)
        its = _product(second * weight, second)
        clear = min(own, its) > 0
        cosine = _product(weighted, second) / np.sqrt(own * its) if clear else np.nan
        found.append(float(cosine))
    return found
