"""How unevenly a sum is shared out among its terms: few that do all, or many that do a little.

All measures are of magnitudes |x| along the last axis, and neither the order of the terms nor their
common scale makes a difference. Each has a form that the number of terms makes none to either, so
that models of different size can be compared; it is 0 to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: How many of the largest terms a share is of.
TOPS = (1, 5, 10)


def shares(x: ArrayLike) -> Array:
    """Each magnitude as a share of their sum, ``[..., n]``; NaN where all are 0."""
    size = np.abs(np.asarray(x, dtype=np.float64))
    total = size.sum(-1, keepdims=True)
    return np.divide(size, total, out=np.full_like(size, np.nan), where=total > 0)


def entropy(x: ArrayLike) -> Array:
    """Shannon entropy of the shares in nats, ``[...]``: 0 (one term) to ln n (all alike)."""
    p = shares(x)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logs).sum(-1)


def participation(x: ArrayLike) -> Array:
    """Participation ratio (Σ|x|)² / Σx², ``[...]``: how many terms there effectively are, 1 to n.

    With k terms of one size and all others 0 it is k.
    """
    return 1 / np.square(shares(x)).sum(-1)


def top_share(x: ArrayLike, k: int) -> Array:
    """Share of the ``k`` largest magnitudes, ``[...]``; 1 where there are no more than ``k``."""
    p = np.sort(shares(x), axis=-1)
    return p[..., -k:].sum(-1)


def lorenz(x: ArrayLike) -> Array:
    """Lorenz curve, ``[..., n + 1]``: share of the i smallest magnitudes, i = 0 … n."""
    p = np.cumsum(np.sort(shares(x), axis=-1), axis=-1)
    return np.concatenate([np.zeros_like(p[..., :1]), p], axis=-1)


def gini(x: ArrayLike) -> Array:
    """Gini coefficient, ``[...]``: 0 (all alike) to 1 − 1/n (one term).

    Twice the area between the Lorenz curve and the diagonal.
    """
    curve = lorenz(x)
    return 1 - (curve[..., 1:] + curve[..., :-1]).sum(-1) / (curve.shape[-1] - 1)


def measures(x: ArrayLike) -> dict[str, Array]:
    """Every measure and its form that doesn't depend on the number of terms (``*_free``).

    The forms: entropy / ln n; participation / n; the top k's share beyond k/n, as a share of what
    there is beyond it; n/(n − 1) · Gini. The first two are 1 where all terms are alike, the others
    where one term is all.

    Args:
        x: ``[..., n]`` with n of at least 2.
    """
    n = np.asarray(x).shape[-1]
    found = {
        "entropy": entropy(x),
        "entropy_free": entropy(x) / np.log(n),
        "participation": participation(x),
        "participation_free": participation(x) / n,
        "gini": gini(x),
        "gini_free": gini(x) * n / (n - 1),
    }
    for k in TOPS:
        share = top_share(x, k)
        # Of no more than k terms all are among the top k, however they are shared out: NaN.
        beyond = (share - k / n) / (1 - k / n) if k < n else np.full_like(share, np.nan)
        found |= {f"top{k}": share, f"top{k}_free": beyond}
    return found
