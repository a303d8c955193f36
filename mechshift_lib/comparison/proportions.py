"""Intervals of accuracies, also where every example came out alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Array = NDArray[np.float64]
#: Bootstrap means that differ by no more than this are one value and rounding.
ROUNDING = 1e-9


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion (Clopper & Pearson 1934).

    Raises:
        ValueError: ``n`` isn't positive, or the successes are negative or above it.
    """
    found = binomtest(successes, n).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


def mean_interval(drawn: Array, n: int, bounds: tuple[float, float]) -> tuple[float, float]:
    """95 % interval of a mean over examples whose values have bounds.

    Where every example has the same value, resampling them has no spread and would pretend to
    certainty. Then at most the exact bound's share of all examples has another value, which is at
    worst one of ``bounds``: 0 failures of 16 are 0 [0, 0.206].

    Args:
        drawn: the mean of all examples, then of bootstrap samples, ``[1 + draws]``.
        n: number of examples.
        bounds: least and largest value that an example can have, or their mean over the examples.
    """
    value = float(drawn[0])
    if float(np.ptp(drawn)) > ROUNDING:
        low, high = np.quantile(drawn[1:], [0.025, 0.975])
        return float(low), float(high)
    other = clopper_pearson(0, n)[1]
    return value + other * (bounds[0] - value), value + other * (bounds[1] - value)
