"""Selection: from scores to a circuit, a set of edges.

Masks are bool arrays ``[n_edges]`` in the order of ``graph.names``, True = the edge is in the
circuit. A head is one node with three readers, so an edge to ``a3.h1<q>`` connects all that
``a3.h1`` writes; a grouped k or v reader belongs to all query heads of its group.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import CircuitError

Mask = NDArray[np.bool_]


def top_edges(circuit: Circuit, n: int, by: str = "signed") -> Mask:
    """The ``n`` strongest edges of the whole graph, connected or not, ``[n_edges]``.

    Args:
        circuit: scores of all edges.
        n: edges to take.
        by: rank by ``"signed"`` or ``"absolute"`` score; of equal scores the earlier edge wins.

    Raises:
        CircuitError: ``n`` is out of range or ``by`` is unknown.
    """
    return circuit.top(n, by)


def greedy(circuit: Circuit, n: int, by: str = "signed") -> Mask:
    """``n`` edges taken greedily from the logits backwards, ``[n_edges]``.

    Each time the strongest edge is added whose reader is the logits or belongs to a node that
    already feeds the circuit (Hanna et al. 2024), so that every edge has a way to the logits.

    Args:
        circuit: scores of all edges.
        n: edges to take.
        by: rank by ``"signed"`` or ``"absolute"`` score; of equal scores the earlier edge wins.

    Raises:
        CircuitError: ``n`` is out of range or ``by`` is unknown.
    """
    circuit.check_selection(n, by)
    graph = circuit.graph
    strength = np.abs(circuit.scores) if by == "absolute" else circuit.scores
    readers_of = _readers_by_source(graph)
    edges = list(_edges_by_reader(graph))
    order: dict[int, list[int]] = {}  # edges of each open reader, the strongest last
    heap: list[tuple[float, int, int]] = []

    def offer(reader: int) -> None:
        """Put the reader's strongest edge that is left on the heap."""
        if order[reader]:
            edge = order[reader].pop()
            heapq.heappush(heap, (-float(strength[edge]), edge, reader))

    def open_reader(reader: int) -> None:
        if reader not in order:
            ranked = np.argsort(-strength[edges[reader]], kind="stable")[::-1]
            order[reader] = (ranked + edges[reader].start).tolist()
            offer(reader)

    mask = np.zeros(graph.n_edges, dtype=bool)
    open_reader(graph.n_readers - 1)
    for _ in range(n):
        _, edge, reader = heapq.heappop(heap)
        mask[edge] = True
        offer(reader)
        for opened in readers_of[int(graph.source_index[edge])]:
            open_reader(opened)
    return mask


#: Ways of choosing n edges from scores, by name.
SELECTIONS: dict[str, Callable[[Circuit, int, str], Mask]] = {"top": top_edges, "greedy": greedy}


def select(circuit: Circuit, n: int, by: str = "signed", selection: str = "top") -> Mask:
    """``n`` edges by name of the selection, ``"top"`` or ``"greedy"``, ``[n_edges]``.

    Raises:
        CircuitError: ``n`` is out of range, or ``by`` or ``selection`` is unknown.
    """
    if selection not in SELECTIONS:
        raise CircuitError(
            f"Unknown selection {selection!r}: choose one of {', '.join(SELECTIONS)}."
        )
    return SELECTIONS[selection](circuit, n, by)


def prune(graph: Graph, mask: Mask) -> Mask:
    """The edges of a circuit that lie on a path from the input to the logits, ``[n_edges]``.

    Dropped are edges whose source no path from the input reaches, and edges whose reader reaches
    no logits. Under resample ablation that changes no logit: a node that nothing clean reaches
    writes what it writes in the corrupted run.

    Raises:
        CircuitError: the mask doesn't have one entry an edge.
    """
    check_mask(graph, mask)
    edges, owners = list(_edges_by_reader(graph)), _sources_by_reader(graph)
    reached = np.zeros(graph.n_sources, dtype=bool)  # from the input
    reached[0] = True
    for reader, own in enumerate(owners):
        intact = mask[edges[reader]]
        if own and (intact & reached[: len(intact)]).any():
            reached[own.start : own.stop] = True
    used = np.zeros(graph.n_sources, dtype=bool)  # by the logits
    live = np.zeros(graph.n_readers, dtype=bool)
    for reader in reversed(range(graph.n_readers)):
        own = owners[reader]
        live[reader] = not own or used[own.start : own.stop].any()
        if live[reader]:
            intact = mask[edges[reader]]
            used[: len(intact)] |= intact
    pruned: Mask = mask & reached[graph.source_index] & live[graph.reader_index]
    return pruned


def connected(graph: Graph, mask: Mask) -> bool:
    """Whether some path of a circuit's edges leads from the input to the logits.

    Raises:
        CircuitError: the mask doesn't have one entry an edge.
    """
    return bool(prune(graph, mask).any())


def check_mask(graph: Graph, mask: Mask) -> None:
    """Refuse what is no set of the graph's edges.

    Raises:
        CircuitError: the mask isn't bool or doesn't have one entry an edge.
    """
    if mask.dtype != np.bool_ or mask.shape != (graph.n_edges,):
        raise CircuitError(
            f"A circuit is a bool mask of {graph.n_edges} edges, not {mask.dtype} of shape "
            f"{mask.shape}."
        )


def _edges_by_reader(graph: Graph) -> Iterator[slice]:
    """Edges of each reader, in the order of the readers."""
    stops = np.cumsum(graph.visible)
    for count, stop in zip(graph.visible.tolist(), stops.tolist(), strict=True):
        yield slice(stop - count, stop)


def _sources_by_reader(graph: Graph) -> list[range]:
    """Sources that a reader is part of: a head, the heads of a group, an MLP; none for logits."""
    group = graph.n_heads // graph.kv_readers
    found = []
    for layer in range(graph.n_layers):
        first = graph.sources_before(layer)
        heads = [range(first + head, first + head + 1) for head in range(graph.n_heads)]
        groups = [
            range(first + head, first + head + group) for head in range(0, graph.n_heads, group)
        ]
        mlp = first + graph.n_heads
        found += [*heads, *groups, *groups, range(mlp, mlp + 1)]
    return [*found, range(0)]


def _readers_by_source(graph: Graph) -> list[list[int]]:
    """Inverse of :func:`_sources_by_reader`: the readers of each source (none for ``input``)."""
    found: list[list[int]] = [[] for _ in range(graph.n_sources)]
    for reader, own in enumerate(_sources_by_reader(graph)):
        for source in own:
            found[source].append(reader)
    return found
