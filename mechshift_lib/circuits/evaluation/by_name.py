"""Run a model with some edges intact, by their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.evaluation.ablation import Ablation
from mechshift_lib.circuits.evaluation.runs import circuit_logits, run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.asking import items_of
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.tasks.base import Example

#: Items whose logits are computed in one pass.
ITEMS_AT_ONCE = 32


@dataclass(frozen=True)
class Intact:
    """What a model does with some edges intact and all others ablated.

    Attributes:
        edges: names of the intact edges, in the graph's order.
        logits: of each item at its reads, each ``[n_read, vocab]``.
        examples: indices of the examples, ascending, ``[n_example]``.
        metric: metric of each example with the edges intact, ``[n_example]``.
        clean: metric of the whole model on the clean input, ``[n_example]``.
        corrupted: metric of the whole model on the corrupted input, ``[n_example]``.
    """

    edges: tuple[str, ...]
    logits: tuple[Tensor, ...]
    examples: NDArray[np.int64]
    metric: NDArray[np.float64]
    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]


def run_with(
    model: LoadedModel,
    examples: Sequence[Example | Item],
    edges: Iterable[str],
    *,
    ablation: Ablation | str = Ablation.RESAMPLE,
    metric: str = "logit-diff",
) -> Intact:
    """Run a model with these edges intact; all others carry what the ablation says.

    All edges intact is the clean run, and none, when resampling, the corrupted run.

    Args:
        model: a loaded model.
        examples: examples, which are asked through the model's readout, or items.
        edges: names such as ``"a1.h0->m2"`` or ``"m0->a3.h1<q>"``, in any order.
        ablation: ``"resample"`` (the corrupted run's outputs), ``"mean"``, ``"zero"``, ….
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.

    Raises:
        CircuitError: an edge isn't one of the model's, or as
            :func:`mechshift_lib.circuits.evaluation.runs.run_circuits`.
    """
    items = items_of(model, examples)
    graph = Graph.for_model(model)
    mask = edge_mask(graph, edges)
    runs = run_circuits(model, items, mask[None], metric=metric, ablation=ablation)
    return Intact(
        edges=tuple(np.array(graph.names)[mask].tolist()),
        logits=_logits(model, items, mask, ablation),
        examples=runs.examples,
        metric=runs.values[0],
        clean=runs.clean,
        corrupted=runs.corrupted,
    )


def _logits(
    model: LoadedModel, items: Sequence[Item], mask: NDArray[np.bool_], ablation: Ablation | str
) -> tuple[Tensor, ...]:
    """Logits of each item at its reads: items of one length and number of reads share a pass."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for at, item in enumerate(items):
        groups[len(item.clean), len(item.reads)].append(at)
    logits: dict[int, Tensor] = {}
    for group in groups.values():
        for start in range(0, len(group), ITEMS_AT_ONCE):
            rows = group[start : start + ITEMS_AT_ONCE]
            part = [items[at] for at in rows]
            found = circuit_logits(model, part, mask, ablation=ablation, reference=items)
            logits.update(zip(rows, found, strict=True))
    return tuple(logits[at] for at in range(len(items)))


def edge_mask(graph: Graph, edges: Iterable[str]) -> NDArray[np.bool_]:
    """Edges by name as a mask ``[n_edges]``.

    Raises:
        CircuitError: a name isn't one of the graph's; names like it are said.
    """
    if isinstance(edges, str):
        raise CircuitError(f"Give a list of edge names, [{edges[:80]!r}], not one name.")
    mask = np.zeros(graph.n_edges, dtype=bool)
    mask[[graph.index(str(name)) for name in edges]] = True
    return mask
