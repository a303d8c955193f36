"""What attribution gives back, and how items become examples.

An example may be asked in several items (an MDM's denoising steps). Its value is the mean over its
items, weighted by their number of reads; a step's value is the plain mean over the items with that
step; the value of all is the plain mean over examples. Items are added one by one, so batches make
no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import one_length
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.readout import Item

R = TypeVar("R")


@dataclass(frozen=True)
class Attribution:
    """Scores of all edges for every example.

    Attributes:
        graph: the graph whose edges are scored.
        examples: indices of the examples, ascending, ``[n_example]``.
        by_example: mean over an example's steps, weighted by their number of reads, float32,
            ``[n_example, n_edges]``.
        steps: denoising steps that occur, ascending, ``[n_step]``.
        by_step: mean over the examples with that step, float32, ``[n_step, n_edges]``.
        metric_clean: metric of each example on its clean input, ``[n_example]``.
        metric_corrupted: the same on its corrupted input.
        by_position: where it was asked for, mean over examples of the part of the scores that
            each position of the reader brings, float32, ``[n_position, n_edges]``; over positions
            it sums to :attr:`scores`, but for exact patching.
    """

    graph: Graph
    examples: NDArray[np.int64]
    by_example: NDArray[np.float32]
    steps: NDArray[np.int64]
    by_step: NDArray[np.float32]
    metric_clean: NDArray[np.float64]
    metric_corrupted: NDArray[np.float64]
    by_position: NDArray[np.float32] | None = None

    @property
    def scores(self) -> NDArray[np.float32]:
        """Mean over examples, ``[n_edges]``."""
        return self.by_example.mean(0, dtype=np.float64).astype(np.float32)

    @property
    def circuit(self) -> Circuit:
        """The scores with their graph, for selection and files."""
        return Circuit(self.graph, self.scores)


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


@dataclass(frozen=True)
class Scored:
    """What a batch of items gave.

    Attributes:
        scores: ``[batch, size]``, size being the number of edges or nodes.
        metrics: metric of the clean and the corrupted runs, float64, ``[batch, 2]``.
        positions: the positions that can carry a score.
        by_position: where asked for, scores at each of these, ``[batch, pos, size]``.
    """

    scores: NDArray[np.float32]
    metrics: NDArray[np.float64]
    positions: slice
    by_position: NDArray[np.float32] | None = None


class ScoreSums:
    """The sums that become scores by example, step and position.

    Args:
        items: all items that will be added.
        size: number of edges or nodes.
        by_position: keep the scores by position, too.

    Raises:
        CircuitError: scores by position of items of several lengths.
    """

    def __init__(self, items: Sequence[Item], size: int, *, by_position: bool = False) -> None:
        self.scores = ItemMeans(items, (size,))
        self.metrics = ItemMeans(items, (2,), np.float64)
        self.positions = PositionMeans(items, size) if by_position else None

    def add(self, items: Sequence[Item], found: Scored) -> None:
        """Add a batch.

        Raises:
            CircuitError: a score is NaN or infinite.
        """
        if self.positions is not None and found.by_position is not None:
            self.positions.add(items, found.by_position, found.positions)
        self.scores.add(items, found.scores)
        self.metrics.add(items, found.metrics)

    def result(self, kind: Callable[..., R], graph: Graph) -> R:
        """The finished means as an :class:`Attribution`, or what has the same fields of nodes."""
        return kind(
            graph=graph,
            examples=self.scores.examples,
            by_example=self.scores.by_example,
            steps=self.scores.steps,
            by_step=self.scores.by_step,
            metric_clean=self.metrics.by_example[:, 0],
            metric_corrupted=self.metrics.by_example[:, 1],
            by_position=None if self.positions is None else self.positions.mean,
        )
