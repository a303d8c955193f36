"""How many explanations a set of neurons has, and how much explained neurons vary.

Kong et al. (arXiv 2601.14758) give a number of "unique explanatory components" and a variance for
each model, and don't say how they are counted. Each is given here as it stands, and in a form that
neither the number of neurons nor the size of a model's activations makes larger.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from mechshift_lib.errors import ModelError

#: Score from which a neuron counts as explained: a quarter of its variance is predicted.
EXPLAINED = 0.5
#: Scores at which that is shown.
THRESHOLDS = (0.3, EXPLAINED, 0.7)


def expected_distinct(counts: Sequence[int], m: int) -> float:
    """Expected number of different explanations among ``m`` neurons drawn without replacement.

    Rarefaction (Hurlbert 1971, "The nonconcept of species diversity"): Σᵢ 1 − C(N − nᵢ, m)/C(N, m)
    for nᵢ neurons with explanation i and N in all. So models of which different numbers are
    explained can be compared. With m = N it is the number of explanations.

    Args:
        counts: neurons with each explanation.
        m: neurons that are drawn.

    Returns:
        1 to ``min(m, len(counts))``; NaN where there are fewer than ``m`` neurons.

    Raises:
        ModelError: fewer than one neuron is to be drawn.
    """
    if m < 1:
        raise ModelError(f"Explanations of {m} neurons can't be counted: draw one at least.")
    n = np.asarray(counts, dtype=np.float64)
    total = n.sum()
    if total < m:
        return float("nan")
    rest = total - n
    some = rest >= m  # else every draw meets it
    missed = np.zeros_like(n)
    logs = _choose(rest[some], m) - _choose(np.array([total]), m)
    missed[some] = np.exp(logs)
    return float((1 - missed).sum())


def _choose(n: NDArray[np.float64], m: int) -> NDArray[np.float64]:
    """Logarithm of the binomial coefficients."""
    found: NDArray[np.float64] = gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1)
    return found


def crowding(counts: Sequence[int]) -> tuple[float, float]:
    """Variance of the number of neurons per explanation, and that over its mean squared.

    The second reading of the paper's variance: the more neurons share few of the explanations, the
    larger it is. Both NaN without an explanation.
    """
    n = np.asarray(counts, dtype=np.float64)
    if not len(n):
        return float("nan"), float("nan")
    return float(n.var()), float(n.var() / n.mean() ** 2)


def relative_variance(activations: ArrayLike) -> NDArray[np.float64]:
    """Variance of each neuron's activations over the mean variance of its layer's, ``[n_neuron]``.

    1 on average in every layer, however large a model's activations are; all 1 where none varies.

    Args:
        activations: of one layer, ``[n_position, n_neuron]``.
    """
    variance = np.asarray(activations, dtype=np.float64).var(0)
    mean = variance.mean()
    return variance / mean if mean > 0 else np.ones_like(variance)
