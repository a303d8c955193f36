"""Batches of training texts, a function of (seed, phase, step) alone.

``continued`` therefore sees exactly the MDM's tokens, and a resumed run exactly those of an
uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mechshift_lib.config import Pair
from mechshift_lib.diffusion.recipe import NATIVE, Masked
from mechshift_lib.tasks import pair_task
from mechshift_lib.tasks.filler import filler_text

#: Draws a prompt and its answer; filler has an empty prompt.
Draw = Callable[[random.Random], tuple[str, str]]


@dataclass(frozen=True)
class Batch:
    """Token sequences sorted by length, padded on the right.

    Attributes:
        ids: int64 ``[batch, pos]``.
        present: bool ``[batch, pos]``, False at padding.
        answer: bool ``[batch, pos]``: answers of task texts; of other texts every token but the
            first.
    """

    ids: np.ndarray
    present: np.ndarray
    answer: np.ndarray

    @property
    def n_tokens(self) -> int:
        """Number of tokens that are not padding."""
        return int(self.present.sum())

    def maskable(self, what: Masked) -> np.ndarray:
        """Tokens that may be masked, bool ``[batch, pos]``: ``text`` is every token but the first
        (nothing predicts it), as Dream and DiffuLLaMA mask; ``answers`` leaves prompts whole, as
        when the model is asked.
        """
        if what == "answers":
            return self.answer
        every = self.present.copy()
        every[:, 0] = False
        return every

    def parts(self, groups: int) -> list[tuple[slice, int]]:
        """Rows and length of ``groups`` parts, each cut to its own longest sequence."""
        edges = np.linspace(0, len(self.ids), groups + 1).astype(int)
        lengths = self.present.sum(1)
        return [(slice(a, b), int(lengths[a:b].max())) for a, b in pairwise(edges) if b > a]


def draws_of(
    pair: Pair, kinds: Iterable[str], texts: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Draw]:
    """How to draw a text of each kind; ``texts`` has those of the kinds that are lists of texts."""
    lists = texts or {}

    def of(name: str) -> Draw:
        if name == "filler":
            return lambda rng: ("", filler_text(rng))
        if name in lists:
            return lambda rng: ("", rng.choice(lists[name]))
        if name == NATIVE:
            task = pair_task(pair, "infilling")
            return lambda rng: ("", task.sentence(rng))  # type: ignore[attr-defined]
        return pair_task(pair, name).training_text  # type: ignore[attr-defined,no-any-return]

    return {name: of(name) for name in kinds}


def draw_batch(
    draws: Mapping[str, Draw],
    mix: Mapping[str, float],
    tokenizer: Any,
    size: int,
    key: tuple[int, str, int],
) -> Batch:
    """The batch of this ``key`` = (seed, phase, step)."""
    rng = random.Random("/".join(map(str, key)))
    names = list(mix)
    kinds = rng.choices(names, weights=[mix[name] for name in names], k=size)
    texts = [draws[kind](rng) for kind in kinds]
    # One call for all: the first tokens (a BOS, say) come with the prompt, or with the free text.
    starts = tokenizer([prompt or answer for prompt, answer in texts])["input_ids"]
    answers = tokenizer(
        [answer if prompt else " " for prompt, answer in texts], add_special_tokens=False
    )["input_ids"]
    rows: list[tuple[list[int], int]] = []
    for (prompt, _), start, answer in zip(texts, starts, answers, strict=True):
        rows.append((start + answer, len(start)) if prompt else (start, 1))
    return collate(rows, int(tokenizer.pad_token_id or 0))


def collate(rows: Sequence[tuple[Sequence[int], int]], pad_id: int) -> Batch:
    """Sort (ids, index of the answer's first token) by length and pad on the right."""
    rows = sorted(rows, key=lambda row: len(row[0]))
    longest = len(rows[-1][0])
    lengths = np.array([len(ids) for ids, _ in rows])
    firsts = np.array([first for _, first in rows])
    ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    for i, (sequence, _) in enumerate(rows):
        ids[i, : len(sequence)] = sequence
    index = np.arange(longest)
    present = index < lengths[:, None]
    return Batch(ids, present, present & (index >= firsts[:, None]))
