"""Drawing distinct examples until there are enough."""

from __future__ import annotations

import random
from collections.abc import Callable

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example

#: So many draws in a row without a new example, and the request counts as impossible.
PATIENCE = 3000


def draw_distinct(
    task: str, n: int, seed: int, draw: Callable[[random.Random], Example | None]
) -> list[Example]:
    """Call ``draw`` until it gave ``n`` examples that differ in prompt or corruption.

    ``draw`` returns None for a draw that doesn't fit the tokenizer. The first ``k`` of ``n``
    examples are the same for every ``n >= k``.

    Raises:
        TaskError: fewer than ``n`` distinct examples were found.
    """
    if n < 1:
        raise TaskError(f"Task {task!r} was asked for {n} examples: ask for at least one.")
    rng = random.Random(f"{task}/{seed}")
    found: dict[tuple[int, ...], Example] = {}
    misses = 0
    while misses < PATIENCE:
        example = draw(rng)
        misses += 1
        if example is not None and example.clean not in found:
            found[example.clean] = example
            misses = 0
            if len(found) == n:
                return list(found.values())
    raise TaskError(
        f"Task {task!r} gives only {len(found)} distinct examples with this tokenizer, not {n}: "
        "ask for fewer examples."
    )
