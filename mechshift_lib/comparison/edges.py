"""Where the ends of an edge are, read from its name.

Names are the one thing that our circuits and the published ones have in common, so every
comparison starts here and knows neither graphs nor models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import CircuitError

_NODE = re.compile(r"(?:a(?P<attn>\d+)\.h(?P<head>\d+)|m(?P<mlp>\d+)|input|logits)")
_END = re.compile(r"(?P<node>[a-z0-9.]+)(?:<[qkv]>)?")

#: Code of an end that is no component: ``input`` and ``logits``.
NO_COMPONENT = -1


def component_name(layer: int, head: int | None) -> str:
    """Name of a head (``a3.h1``) or, without a head, of an MLP (``m3``)."""
    return f"m{layer}" if head is None else f"a{layer}.h{head}"


@dataclass(frozen=True)
class Edges:
    """The ends of a list of edges as arrays.

    Attributes:
        names: edge names, ``[n_edges]``.
        n_layers: number of layers of the model.
        components: names of the heads and MLPs at either end of some edge, by layer, heads first.
        component_layer: their layers, ``[n_components]``.
        component_head: their heads, -1 for an MLP, ``[n_components]``.
        source: component written by, an index into ``components`` or -1 for ``input``,
            ``[n_edges]``.
        reader: component that reads, an index or -1 for ``logits``, ``[n_edges]``.
        source_depth: depth of the source in layers / ``n_layers``: layer l counts l / n_layers,
            ``input`` counts 0, ``[n_edges]``.
        reader_depth: the same for the reader; ``logits`` counts 1, ``[n_edges]``.
    """

    names: tuple[str, ...]
    n_layers: int
    components: tuple[str, ...]
    component_layer: NDArray[np.int64]
    component_head: NDArray[np.int64]
    source: NDArray[np.int64]
    reader: NDArray[np.int64]
    source_depth: NDArray[np.float64]
    reader_depth: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def depth(self, end: str) -> NDArray[np.float64]:
        """Depth of one end of every edge, ``[n_edges]``; ``end`` is ``source`` or ``reader``."""
        if end not in ("source", "reader"):
            raise CircuitError(f"An edge has a 'source' and a 'reader', not a {end!r}.")
        return self.source_depth if end == "source" else self.reader_depth


def _place(end: str, edge: str) -> tuple[int, int]:
    """(layer, head) of one end; head -1 for an MLP, layer -1 for ``input``, -2 for ``logits``."""
    outer = _END.fullmatch(end)
    inner = _NODE.fullmatch(outer["node"]) if outer else None
    if inner is None:
        raise CircuitError(
            f"Edge {edge!r} is not of the form 'a3.h1->a5.h0<v>', 'input->m0' or 'm3->logits'."
        )
    if inner["attn"] is not None:
        return int(inner["attn"]), int(inner["head"])
    if inner["mlp"] is not None:
        return int(inner["mlp"]), -1
    return (-1, -1) if inner[0] == "input" else (-2, -1)


def parse_edges(names: Sequence[str], n_layers: int) -> Edges:
    """Read edge names (``a18.h25->a20.h24<v>``, ``m20->m22``, ``input->m0``, ``m3->logits``).

    Raises:
        CircuitError: a name is of another form, or names a layer that the model doesn't have.
    """
    places: dict[str, tuple[int, int]] = {}
    ends: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for name in names:
        source, arrow, reader = name.partition("->")
        if not arrow or source == "logits" or reader == "input":
            raise CircuitError(f"{name!r} is not an edge: it needs a source, '->' and a reader.")
        for end in (source, reader):
            if end not in places:
                places[end] = _place(end, name)
                if places[end][0] >= n_layers:
                    raise CircuitError(f"Edge {name!r} lies outside a model of {n_layers} layers.")
        ends.append((places[source], places[reader]))

    # Heads come before their layer's MLP: (layer, is MLP, head).
    found = {place for place in places.values() if place[0] >= 0}
    ordered = sorted(found, key=lambda place: (place[0], place[1] < 0, place[1]))
    code = {place: i for i, place in enumerate(ordered)}

    def depth(place: tuple[int, int]) -> float:
        return {-1: 0.0, -2: 1.0}.get(place[0], place[0] / n_layers)

    return Edges(
        names=tuple(names),
        n_layers=n_layers,
        components=tuple(component_name(a, None if h < 0 else h) for a, h in ordered),
        component_layer=np.array([a for a, _ in ordered], dtype=np.int64),
        component_head=np.array([h for _, h in ordered], dtype=np.int64),
        source=np.array([code.get(s, NO_COMPONENT) for s, _ in ends], dtype=np.int64),
        reader=np.array([code.get(r, NO_COMPONENT) for _, r in ends], dtype=np.int64),
        source_depth=np.array([depth(s) for s, _ in ends]),
        reader_depth=np.array([depth(r) for _, r in ends]),
    )
