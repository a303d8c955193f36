"""Concentration by hand, and that neither order, scale nor sign makes a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mechshift_lib.semantics.concentration import (
    entropy,
    gini,
    lorenz,
    measures,
    participation,
    shares,
    top_share,
)


def test_by_hand() -> None:
    """Magnitudes 1, 1, 2 and 4: shares 1/8, 1/8, 1/4 and 1/2."""
    x = [1.0, -1.0, 2.0, -4.0]
    assert shares(x).tolist() == [0.125, 0.125, 0.25, 0.5]
    assert entropy(x) == pytest.approx(1.75 * math.log(2))  # 2 · 3/8 + 1/2 + 1/2 bits
    assert participation(x) == pytest.approx(64 / 22)
    assert [top_share(x, k) for k in (1, 2, 4, 9)] == [0.5, 0.75, 1, 1]
    assert lorenz(x).tolist() == [0, 0.125, 0.25, 0.5, 1]
    # Area below the Lorenz curve: (0.125 + 0.375 + 0.75 + 1.5) / 8 = 11/32.
    assert gini(x) == pytest.approx(1 - 2 * 11 / 32)


def test_gini_is_the_mean_difference_of_all_pairs() -> None:
    """The other definition, literally: Σ|x_i − x_j| / (2 n² mean)."""
    x = np.random.default_rng(0).exponential(size=17)
    differences = np.abs(x[:, None] - x[None]).sum()
    assert gini(x) == pytest.approx(differences / (2 * 17**2 * x.mean()))


@pytest.mark.parametrize("n", [2, 5, 40])
def test_ends_of_every_scale(n: int) -> None:
    even, one = measures(np.full(n, 3.0)), measures(np.eye(n)[1])
    assert (even["participation"], one["participation"]) == pytest.approx((n, 1))
    assert (even["entropy"], one["entropy"]) == pytest.approx((math.log(n), 0))
    assert (even["gini"], one["gini"]) == pytest.approx((0, 1 - 1 / n))
    assert (even["entropy_free"], even["participation_free"]) == pytest.approx((1, 1))
    assert (even["gini_free"], one["gini_free"]) == pytest.approx((0, 1))
    for k in (1, 5, 10):
        if k < n:
            assert even[f"top{k}"] == pytest.approx(k / n)
            assert (even[f"top{k}_free"], one[f"top{k}_free"]) == pytest.approx((0, 1))
        else:  # all terms are among the top: that says nothing
            assert np.isnan(even[f"top{k}_free"])


@pytest.mark.parametrize("change", ["order", "scale", "sign"])
def test_what_makes_no_difference(change: str) -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(3, 12))
    other = {
        "order": draw.permuted(x, axis=1),
        "scale": x * np.array([[1e-6], [7.0], [1e6]]),
        "sign": x * draw.choice([-1, 1], size=x.shape),
    }[change]
    first, second = measures(x), measures(other)
    for name, value in first.items():
        assert value.shape == (3,)
        np.testing.assert_allclose(second[name], value, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(lorenz(other), lorenz(x), rtol=1e-12)


def test_the_free_forms_don_t_depend_on_how_often_all_is_repeated() -> None:
    """Twice the same terms: shares of n stay, but for Gini's correction, which is for one term."""
    x = np.array([1.0, 2.0, 5.0])
    once, twice = measures(x), measures(np.tile(x, 2))
    assert twice["participation"] == pytest.approx(2 * once["participation"])
    assert twice["participation_free"] == pytest.approx(once["participation_free"])
    assert twice["gini"] == pytest.approx(once["gini"])


def test_nothing_at_all_is_shared_out_by_nobody() -> None:
    assert np.isnan(measures(np.zeros(4))["participation"])
    mixed = measures(np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert np.isnan(mixed["gini"][0])
    assert mixed["gini"][1] == pytest.approx(0.5)
