"""How alike two models' representations of the same inputs are: linear CKA, without its bias.

Kornblith et al. 2019 (arXiv 1905.00414), eq. 3, with the unbiased estimate of HSIC (Song et al.
2012, eq. 5), as in Nguyen et al. 2021 (arXiv 2010.15327): the plain estimate tends to 1 where
there are fewer inputs than dimensions, whatever the models.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechshift_lib.errors import CircuitError

#: The unbiased estimate takes four different inputs at a time.
LEAST = 4


def linear_cka(x: ArrayLike, y: ArrayLike) -> float:
    """Linear CKA of two representations, debiased.

    Args:
        x: ``[n_input, width]``.
        y: of the same inputs, ``[n_input, other width]``.

    Returns:
        1 for the same representation up to rotation, shift and scale; about 0 for unrelated ones
        (it may be below); NaN where one doesn't vary.

    Raises:
        CircuitError: the inputs differ in number, or there are fewer than :data:`LEAST`.
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) != len(b) or len(a) < LEAST:
        raise CircuitError(f"CKA needs the same inputs of both models, and at least {LEAST}.")
    grams = [_gram(one - one.mean(0)) for one in (a, b)]
    own = [_hsic(one, one) for one in grams]
    if min(own) <= 1e-12 * max(float(np.square(one).sum()) for one in grams) or min(own) <= 0:
        return math.nan
    return _hsic(*grams) / math.sqrt(own[0] * own[1])


def _gram(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of different inputs; 0 on the diagonal."""
    gram = x @ x.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
    """Unbiased HSIC of two Gram matrices whose diagonals are 0 (Song et al. 2012, eq. 5)."""
    n = len(k)
    both = float((k * m).sum())
    apart = float(k.sum() * m.sum()) / ((n - 1) * (n - 2))
    shared = float(k.sum(0) @ m.sum(0)) * 2 / (n - 2)
    return (both + apart - shared) / (n * (n - 3))
