"""How deep in a model a circuit lies: its centre of mass over layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mechshift_lib.comparison.overlap import Mask


def centre_of_mass(
    scores: ArrayLike, depth: NDArray[np.float64], mask: Mask | None = None
) -> NDArray[np.float64]:
    """Mean depth of edges weighted by |score|, along the last axis, ``[...]``.

    Args:
        scores: edge scores, ``[..., n_edges]``; their absolute value is the weight.
        depth: depth of one end of every edge, in layers / number of layers, ``[n_edges]``.
        mask: the edges to use, ``[..., n_edges]``; all of them by default.

    Returns:
        Depths between 0 (the embedding) and 1 (the logits); NaN where no edge has any weight.
    """
    weight = np.abs(np.asarray(scores, dtype=np.float64))
    if mask is not None:
        weight = np.where(mask, weight, 0.0)
    total = weight.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray((weight @ depth) / np.where(total == 0, np.nan, total), dtype=np.float64)
