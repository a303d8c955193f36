"""Intervals against closed forms, and against synthetic data whose truth is known."""

import numpy as np
import pytest
from scipy.stats import binomtest

from mechshift_lib.comparison.bootstrap import bootstrap, resample, split_halves, wilson
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.overlap import jaccard, top_edges
from mechshift_lib.errors import CircuitError


@pytest.mark.parametrize(("k", "n"), [(0, 10), (7, 10), (10, 10), (480, 500)])
def test_wilson_equals_scipys(k, n):
    reference = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((reference.low, reference.high))


def test_wilson_of_nothing_tried_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="4 successes in 3 trials"):
        wilson(4, 3)


def test_resampling_weights_are_counts_over_n():
    weights = resample(5, 200, seed=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose((weights * 5) % 1, 0, atol=1e-12)
    assert abs(weights.mean() - 0.2) < 1e-9


def test_bootstrap_of_a_mean_has_the_textbook_standard_error():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1))
    estimate = bootstrap([x], lambda mean: mean, draws=4000)
    half = 1.96 * x.std() / np.sqrt(200)
    assert estimate.value[0] == pytest.approx(x.mean())
    assert estimate.low[0] == pytest.approx(x.mean() - half, abs=0.01)
    assert estimate.high[0] == pytest.approx(x.mean() + half, abs=0.01)
    assert abs(estimate.bias[0]) < 0.01


def test_pairing_cancels_what_an_example_does_to_both():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(50, 1))
    difference = bootstrap([shared, shared + 1], lambda a, b: b - a, draws=300)
    assert difference.low[0] == pytest.approx(1)
    assert difference.high[0] == pytest.approx(1)


def test_result_depends_on_the_seed_and_not_on_the_chunk():
    x = np.random.default_rng(0).normal(size=(20, 3))
    first = bootstrap([x], lambda mean: mean, draws=50, chunk=50)
    again = bootstrap([x], lambda mean: mean, draws=50, chunk=7)
    np.testing.assert_allclose(first.low, again.low)
    other = bootstrap([x], lambda mean: mean, draws=50, seed=1)
    assert not np.allclose(first.low, other.low)


def _overlap(a, b):
    return jaccard(top_edges(a, 20), top_edges(b, 20))[:, None]


def test_overlap_of_noiseless_circuits_has_no_spread():
    a = np.tile(np.arange(100.0), (10, 1))
    b = np.roll(a, 10, axis=1)  # top 20 are edges 80-99 and 90-99 with 0-9
    estimate = bootstrap([a, b], _overlap, draws=50)
    truth = len(set(range(80, 100)) & {*range(90, 100)}) / 30
    # rolled: values 80-99 sit at positions 90-99 and 0-9
    assert estimate.value[0] == pytest.approx(truth)
    assert estimate.low[0] == estimate.high[0] == pytest.approx(truth)


def _noisy(seed):
    """Two circuits of the same truth, with independent noise, ``[30, 100]`` each."""
    rng = np.random.default_rng(seed)
    truth = np.linspace(0, 1, 100)
    return [truth + rng.normal(scale=0.3, size=(30, 100)) for _ in range(2)]


def test_overlap_of_noisy_circuits_is_biased_down():
    bias = [bootstrap(_noisy(seed), _overlap, draws=50).bias[0] for seed in range(20)]
    assert np.mean(bias) < -3 * np.std(bias) / np.sqrt(len(bias)) < 0


def test_recentring_shifts_the_interval_by_the_bias_and_clips_it():
    plain = bootstrap(_noisy(0), _overlap, draws=300)
    moved = bootstrap(_noisy(0), _overlap, draws=300, recentre=True, bounds=(0, 0.75))
    assert moved.low[0] == pytest.approx(plain.low[0] - plain.bias[0])
    assert moved.high[0] == pytest.approx(min(0.75, plain.high[0] - plain.bias[0]))
    assert moved.low[0] < moved.value[0] < moved.high[0]


def test_depth_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    depth = np.linspace(0, 1, 12)
    mean = 3 + np.sin(np.arange(12))  # far from 0: |score| adds no bias
    truth = centre_of_mass(mean, depth)
    covered = 0
    for trial in range(100):
        scores = mean + rng.normal(size=(40, 12))
        estimate = bootstrap(
            [scores], lambda s: centre_of_mass(s, depth)[:, None], draws=200, seed=trial
        )
        covered += bool(estimate.low[0] <= truth <= estimate.high[0])
    assert 86 <= covered <= 100


def test_examples_must_agree_and_be_at_least_two():
    with pytest.raises(CircuitError, match="same examples"):
        bootstrap([np.ones((3, 2)), np.ones((4, 2))], lambda a, b: a - b, draws=10)
    with pytest.raises(CircuitError, match="at least 2"):
        bootstrap([np.ones((1, 2))], lambda a: a, draws=10)


@pytest.mark.parametrize("n", [2, 7, 10])
def test_halves_are_disjoint_and_equal(n):
    for a, b in split_halves(n, 5, seed=0):
        assert a.size == b.size == n // 2
        assert not set(a) & set(b)
        assert set(a) | set(b) <= set(range(n))


def test_one_example_has_no_halves():
    with pytest.raises(CircuitError, match="at least 2"):
        next(split_halves(1, 1, seed=0))
