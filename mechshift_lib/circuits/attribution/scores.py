"""What attribution gives back: scores of every example, step and position.

How items become examples is said in :mod:`mechshift_lib.circuits.questions.means`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.means import ItemMeans, PositionMeans
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
