"""Sets of components to hold a chosen set against: random ones like it, and ones elsewhere."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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


def same_mass(scores: NDArray[np.floating], among: NDArray[np.bool_], mass: float) -> list[int]:
    """The fewest of the strongest components whose summed |score| reaches ``mass``, or all.

    Raises:
        CircuitError: there are none to choose among.
    """
    candidates = np.flatnonzero(among)
    if not len(candidates):
        raise CircuitError("There are no components to choose among.")
    order = candidates[np.argsort(-np.abs(scores[candidates]), kind="stable")]
    total = np.cumsum(np.abs(scores[order]))
    return sorted(order[: int(np.searchsorted(total, mass * (1 - 1e-9))) + 1].tolist())


@dataclass(frozen=True)
class Matched:
    """Random sets like a chosen one.

    Attributes:
        sets: components of each, ascending; all different, and none is the chosen one.
        by_layer: they have as many components in each layer as the chosen one; else only in each
            third of the model.
    """

    sets: list[list[int]]
    by_layer: bool


def matched_sets(
    chosen: Sequence[int],
    layers: NDArray[np.int64],
    n_layers: int,
    among: NDArray[np.bool_],
    draws: int,
    seed: int,
) -> Matched:
    """Different random sets of components of the same type, as many in each layer as chosen.

    Where fewer than ``draws`` such sets exist, as in a small model, the number in each *third* is
    kept instead; where there are fewer even of those, all of them are taken.

    Args:
        chosen: the set to match, indices of components.
        layers: layer of each component.
        n_layers: layers of the model.
        among: components of the chosen ones' type.
        draws: how many sets.
        seed: seed of the draw.

    Raises:
        CircuitError: no other set like the chosen one exists.
    """
    thirds = third_of(layers, n_layers)
    for by_layer, group in ((True, layers), (False, thirds)):
        pools = {int(g): np.flatnonzero(among & (group == g)).tolist() for g in group[list(chosen)]}
        wanted = Counter(int(g) for g in group[list(chosen)])
        total = math.prod(math.comb(len(pools[g]), n) for g, n in wanted.items()) - 1
        if total >= draws or (not by_layer and total > 0):
            found = _draw(pools, wanted, set(chosen), min(draws, total), total, seed)
            return Matched(found, by_layer)
    raise CircuitError("There is no other set of components like the chosen one to compare with.")


def _draw(
    pools: dict[int, list[int]],
    wanted: Counter[int],
    chosen: set[int],
    draws: int,
    total: int,
    seed: int,
) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    if total <= 4 * draws:  # few enough to list them all
        parts = [itertools.combinations(pools[g], n) for g, n in sorted(wanted.items())]
        every = [sorted(itertools.chain(*x)) for x in itertools.product(*parts)]
        every = [x for x in every if set(x) != chosen]
        return [every[i] for i in sorted(rng.permutation(len(every))[:draws].tolist())]
    seen = {tuple(sorted(chosen))}
    found: list[list[int]] = []
    while len(found) < draws:
        picked = [rng.choice(pools[g], n, replace=False) for g, n in sorted(wanted.items())]
        one = sorted(np.concatenate(picked).tolist())
        if tuple(one) not in seen:
            seen.add(tuple(one))
            found.append(one)
    return found
