"""Faithfulness as numbers: what share of the model's behaviour a circuit keeps.

f(C) = (m(C) − m(∅)) / (m(full) − m(∅)), m being the mean metric over the examples when only the
edges of C are intact, ∅ no edge and ``full`` all of them (the MIB benchmark, Mueller et al. 2025).
It is a ratio of means, not a mean of ratios: single examples whose metric hardly changes would
blow it up. CPR and CMD are areas over the fraction of edges kept, by the trapezoid rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]

#: Fractions of the edges at which the MIB benchmark evaluates a ranking.
FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

Area = Literal["cpr", "cmd"]
#: The ranking that each area is defined for; mixing them up makes numbers incomparable.
RANKING_OF: dict[Area, str] = {"cpr": "signed", "cmd": "absolute"}


@dataclass(frozen=True)
class Curve:
    """What a ranking's circuits of growing size keep of the behaviour.

    Attributes:
        fractions: shares of all edges, ascending, ``[n_point]``.
        n_edges: edges in each circuit, ``[n_point]``.
        by: how the edges were ranked, ``"signed"`` or ``"absolute"``.
        selection: how they were chosen, ``"top"`` or ``"greedy"``.
        examples: indices of the examples, ``[n_example]``.
        values: metric of each circuit on each example, ``[n_point, n_example]``.
        correct: share of the example's reads that each circuit answers right, as ``values``.
        full: metric of the whole model, ``[n_example]``.
        empty: metric with no edge intact, ``[n_example]``.
    """

    fractions: Array
    n_edges: NDArray[np.int64]
    by: str
    selection: str
    examples: NDArray[np.int64]
    values: Array
    correct: Array
    full: Array
    empty: Array

    @property
    def faithfulness(self) -> Array:
        """F of each circuit, ``[n_point]``.

        Raises:
            CircuitError: the whole model and the empty circuit have the same metric.
        """
        return faithfulness(self.values, self.full, self.empty)

    def frame(self, draws: int = 1000, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
        """One row per point.

        Columns: fraction, n_edges, value (mean metric), faithfulness, low and high (bootstrap
        interval of the faithfulness over examples, NaN for a single one), correct (mean share of
        right answers), full and empty (mean metric of the whole model and without any edge), n
        (examples).
        """
        drawn = faithfulness(self.values, self.full, self.empty, self._weights(draws, seed))
        low, high = _percentiles(drawn, level)
        return pd.DataFrame(
            {
                "fraction": self.fractions,
                "n_edges": self.n_edges,
                "value": self.values.mean(1),
                "faithfulness": self.faithfulness,
                "low": low,
                "high": high,
                "correct": self.correct.mean(1),
                "full": self.full.mean(),
                "empty": self.empty.mean(),
                "n": len(self.examples),
            }
        )

    def interval(
        self, area: Area, draws: int = 1000, seed: int = 0, level: float = 0.95
    ) -> tuple[float, float]:
        """Bootstrap interval of CPR or CMD over examples; NaN for a single example.

        Raises:
            CircuitError: as :func:`cpr` and :func:`cmd`.
        """
        _check_area(self, area)
        drawn = faithfulness(self.values, self.full, self.empty, self._weights(draws, seed))
        low, high = _percentiles(_area(area, self.fractions, drawn)[:, None], level)
        return float(low[0]), float(high[0])

    def _weights(self, draws: int, seed: int) -> Array:
        """How often each example is drawn, over their number, ``[draws, n_example]``."""
        n = len(self.examples)
        if n < 2:
            return np.full((1, n), np.nan)
        drawn: Array = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), draws) / n
        return drawn


def faithfulness(values: Array, full: Array, empty: Array, weights: Array | None = None) -> Array:
    """F of each circuit.

    Args:
        values: metric of each circuit on each example, ``[n_circuit, n_example]``.
        full: metric of the whole model, ``[n_example]``.
        empty: metric with no edge intact, ``[n_example]``.
        weights: weights of the examples, ``[draws, n_example]``; by default all weigh the same.

    Returns:
        ``[n_circuit]``, or ``[draws, n_circuit]`` with weights.

    Raises:
        CircuitError: the whole model and the empty circuit have the same mean metric, so nothing
            can be kept or lost.
    """
    span = float((full - empty).mean())
    if span == 0 or not np.isfinite(span):
        raise CircuitError(
            "The whole model and the empty circuit have the same metric: choose examples whose "
            "clean and corrupted inputs differ."
        )
    kept = values - empty
    if weights is None:
        ratio: Array = kept.mean(1) / span
        return ratio
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw may have no span
        drawn: Array = (weights @ kept.T) / (weights @ (full - empty))[:, None]
    return drawn


def cpr(curve: Curve) -> float:
    """Circuit performance ratio: ∫ f over the fraction of edges; large is good.

    Edges are ranked by signed score: helpful ones first, harmful ones last, so it can exceed 1.
    On MIB's grid the area starts at the first fraction and is not divided by the width.

    Raises:
        CircuitError: the curve ranks by absolute score, or has fewer than 2 points.
    """
    _check_area(curve, "cpr")
    return float(_area("cpr", curve.fractions, curve.faithfulness[None])[0])


def cmd(curve: Curve) -> float:
    """Circuit-model distance: ∫ |1 − f| over the fraction of edges; 0 is the whole model.

    Edges are ranked by absolute score, because harmful ones belong to the model too.

    Raises:
        CircuitError: the curve ranks by signed score, or has fewer than 2 points.
    """
    _check_area(curve, "cmd")
    return float(_area("cmd", curve.fractions, curve.faithfulness[None])[0])


#: Both areas by name.
AREAS: dict[Area, Callable[[Curve], float]] = {"cpr": cpr, "cmd": cmd}


def _area(area: Area, fractions: Array, f: Array) -> Array:
    """Trapezoid rule over the last axis of f, ``[draws, n_point]`` → ``[draws]``."""
    return np.asarray(np.trapezoid(f if area == "cpr" else np.abs(1 - f), fractions, axis=1))


def _check_area(curve: Curve, area: Area) -> None:
    if area not in RANKING_OF:
        raise CircuitError(f"Unknown area {area!r}: choose 'cpr' or 'cmd'.")
    if curve.by != RANKING_OF[area]:
        raise CircuitError(
            f"{area.upper()} is defined for edges ranked by {RANKING_OF[area]} score, and this "
            f"curve ranks by {curve.by} score: make one with by={RANKING_OF[area]!r}."
        )
    if len(curve.fractions) < 2:
        raise CircuitError(f"{area.upper()} is an area: give at least 2 fractions of edges.")


def _percentiles(drawn: Array, level: float) -> tuple[Array, Array]:
    """Ends of the percentile interval of each column of ``[draws, n]``."""
    tail = (1 - level) / 2
    if np.isnan(drawn).all():
        return drawn[0], drawn[0]
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=0)
    return low, high
