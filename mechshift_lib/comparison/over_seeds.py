"""Inference over trainings: the training seed is the unit, examples are measurement noise in it.

Every seed gives one number (a contrast within that training: ARM, MDM and control share their
start, their batches and their examples). Over seeds: the mean, Student's t interval, and the exact
sign-flip test, which assumes symmetry only but can't reach p < 2⁻ˢ with S seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from mechshift_lib.comparison.verdicts import Contrast

#: Trainings without which there is no interval: two always agree or always differ.
FEWEST = 3
#: Coverage of intervals over trainings. At 95 % more than one verdict in twenty can be false: a few
#: trainings, whose differences are skewed, are no normal sample.
LEVEL = 0.98
#: Coverage of intervals over trainings that are shown and decide nothing.
SHOWN = 0.95


def contrast_over_seeds(values: Sequence[float], against: str, level: float = LEVEL) -> Contrast:
    """Mean of one number a training, with its t interval.

    Args:
        values: one contrast a seed, positive where the claim is right.
        against: what it is held against.
        level: coverage of the interval.

    Returns:
        ``n`` is the number of seeds; with fewer than :data:`FEWEST` there is no interval (NaN).
        A seed without a value (NaN) is left out.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    mean = float(x.mean()) if len(x) else float("nan")
    if len(x) < FEWEST:
        return Contrast(against, mean, float("nan"), float("nan"), len(x), "trainings")
    half = float(student.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    ends = (mean - half, mean + half)
    return Contrast(against, mean, *ends, len(x), "trainings", (1 - level) / 2, len(x) - 1)


def differences(wide: pd.DataFrame, compared: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    """Models minus others over trainings, for tables that decide nothing.

    Args:
        wide: one number a training and model, ``[seed, model]``.
        compared: model and base; pairs of which one is missing are left out.

    Returns:
        One row a pair: ``model, base, difference, low, high`` (:data:`SHOWN`), ``n`` (trainings).
    """
    rows: list[dict[str, object]] = []
    for model, base in compared:
        if model in wide and base in wide:
            found = contrast_over_seeds((wide[model] - wide[base]).tolist(), base, SHOWN)
            ends = {"low": found.low, "high": found.high, "n": found.n}
            rows.append({"model": model, "base": base, "difference": found.effect} | ends)
    return rows


def sign_flip(values: Sequence[float]) -> float:
    """One-sided exact p: share of sign patterns whose mean is at least the one seen.

    Raises:
        ValueError: there is no value, or more than 20 (a million patterns).
    """
    x = np.asarray(values, dtype=np.float64)
    if not 1 <= len(x) <= 20:
        raise ValueError(f"the exact sign-flip test takes 1 to 20 values, not {len(x)}")
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(x))))
    means = signs @ x
    return float((means >= means[0] - 1e-12 * np.abs(x).sum()).mean())
