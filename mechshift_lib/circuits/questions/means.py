"""How items become examples.

An example may be asked in several items (an MDM's denoising steps). Its value is the mean over its
items, weighted by their number of reads; a step's value is the plain mean over the items with that
step; the value of all is the plain mean over examples. Items are added one by one, so batches make
no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mechshift_lib.circuits.questions.items import one_length
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.readout import Item


class ItemMeans:
    """Means of the items' values over examples and over steps.

    Attributes:
        examples: indices of the examples, ascending, ``[n_example]``.
        steps: denoising steps that occur, ascending, ``[n_step]``.
        by_example: means over each example's items, weighted by their number of reads,
            ``[n_example, *shape]``; complete once every item was added.
    """

    def __init__(
        self, items: Sequence[Item], shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> None:
        self.examples = np.array(sorted({item.example for item in items}), dtype=np.int64)
        self.steps = np.array(sorted({item.step for item in items}), dtype=np.int64)
        self.by_example: NDArray[Any] = np.zeros((len(self.examples), *shape), dtype=dtype)
        self._by_step = np.zeros((len(self.steps), *shape))
        self._reads = np.zeros(len(self.examples))
        self._step_items = np.zeros(len(self.steps))
        for item in items:
            self._reads[self._row(item)] += len(item.reads)
            self._step_items[self._step(item)] += 1

    def _row(self, item: Item) -> int:
        return int(np.searchsorted(self.examples, item.example))

    def _step(self, item: Item) -> int:
        return int(np.searchsorted(self.steps, item.step))

    def weight(self, item: Item) -> float:
        """Share of an item in its example's value."""
        return len(item.reads) / float(self._reads[self._row(item)])

    def add(self, items: Sequence[Item], values: NDArray[Any]) -> None:
        """Add the values ``[batch, *shape]`` of a batch of items.

        Raises:
            CircuitError: a value is NaN or infinite.
        """
        if not np.isfinite(values).all():
            raise CircuitError("A gradient is NaN or infinite: load the model in float32.")
        for item, value in zip(items, values, strict=True):
            step = self._step(item)
            self.by_example[self._row(item)] += value * value.dtype.type(self.weight(item))
            self._by_step[step] += value / self._step_items[step]

    @property
    def by_step(self) -> NDArray[Any]:
        """Plain means over the items with each step, ``[n_step, *shape]``."""
        return self._by_step.astype(self.by_example.dtype)


class PositionMeans:
    """Means over examples of values that are resolved by position."""

    def __init__(self, items: Sequence[Item], size: int) -> None:
        self._weights = ItemMeans(items, ())
        length = one_length(items, "Resolving scores by position")
        self._sum = np.zeros((length, size))

    def add(self, items: Sequence[Item], values: NDArray[Any], positions: slice) -> None:
        """Add the values ``[batch, pos, size]`` of a batch at the given positions."""
        weights = np.array([self._weights.weight(item) for item in items], dtype=values.dtype)
        self._sum[positions] += np.tensordot(weights, values, 1)

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean over examples, ``[n_position, size]``."""
        return (self._sum / len(self._weights.examples)).astype(np.float32)
