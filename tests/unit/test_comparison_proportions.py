"""Intervals of accuracies: scipy's exact one, and means that no resampling moves."""

import numpy as np
import pytest
from scipy.stats import beta

from mechshift_lib.comparison.proportions import clopper_pearson, mean_interval


@pytest.mark.parametrize(("k", "n"), [(0, 16), (3, 16), (16, 16)])
def test_the_exact_interval_is_that_of_the_beta_distribution(k, n):
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    assert clopper_pearson(k, n) == pytest.approx((low, high))


def test_means_that_vary_have_their_percentile_interval():
    drawn = np.concatenate([[0.5], np.linspace(0, 1, 101)])
    assert mean_interval(drawn, 9, (0, 1)) == pytest.approx((0.025, 0.975))


@pytest.mark.parametrize(
    ("value", "bounds", "expected"),
    [(0, (0, 1), (0, 0.2059)), (1, (0, 1), (0.7941, 1)), (0, (-1, 1), (-0.2059, 0.2059))],
)
def test_means_that_nothing_moves_have_the_exact_one(value, bounds, expected):
    drawn = np.full(51, value) + 1e-16
    assert mean_interval(drawn, 16, bounds) == pytest.approx(expected, abs=1e-4)
