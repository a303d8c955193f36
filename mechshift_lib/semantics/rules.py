"""What may explain a neuron: an explicit list of rules about a token and the text around it.

A rule is true or false of every position. It is about the token there, the one before, the one
after, what comes twice, the place in the text, or two of these at once; it never knows a model. The
token after is what an ARM is about to say, and what an MDM sees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import ModelError
from mechshift_lib.tasks.vocabulary import (
    ADJECTIVES,
    ANIMALS,
    COLORS,
    EVENTS,
    KNOWN_PURPOSES,
    NAMES,
    OBJECTS,
    PLACES,
    PURPOSES,
    VERBS,
)

Array = NDArray[np.bool_]

MASK, SPECIAL, OTHER = "a mask", "a start or end", "another word"
#: Class of a token -> its words, in the order in which they are tried.
WORDS: dict[str, frozenset[str]] = {
    "a name": frozenset(NAMES),
    "a place": frozenset(PLACES),
    "a thing": frozenset([*OBJECTS, *PURPOSES, *KNOWN_PURPOSES]),
    "an animal": frozenset([*ANIMALS, *(f"{animal}s" for animal in ANIMALS)]),
    "a colour": frozenset(COLORS),
    "an event": frozenset(EVENTS),
    "an adjective": frozenset(ADJECTIVES),
    "a verb": frozenset(VERBS),
    "an operator": frozenset("+-*="),
}
NUMBERS = ("a one-digit number", "a two-digit number", "a longer number")
#: Every class that a token can have.
CLASSES = (MASK, SPECIAL, *NUMBERS, *WORDS, OTHER, "punctuation")
#: A rule must be true, and false, at this share of the positions at least.
FEWEST = 0.01
#: A token that has a rule of its own is at this share of the positions at least.
FREQUENT = 0.01
#: Tokens of a text that count as its first.
EARLY = 4


@dataclass(frozen=True)
class Text:
    """Tokens that models read, whole.

    Attributes:
        ids: token ids, ``[pos]``.
        tokens: each of them as text, without spaces around it.
        kind: task that it is of, or ``filler``.
        start: position of the answer's first token; None where it has none.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    kind: str
    start: int | None = None

    def masked(self, mask_id: int) -> Text:
        """The same text with a mask at each token of its answer, as an MDM is asked for it."""
        if self.start is None:
            return self
        n = len(self.ids) - self.start
        ids = (*self.ids[: self.start], *[mask_id] * n)
        return replace(self, ids=ids, tokens=(*self.tokens[: self.start], *[MASK] * n))


@dataclass(frozen=True)
class Rules:
    """Rules and where they are true.

    Attributes:
        names: what each rule says.
        parts: of how many statements each is made, 1 or 2, ``[n_rule]``.
        truth: where each is true, ``[n_position, n_rule]``.
    """

    names: tuple[str, ...]
    parts: NDArray[np.int64]
    truth: Array

    def at(self, positions: NDArray[np.int64]) -> Rules:
        """The same rules at some of the positions."""
        return replace(self, truth=self.truth[positions])


def class_of(token: str) -> str:
    """Class of a token, by its text alone: one of :data:`CLASSES`."""
    if token in (MASK, SPECIAL):
        return token
    if token.isdigit():
        return NUMBERS[min(len(token), 3) - 1]
    for name, words in WORDS.items():
        if token in words or token.lower() in words:
            return name
    return OTHER if token.isalpha() else "punctuation"


def places(texts: Sequence[Text]) -> NDArray[np.int64]:
    """Text and position of everything that rules are about, ``[n_position, 2]``.

    The first token of a text is left out: it is where attention goes that has nowhere to go, and
    what models write there is of another size than all else.
    """
    rows = [(i, p) for i, text in enumerate(texts) for p in range(1, len(text.ids))]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def rules_of(texts: Sequence[Text], halves: NDArray[np.int64]) -> Rules:
    """Every rule that says something of these texts, the simplest first.

    Of rules that are true at the same positions the first stays: they are one explanation.

    Args:
        texts: what is read.
        halves: half that each position of :func:`places` is in, 0 or 1; a rule must be true and
            false often enough in both.

    Raises:
        ModelError: no rule is, as there are too few texts.
    """
    one = _single(texts)
    both: dict[str, Array] = {}
    for first, second in product(_classes(), _beside()):
        both[f"{first} and {second}"] = one[first] & one[second]
    found: dict[bytes, tuple[str, int, Array]] = {}
    for parts, rules in ((1, one), (2, both)):
        for name, truth in rules.items():
            shares = [truth[halves == half].mean() for half in (0, 1)]
            if min(shares) >= FEWEST and max(shares) <= 1 - FEWEST:
                found.setdefault(truth.tobytes(), (name, parts, truth))
    if not found:
        raise ModelError("No rule is true of some tokens and false of others: give more texts.")
    names, counts, truths = zip(*found.values(), strict=True)
    return Rules(names, np.array(counts), np.stack(truths, axis=1))


def _classes() -> list[str]:
    return [f"is {name}" for name in CLASSES]


def _beside() -> list[str]:
    """What a class of token is joined with."""
    near = [f"{where} {name}" for where in ("follows", "precedes") for name in CLASSES]
    return [*near, *_CONTEXT, *(f"is in {kind}" for kind in _KINDS)]


_KINDS = {
    "IOI": "ioi",
    "Greater-Than": "greater-than",
    "Countdown": "countdown",
    "infilling": "infilling",
    "filler": "filler",
}
#: Rule -> whether it is true of a position of a text.
_CONTEXT: dict[str, Callable[[Text, int], bool]] = {
    "came before": lambda text, p: text.ids[p] in text.ids[:p],
    "comes again": lambda text, p: text.ids[p] in text.ids[p + 1 :],
    "begins a sentence": lambda text, p: text.tokens[p - 1] in (".", "?", SPECIAL),
    "is in the answer": lambda text, p: text.start is not None and p >= text.start,
    "is the prompt's last": lambda text, p: text.start is not None and p == text.start - 1,
    f"is among the first {EARLY}": lambda text, p: p <= EARLY,
    "is the text's last": lambda text, p: p == len(text.ids) - 1,
}


def _single(texts: Sequence[Text]) -> dict[str, Array]:
    """Every rule of one statement, and where it is true."""
    rows = places(texts).tolist()
    classes = [[class_of(token) for token in text.tokens] for text in texts]
    found: dict[str, Array] = {}
    # Beyond the last token there is nothing: no class, no token.
    for verb, step in (("is", 0), ("follows", -1), ("precedes", 1)):
        near = np.array([(*classes[i], "")[p + step] for i, p in rows])
        found |= {f"{verb} {name}": near == name for name in CLASSES}
    for name, holds in _CONTEXT.items():
        found[name] = np.array([holds(texts[i], p) for i, p in rows], dtype=bool)
    kinds = np.array([texts[i].kind for i, _ in rows])
    found |= {f"is in {name}": kinds == kind for name, kind in _KINDS.items()}
    for verb, step in (("is", 0), ("follows", -1), ("precedes", 1)):
        near = np.array([(*texts[i].tokens, "")[p + step] for i, p in rows])
        for token, count in sorted(Counter(near.tolist()).items()):
            if count >= FREQUENT * len(rows) and token and token not in CLASSES:
                found[f"{verb} “{token}”"] = near == token
    return found
