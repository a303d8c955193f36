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
from scipy.stats import t as student

from mechshift_lib.comparison.verdicts import Contrast


def contrast_over_seeds(values: Sequence[float], against: str, level: float = 0.95) -> Contrast:
    """Mean of one number a training, with its t interval.

    Args:
        values: one contrast a seed, positive where the claim is right.
        against: what it is held against.
        level: coverage of the interval.

    Returns:
        ``n`` is the number of seeds; with fewer than 2 there is no interval (NaN).
    """
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean()) if len(x) else float("nan")
    if len(x) < 2:
        return Contrast(against, mean, float("nan"), float("nan"), len(x))
    half = float(student.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Contrast(against, mean, mean - half, mean + half, len(x))


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
