"""Filler text: names, numbers and words outside the tasks' templates.

Without it a small model would see a name only where a template puts one, and its circuits would
be circuits of the template.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mechshift_lib.tasks.vocabulary import (
    ADJECTIVES,
    ANIMALS,
    CENTURIES,
    COLORS,
    EVENTS,
    NAMES,
    OBJECTS,
    PLACES,
    PURPOSES,
    VERBS,
)

_THINGS = [*PURPOSES, *OBJECTS, *ANIMALS]


def _meeting(rng: random.Random) -> str:
    a, b = rng.sample(NAMES, 2)
    return f"{a} {rng.choice(VERBS)} {b} at the {rng.choice(PLACES)}."


def _owning(rng: random.Random) -> str:
    n = rng.randint(2, 60)
    return f"{rng.choice(NAMES)} had {n} {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)}s."


def _color(rng: random.Random) -> str:
    color = rng.choice(list(COLORS))
    return f"The {rng.choice(ANIMALS)} was as {color} as {COLORS[color]}."


def _purpose(rng: random.Random) -> str:
    thing = rng.choice(list(PURPOSES))
    return f"You use a {thing} to {PURPOSES[thing]}."


def _sum(rng: random.Random) -> str:
    a, b = rng.randint(1, 30), rng.randint(1, 30)
    return f"{a} + {b} = {a + b}." if rng.random() < 0.5 else f"{a + b} - {a} = {b}."


def _product(rng: random.Random) -> str:
    a = rng.randint(1, 12)
    b = rng.randint(1, 99 // a if a > 8 else 12)
    return f"{a} * {b} = {a * b}."


def _dated(rng: random.Random) -> str:
    year = f"{rng.choice(CENTURIES)}{rng.randint(0, 99):02d}"
    return f"The year {year} was a {rng.choice(ADJECTIVES)} year for the {rng.choice(EVENTS)}."


def _noting(rng: random.Random) -> str:
    name = rng.choice(NAMES)
    return f"Then {name} gave the {rng.choice(_THINGS)} back. {name} was {rng.choice(ADJECTIVES)}."


_KINDS: tuple[Callable[[random.Random], str], ...] = (
    _meeting,
    _owning,
    _color,
    _purpose,
    _sum,
    _product,
    _dated,
    _noting,
)


def filler_text(rng: random.Random) -> str:
    """One or two short sentences, drawn from eight kinds."""
    return " ".join(rng.choice(_KINDS)(rng) for _ in range(rng.randint(1, 2)))
