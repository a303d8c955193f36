"""The four tasks: two whose answer the prefix decides, two that are constrained as a whole."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import Any

from mechshift_lib.config import Pair
from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example, Task, Tokenizer
from mechshift_lib.tasks.countdown import Countdown
from mechshift_lib.tasks.greater_than import GreaterThan
from mechshift_lib.tasks.infilling import Infilling
from mechshift_lib.tasks.ioi import Ioi

#: The tasks in the order of every table, with their default options.
TASKS: dict[str, Task] = {
    task.name: task for task in (Ioi(), GreaterThan(), Countdown(), Infilling())
}


def get_task(name: str, **options: Any) -> Task:
    """The task of this name, with its options (``corruption`` of IOI, ``count`` of Countdown...).

    Raises:
        TaskError: there is no such task, or it has no such option.
    """
    if name not in TASKS:
        raise TaskError(f"Unknown task {name!r}: choose one of {', '.join(TASKS)}.")
    try:
        return replace(TASKS[name], **options)  # type: ignore[type-var]
    except TypeError as error:
        known = [field.name for field in fields(TASKS[name])]  # type: ignore[arg-type]
        raise TaskError(
            f"Task {name!r} has no option {', '.join(sorted(set(options) - set(known)))}: "
            f"it has {', '.join(known) or 'none'}."
        ) from error


def pair_task(pair: Pair, name: str) -> Task:
    """The task of this name with the options that the pair's file gives it.

    Raises:
        TaskError: the pair has no such task.
    """
    if name not in pair.tasks:
        raise TaskError(f"Pair {pair.name!r} has no task {name!r}: it has {', '.join(pair.tasks)}.")
    return get_task(name, **pair.task_options.get(name, {}))


def training_text(name: str, rng: random.Random) -> tuple[str, str]:
    """A prompt and its answer that training may see: never one of the held-out combinations."""
    return get_task(name).training_text(rng)


__all__ = ["TASKS", "Example", "Task", "Tokenizer", "get_task", "pair_task", "training_text"]
