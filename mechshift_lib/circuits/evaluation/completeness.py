"""Is a given circuit all of what the model uses, and does it need each of its edges?

F below is faithfulness (:mod:`mechshift_lib.circuits.evaluation.curve`): 1 for the whole model M, 0
for no edge, so that numbers of different models compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.circuits.evaluation.curve import faithfulness
from mechshift_lib.circuits.evaluation.faithfulness import RunOptions, run_with_empty
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.selection import Mask, check_mask
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


@dataclass(frozen=True)
class Completeness:
    """What the model can do without a circuit.

    Attributes:
        n_edges: edges of the circuit C.
        circuit: F(C).
        complement: F(M ∖ C), the faithfulness of all other edges; near 0 if C is complete
            (Marks et al. 2024).
        removed: edges in each random subset K of C, ``[n_subset]``.
        circuit_without: F(C ∖ K), ``[n_subset]``.
        model_without: F(M ∖ K), ``[n_subset]``.
    """

    n_edges: int
    circuit: float
    complement: float
    removed: NDArray[np.int64]
    circuit_without: NDArray[np.float64]
    model_without: NDArray[np.float64]

    @property
    def incompleteness(self) -> NDArray[np.float64]:
        """|F(C ∖ K) − F(M ∖ K)| of each subset, ``[n_subset]`` (Wang et al. 2023)."""
        gap: NDArray[np.float64] = np.abs(self.circuit_without - self.model_without)
        return gap

    def frame(self) -> pd.DataFrame:
        """One row per subset: removed, circuit_without, model_without, incompleteness."""
        return pd.DataFrame(
            {
                "removed": self.removed,
                "circuit_without": self.circuit_without,
                "model_without": self.model_without,
                "incompleteness": self.incompleteness,
            }
        )


def completeness(
    model: LoadedModel,
    items: Sequence[Item],
    mask: Mask,
    *,
    n_subsets: int = 10,
    seed: int = 0,
    **options: Unpack[RunOptions],
) -> Completeness:
    """Does anything outside a circuit do its work too?

    Args:
        model: a loaded model.
        items: questions made by a readout.
        mask: the circuit C, bool ``[n_edges]``.
        n_subsets: random subsets K of C, each of a size drawn evenly from 1 to that of C.
        seed: seed of the subsets.
        **options: see :class:`mechshift_lib.circuits.evaluation.faithfulness.RunOptions`.

    Raises:
        CircuitError: the mask doesn't fit the model's graph or is empty, the examples leave
            nothing to keep or lose, or what the runs refuse.
    """
    masks, removed = without_subsets(Graph.for_model(model), mask, n_subsets, seed)
    runs, empty = run_with_empty(model, items, masks, **options)
    f = faithfulness(runs.values[: len(masks)], runs.clean, empty)
    return completeness_of(mask, removed, f)


def without_subsets(
    graph: Graph, mask: Mask, n_subsets: int = 10, seed: int = 0
) -> tuple[list[Mask], NDArray[np.int64]]:
    """The circuits that :func:`completeness` runs, and the edges in each random subset.

    They are C, M ∖ C, and for each subset C ∖ K and M ∖ K.

    Raises:
        CircuitError: the mask doesn't fit the graph or is empty.
    """
    edges = _edges(graph, mask)
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, len(edges), n_subsets, endpoint=True)
    masks = [mask, ~mask]
    for size in sizes:
        removed = np.zeros_like(mask)
        removed[rng.choice(edges, size, replace=False)] = True
        masks += [mask & ~removed, ~removed]
    return masks, sizes.astype(np.int64)


def completeness_of(mask: Mask, removed: NDArray[np.int64], f: NDArray[np.float64]) -> Completeness:
    """Put together from the faithfulness of the circuits of :func:`without_subsets`."""
    return Completeness(
        n_edges=int(mask.sum()),
        circuit=float(f[0]),
        complement=float(f[1]),
        removed=removed,
        circuit_without=f[2::2],
        model_without=f[3::2],
    )


@dataclass(frozen=True)
class Minimality:
    """What a circuit loses with each of its edges.

    Attributes:
        n_edges: edges of the circuit C.
        circuit: F(C).
        edges: names of the edges taken out, one at a time, ``[n_tried]``.
        loss: F(C) − F(C ∖ {e}), ``[n_tried]``; an edge near 0 isn't needed.
    """

    n_edges: int
    circuit: float
    edges: list[str]
    loss: NDArray[np.float64]

    def frame(self) -> pd.DataFrame:
        """One row per edge taken out: edge, loss."""
        return pd.DataFrame({"edge": self.edges, "loss": self.loss})


def minimality(
    model: LoadedModel,
    items: Sequence[Item],
    mask: Mask,
    *,
    sample: int | None = None,
    seed: int = 0,
    **options: Unpack[RunOptions],
) -> Minimality:
    """Does a circuit need each of its edges?

    Wang et al. (2023) ask whether a node matters once some set K is gone; this is the edge with K
    empty, so an edge that another one backs up counts as not needed.

    Args:
        model: a loaded model.
        items: questions made by a readout.
        mask: the circuit C, bool ``[n_edges]``.
        sample: edges to try, drawn at random; by default all.
        seed: seed of the draw.
        **options: see :class:`mechshift_lib.circuits.evaluation.faithfulness.RunOptions`.

    Raises:
        CircuitError: as :func:`completeness`, or ``sample`` is below 1.
    """
    graph = Graph.for_model(model)
    masks, tried = without_edges(graph, mask, sample, seed)
    runs, empty = run_with_empty(model, items, masks, **options)
    f = faithfulness(runs.values[: len(masks)], runs.clean, empty)
    return minimality_of(graph, mask, tried, f)


def without_edges(
    graph: Graph, mask: Mask, sample: int | None = None, seed: int = 0
) -> tuple[list[Mask], NDArray[np.int64]]:
    """The circuits that :func:`minimality` runs, and the edges that are taken out.

    They are C, and C without each of these edges.

    Raises:
        CircuitError: the mask doesn't fit the graph or is empty, or ``sample`` is below 1.
    """
    edges = _edges(graph, mask)
    if sample is not None and sample < 1:
        raise CircuitError(f"Minimality needs at least one edge to try, not {sample}.")
    if sample is not None and sample < len(edges):
        edges = np.sort(np.random.default_rng(seed).choice(edges, sample, replace=False))
    masks = [mask]
    for edge in edges:
        less = mask.copy()
        less[edge] = False
        masks.append(less)
    return masks, edges


def minimality_of(
    graph: Graph, mask: Mask, tried: NDArray[np.int64], f: NDArray[np.float64]
) -> Minimality:
    """Put together from the faithfulness of the circuits of :func:`without_edges`."""
    return Minimality(
        n_edges=int(mask.sum()),
        circuit=float(f[0]),
        edges=[graph.names[edge] for edge in tried],
        loss=f[0] - f[1:],
    )


def _edges(graph: Graph, mask: Mask) -> NDArray[np.int64]:
    """Indices of a circuit's edges, of which there must be some."""
    check_mask(graph, mask)
    edges: NDArray[np.int64] = np.flatnonzero(mask)
    if not len(edges):
        raise CircuitError("The circuit has no edges: choose at least one.")
    return edges
