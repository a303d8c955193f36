"""The cosine of two circuits without their noise: by hand, and where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mechshift_lib.comparison.noiseless import (
    noiseless_cosine,
    noiseless_cosines,
    product,
    weights,
)
from mechshift_lib.errors import CircuitError


def test_products_are_of_different_examples() -> None:
    rng = np.random.default_rng(0)
    a, b, w = rng.normal(size=(5, 7)), rng.normal(size=(5, 7)), rng.uniform(1, 2, 7)
    pairs = [(a[i] * b[j]) @ w for i in range(5) for j in range(5) if i != j]
    assert product(a, b, w) == pytest.approx(np.mean(pairs))


def test_weights_are_one_over_the_spread_with_a_floor() -> None:
    scores = np.array([[0.0, 0.0, 5.0], [2.0, 20.0, 5.0], [4.0, 40.0, 5.0]])
    floor = 0.01 * (4 + 400) / 3
    expected = 1 / np.sqrt(np.array([4.0, 400.0, 0.0]) + floor)
    assert weights(scores) == pytest.approx(expected)
    with pytest.raises(CircuitError, match="same in every example"):
        weights(np.ones((4, 3)))


@pytest.mark.parametrize("noise", [0.5, 3.0])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_noise_and_scale_are_no_difference(noise: float, scale: float) -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=600)
    move = rng.normal(size=600)
    other = scale * (truth + move)  # truly at a cosine of 1 / sqrt(2)
    drawn = [
        [t + noise * s * rng.normal(size=(30, 600)) for t, s in ((truth, 1), (x, scale))]
        for x in (scale * truth, other)
    ]
    same, moved = (noiseless_cosine(*one) for one in drawn)
    true = float(truth @ other / np.linalg.norm(truth) / np.linalg.norm(other))
    assert same == pytest.approx(1, abs=0.03)
    assert moved == pytest.approx(true, abs=0.05)
    plain = [x.mean(0) for x in drawn[0]]
    naive = plain[0] @ plain[1] / np.linalg.norm(plain[0]) / np.linalg.norm(plain[1])
    assert naive < (0.995 if noise < 1 else 0.9)  # what the noise would have taken


def test_one_circuit_is_compared_with_several_as_with_each() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (rng.normal(size=(8, 30)) + 1 for _ in range(3))
    w = weights(a)
    by_hand = [product(a, x, w) / math.sqrt(product(a, a, w) * product(x, x, w)) for x in (b, c)]
    assert noiseless_cosines(a, [b, c]) == pytest.approx(by_hand)
    assert noiseless_cosine(a, c) == pytest.approx(by_hand[1])


def test_noise_alone_has_no_cosine_and_circuits_need_the_same_examples() -> None:
    flip = np.outer([1.0, -1.0, 1.0, -1.0], [1.0, 2.0])
    assert math.isnan(noiseless_cosine(flip, flip + 1.0))
    with pytest.raises(CircuitError, match="same examples"):
        noiseless_cosine(np.ones((4, 2)), np.ones((5, 2)))
    with pytest.raises(CircuitError, match="at least 4"):
        noiseless_cosine(np.ones((3, 2)), np.ones((3, 2)))
