"""From a pair and a task to what a model is asked, in one call."""

from __future__ import annotations

from collections.abc import Sequence

from mechshift_lib.config import Pair
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.tasks import pair_task
from mechshift_lib.tasks.base import Example


def ask(model: LoadedModel, pair: Pair, task: str, n: int = 8, seed: int = 0) -> list[Item]:
    """Questions to a model: held-out examples of a task through its readout.

    The same arguments give every model of a pair the same examples. An MDM is asked once for each
    denoising step, so it may have more items than there are examples.

    Args:
        model: a loaded model with a tokenizer.
        pair: the pair that it is of, for the task's options.
        task: name of the task, such as ``"ioi"``.
        n: number of examples.
        seed: seed of the draw.

    Raises:
        TaskError: the pair has no such task, or the tokenizer doesn't suit it.
    """
    examples = pair_task(pair, task).examples(model.tokenizer, n, seed)
    return items_of(model, examples)


def items_of(model: LoadedModel, asked: Sequence[Example | Item]) -> list[Item]:
    """Examples through the model's readout; items stay as they are."""
    found: list[Item] = []
    for index, one in enumerate(asked):
        if isinstance(one, Item):
            found.append(one)
        else:
            found += model.readout.items(one, index)
    return found
