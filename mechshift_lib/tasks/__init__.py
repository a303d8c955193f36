"""The four tasks: two whose answer the prefix decides, two that are constrained as a whole."""

from __future__ import annotations

import random

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


def get_task(name: str) -> Task:
    """The task of this name.

    Raises:
        TaskError: there is none.
    """
    if name not in TASKS:
        raise TaskError(f"Unknown task {name!r}: choose one of {', '.join(TASKS)}.")
    return TASKS[name]


def training_text(name: str, rng: random.Random) -> tuple[str, str]:
    """A prompt and its answer that training may see: never one of the held-out combinations."""
    return get_task(name).training_text(rng)


__all__ = ["TASKS", "Example", "Task", "Tokenizer", "get_task", "training_text"]
