"""Linear CKA: the literal U-statistic, invariances, and no bias with few inputs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mechshift_lib.comparison.cka import linear_cka
from mechshift_lib.errors import CircuitError


def literal(x: np.ndarray, y: np.ndarray) -> float:
    """HSIC as a mean over all ordered quadruples of different inputs (Song et al. 2012, eq. 4)."""

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        terms = [
            k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
            for i, j, q, r in itertools.permutations(range(len(k)), 4)
        ]
        return float(np.mean(terms))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def test_it_is_the_literal_statistic() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    y = x[:, :2] @ rng.normal(size=(2, 4)) + rng.normal(size=(7, 4))
    assert linear_cka(x, y) == pytest.approx(literal(x, y), rel=1e-10)


def test_a_value_by_hand() -> None:
    """Inputs at 0, 1, 2, 3 on a line; in the other model the last two have changed places.

    Of four inputs, HSIC of squared distances a, b of the six pairs is Σab/6 + Σab'/6 - Σ(the 24
    others)/12, b' being the pair of the other two inputs, and 4 times that of inner products.
    a = 1, 4, 9, 1, 4, 1 and b = 1, 9, 4, 4, 1, 1 give HSIC(x, x) = (116 + 52)/6 - 232/12 = 26/3,
    the same of y, whose places are the same, and HSIC(x, y) = (82 + 82)/6 - 236/12 = 23/3.
    """
    x, y = np.array([[0.0], [1], [2], [3]]), np.array([[0.0], [1], [3], [2]])
    assert linear_cka(x, y) == pytest.approx(23 / 26)


def test_rotation_shift_and_scale_make_no_difference() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 5))
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert linear_cka(x, 3 * x @ rotation + 100) == pytest.approx(1)
    y = np.tanh(x) + rng.normal(size=x.shape)
    assert linear_cka(x, y) == pytest.approx(linear_cka(x @ rotation - 7, 0.1 * y))
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert linear_cka(x, y) < 0.9


def test_unrelated_representations_have_none_even_with_few_inputs() -> None:
    rng = np.random.default_rng(2)
    values = [linear_cka(rng.normal(size=(20, 128)), rng.normal(size=(20, 128))) for _ in range(50)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(50)
    # The plain estimate would call them nearly the same.
    x, y = (z - z.mean(0) for z in (rng.normal(size=(20, 128)), rng.normal(size=(20, 128))))
    k, m = x @ x.T, y @ y.T
    assert (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()) > 0.8


def test_what_has_no_value() -> None:
    x = np.random.default_rng(3).normal(size=(6, 3))
    assert math.isnan(linear_cka(x, np.ones((6, 2))))
    with pytest.raises(CircuitError, match="at least 4"):
        linear_cka(x[:3], x[:3])
    with pytest.raises(CircuitError, match="the same inputs"):
        linear_cka(x, x[:5])
