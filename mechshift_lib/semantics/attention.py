"""What a query looks at: classes of keys, how much attention they get, and how far two heads are.

Induction, previous-token and duplicate-token heads are those of Elhage et al. 2021 ("A Mathematical
Framework for Transformer Circuits"), Olsson et al. 2022 ("In-context Learning and Induction Heads")
and Wang et al. 2022 ("Interpretability in the Wild"); a first token that takes what no other should
get is the sink of Xiao et al. 2023.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Classes of keys, in the order in which a key that is in several is given to one of them.
CLASSES = (
    "itself",
    "first",
    "mask",
    "decisive",
    "answer",
    "distractor",
    "given",
    "induction",
    "duplicate",
    "later copy",
    "previous",
    "next",
    "right",
    "rest",
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """What is known of an input's tokens.

    Attributes:
        ids: input ids, ``[pos]``.
        mask_id: the MASK, if the model has one.
        decisive: positions that the corruption changes: a target, a year, a second name.
        given: positions of the prompt whose token occurs in the answer.
    """

    ids: Sequence[int]
    mask_id: int | None = None
    decisive: Collection[int] = ()
    given: Collection[int] = ()

    def classes(
        self, query: int, answers: Collection[int] = (), distractors: Collection[int] = ()
    ) -> NDArray[np.bool_]:
        """Which keys belong to which of :data:`CLASSES`; a key may be in several.

        *Duplicate*, *induction* and *later copy* are a copy of the query's token to the left, the
        token behind such a copy, and a copy to the right; a MASK has none. *Right* is all to the
        right of the query, MASKs included. *Rest* is in no other class.

        Args:
            query: position that looks.
            answers: ids that are right where this query is read.
            distractors: ids that are wrong there.

        Returns:
            ``[n_class, pos]``.

        Raises:
            ValueError: the query is outside of the input.
        """
        ids, place = np.asarray(self.ids), np.arange(len(self.ids))
        if not 0 <= query < len(ids):
            raise ValueError(f"query {query} is outside of an input of {len(ids)} tokens")
        hidden = np.zeros(len(ids), bool) if self.mask_id is None else ids == self.mask_id
        copies = (ids == ids[query]) & ~hidden & (place != query)
        left = copies & (place < query)
        found = {
            "itself": place == query,
            "first": place == 0,
            "mask": hidden,
            "decisive": np.isin(place, list(self.decisive)),
            "answer": np.isin(ids, list(answers)),
            "distractor": np.isin(ids, list(distractors)),
            "given": np.isin(place, list(self.given)),
            "induction": np.roll(left, 1) & (place < query) & (place > 0),
            "duplicate": left,
            "later copy": copies & (place > query),
            "previous": place == query - 1,
            "next": place == query + 1,
            "right": place > query,
        }
        found["rest"] = ~np.any(list(found.values()), axis=0)
        return np.stack([found[name] for name in CLASSES])


def exclusive(classes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each key in the first of its classes alone, ``[n_class, pos]``."""
    return classes & (np.cumsum(classes, axis=0) == 1)


def allowed(query: int, length: int, attention: str) -> NDArray[np.bool_]:
    """Keys that a query may look at, ``[pos]``."""
    return np.arange(length) <= query if attention == "causal" else np.ones(length, bool)


def uniform(classes: NDArray[np.bool_], seen: NDArray[np.bool_]) -> Array:
    """Mass of each class if a query looked alike at all it may look at, ``[n_class]``."""
    found: Array = (classes & seen).sum(-1) / seen.sum()
    return found


def masses(patterns: Array, classes: NDArray[np.bool_]) -> Array:
    """Attention that each class of keys gets: ``[..., pos]`` → ``[..., n_class]``."""
    found: Array = patterns @ classes.T.astype(np.float64)
    return found


def within(patterns: Array, keys: int) -> Array:
    """Patterns over the first ``keys`` positions alone, summing to 1 again.

    One that has nothing there is left 0.
    """
    part = patterns[..., :keys]
    total = part.sum(-1, keepdims=True)
    return np.divide(part, total, out=np.zeros(part.shape), where=total > 0)


def total_variation(one: Array, other: Array) -> Array:
    """Half the sum of absolute differences along the last axis: 0 alike, 1 nothing in common.

    The share of the attention that has to be moved to make one into the other. Where one is
    shorter, what it lacks is 0.
    """
    length = max(one.shape[-1], other.shape[-1])
    one, other = (
        np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length - x.shape[-1])]) for x in (one, other)
    )
    found: Array = np.abs(one - other).sum(-1) / 2
    return found


def between_heads(one: Array, other: Array) -> Array:
    """:func:`total_variation` of every head of one layer to every head of the other.

    Args:
        one: ``[n_layers, n_heads, pos]``.
        other: of the same shape but for its length.

    Returns:
        ``[n_layers, n_heads of one, n_heads of other]``.
    """
    return total_variation(one[:, :, None], other[:, None])
