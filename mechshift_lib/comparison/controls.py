"""Sets of components to hold a chosen set against: random ones like it, and ones elsewhere."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import CircuitError

#: Parts of a model, from the embedding to the logits.
THIRDS = ("early", "middle", "late")


def third_of(layer: NDArray[np.int64] | Sequence[int], n_layers: int) -> NDArray[np.int64]:
    """Which third of the model the middle of a layer is in, an index into :data:`THIRDS`.

    A model of two layers has no middle third, one of one layer only that.
    """
    return 3 * (2 * np.asarray(layer, dtype=np.int64) + 1) // (2 * n_layers)


def strongest(scores: NDArray[np.floating], among: NDArray[np.bool_], k: int) -> list[int]:
    """The ``k`` components with the largest |score| among some, ascending.

    Raises:
        CircuitError: there are fewer than ``k``.
    """
    candidates = np.flatnonzero(among)
    if not 1 <= k <= len(candidates):
        raise CircuitError(f"{k} components can't be chosen among {len(candidates)}.")
    order = np.argsort(-np.abs(scores[candidates]), kind="stable")
    return sorted(candidates[order[:k]].tolist())


def disjoint_sets(
    chosen: Sequence[int], layers: NDArray[np.int64], draws: int, seed: int
) -> list[list[int]]:
    """Different random sets of other components than the chosen ones, as many in each layer.

    Where fewer than ``draws`` such sets exist, all of them are taken.

    Args:
        chosen: the set to match, indices of components.
        layers: layer of each component.
        draws: how many sets.
        seed: seed of the draw.

    Raises:
        CircuitError: a layer has too few other components.
    """
    others = np.setdiff1d(np.arange(len(layers)), chosen)
    wanted = Counter(int(layer) for layer in layers[list(chosen)])
    pools = {layer: others[layers[others] == layer].tolist() for layer in wanted}
    total = math.prod(math.comb(len(pools[layer]), n) for layer, n in wanted.items())
    if not total:
        raise CircuitError("A layer has too few components for a set without any chosen one.")
    return _draw(pools, wanted, min(draws, total), total, seed)


def _draw(
    pools: dict[int, list[int]], wanted: Counter[int], draws: int, total: int, seed: int
) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    if total <= 4 * draws:  # few enough to list them all
        parts = [itertools.combinations(pools[g], n) for g, n in sorted(wanted.items())]
        every = [sorted(itertools.chain(*x)) for x in itertools.product(*parts)]
        return [every[i] for i in sorted(rng.permutation(len(every))[:draws].tolist())]
    found: dict[tuple[int, ...], list[int]] = {}
    while len(found) < draws:
        picked = [rng.choice(pools[g], n, replace=False) for g, n in sorted(wanted.items())]
        one = sorted(np.concatenate(picked).tolist())
        found[tuple(one)] = one
    return list(found.values())
