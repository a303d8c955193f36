"""How sure we are: intervals for proportions and for statistics of mean scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]
#: From mean scores of each circuit, each ``[draws, n_edges]``, to statistics ``[draws, n_stats]``.
Statistic = Callable[..., Array]


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); (0, 1) when nothing was tried.

    Raises:
        ValueError: the number of successes is negative or above ``n``.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return 0.0, 1.0
    z = float(norm.ppf(0.5 + level / 2))
    p = successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


@dataclass(frozen=True)
class Estimate:
    """A statistic of all examples and what resampling the examples says about it.

    Attributes:
        value: the statistic of the mean scores over all examples, ``[n_stats]``.
        low: lower end of the interval, ``[n_stats]``.
        high: upper end, ``[n_stats]``.
        bias: mean over the draws minus ``value``, ``[n_stats]``.
    """

    value: Array
    low: Array
    high: Array
    bias: Array


@lru_cache(maxsize=16)
def resample(n: int, draws: int, seed: int) -> Array:
    """Weights of bootstrap samples, ``[draws, n]``: how often each example is drawn, over n.

    Not to be written to: a chapter asks for the same ones again and again.
    """
    rng = np.random.default_rng(seed)
    weights: Array = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
    weights.flags.writeable = False
    return weights


def bootstrap(
    by_example: Sequence[NDArray[np.floating]],
    statistic: Statistic,
    *,
    draws: int,
    seed: int = 0,
    level: float = 0.95,
    recentre: bool = False,
    bounds: tuple[float, float] | None = None,
    chunk: int = 16,
) -> Estimate:
    """Paired bootstrap over examples: resample them, average their scores, take the statistic.

    Row i of every circuit must be the same example; each draw uses the same examples for all of
    them, so that what an example does to all circuits alike cancels out of their differences.

    A resampled circuit is noisier than the one of all examples, because it repeats examples:
    overlaps of sets of draws lie *below* the overlap of the estimate (``bias`` says by how much)
    and the percentile interval may leave it out. ``recentre`` shifts the interval by the bias: it
    then shows the spread of the estimate around itself, and corrects nothing.

    Args:
        by_example: scores of each circuit, each ``[n_examples, n_edges]``.
        statistic: takes the mean scores of each circuit, each ``[draws, n_edges]``, to
            ``[draws, n_stats]``.
        draws: bootstrap samples.
        seed: seed of the resampling.
        level: coverage of the interval.
        recentre: shift the interval by the bias.
        bounds: values that the statistic can't leave; the interval is clipped to them.
        chunk: draws taken at once (memory: chunk x n_edges for every circuit).

    Raises:
        CircuitError: the circuits have different numbers of examples, or fewer than 2.
    """
    sizes = {scores.shape[0] for scores in by_example}
    if len(sizes) != 1:
        raise CircuitError("A paired bootstrap needs the same examples in every circuit.")
    n = sizes.pop()
    if n < 2:
        raise CircuitError("Resampling examples needs at least 2 of them.")
    weights = resample(n, draws, seed)
    whole = statistic(*(scores.mean(axis=0, keepdims=True) for scores in by_example))[0]
    drawn = np.concatenate(
        [
            statistic(*((weights[i : i + chunk].astype(s.dtype) @ s) for s in by_example))
            for i in range(0, draws, chunk)
        ]
    )
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    bias = drawn.mean(axis=0) - whole
    if recentre:
        low, high = low - bias, high - bias
    if bounds is not None:
        low, high = np.clip(low, *bounds), np.clip(high, *bounds)
    return Estimate(np.asarray(whole, dtype=np.float64), low, high, bias)


def split_halves(
    n: int, splits: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Random halves of ``n`` examples, disjoint and of equal size (one is left out if n is odd).

    Raises:
        CircuitError: there are fewer than 2 examples.
    """
    if n < 2:
        raise CircuitError("Halves of the examples need at least 2 of them.")
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        order = rng.permutation(n)
        yield np.sort(order[: n // 2]), np.sort(order[n // 2 : 2 * (n // 2)])
