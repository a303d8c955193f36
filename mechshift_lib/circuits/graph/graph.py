"""The graph: every earlier writer of the residual stream feeds every later reader.

Nodes are ``input``, heads ``a{layer}.h{head}``, MLPs ``m{layer}`` and ``logits``. Heads read three
times, as ``<q>``, ``<k>`` and ``<v>``. Edge names are those of EAP-IG: ``a18.h25->a20.h24<v>``,
``input->m0``, ``m3->logits``. With grouped k and v, ``a20.h2<k>`` is the *key/value* head 2 of
layer 20.

Sources are in the order in which they write and readers in the order in which they read, so a
reader's sources are always a prefix of all sources and edges are stored reader by reader: index
maths instead of tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel

Part = Literal["q", "k", "v", "m"]


@dataclass(frozen=True)
class Graph:
    """Nodes and edges of a transformer.

    Attributes:
        n_layers: number of layers.
        n_heads: query heads per layer.
        n_kv_heads: key/value heads per layer of the checkpoint.
        kv: ``"ungrouped"`` has one k and one v reader per query head, ``"grouped"`` one per
            key/value head.
        parallel: a layer's MLP reads the layer's input, not its heads' outputs.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    kv: Literal["ungrouped", "grouped"] = "ungrouped"
    parallel: bool = False

    @classmethod
    def for_model(cls, model: LoadedModel) -> Graph:
        """The graph of a loaded model."""
        return cls(
            n_layers=model.n_layers,
            n_heads=model.n_heads,
            n_kv_heads=model.n_kv_heads,
            kv=model.kv,
            parallel=model.anatomy.parallel,
        )

    # -- counts ------------------------------------------------------------------------------

    @property
    def kv_readers(self) -> int:
        """Readers of k (and as many of v) per layer."""
        return self.n_heads if self.kv == "ungrouped" else self.n_kv_heads

    @property
    def readers_per_layer(self) -> int:
        """q, k and v readers of a layer, and its MLP."""
        return self.n_heads + 2 * self.kv_readers + 1

    @property
    def n_sources(self) -> int:
        """Input, heads and MLPs."""
        return 1 + self.n_layers * (self.n_heads + 1)

    @property
    def n_readers(self) -> int:
        """Readers of all layers, and the logits."""
        return self.n_layers * self.readers_per_layer + 1

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return int(self.visible.sum())

    # -- index maths -------------------------------------------------------------------------

    def sources_before(self, layer: int) -> int:
        """Number of sources that write before a layer (all of them for ``layer = n_layers``)."""
        return 1 + layer * (self.n_heads + 1)

    def readers_of(self, layer: int, part: Part) -> slice:
        """Indices of a layer's q, k, v or MLP readers."""
        sizes: dict[Part, int] = {
            "q": self.n_heads,
            "k": self.kv_readers,
            "v": self.kv_readers,
            "m": 1,
        }
        start = layer * self.readers_per_layer
        for name, size in sizes.items():
            if name == part:
                return slice(start, start + size)
            start += size
        raise CircuitError(f"Unknown part {part!r}: choose q, k, v or m.")

    @cached_property
    def visible(self) -> NDArray[np.int64]:
        """Number of sources that each reader sees, ``[n_reader]``."""
        counts = np.empty(self.n_readers, dtype=np.int64)
        for layer in range(self.n_layers):
            start = layer * self.readers_per_layer
            before = self.sources_before(layer)
            counts[start : start + self.readers_per_layer] = before
            if not self.parallel:
                counts[self.readers_of(layer, "m")] = before + self.n_heads
        counts[-1] = self.n_sources
        return counts

    @cached_property
    def first_edge(self) -> NDArray[np.int64]:
        """Position of each reader's first edge, and the number of edges, ``[n_reader + 1]``."""
        return np.concatenate([[0], np.cumsum(self.visible)])

    def edges_of(self, readers: slice) -> slice:
        """Positions of the edges into consecutive readers; each sees ``visible`` sources."""
        return slice(int(self.first_edge[readers.start]), int(self.first_edge[readers.stop]))

    @cached_property
    def reader_index(self) -> NDArray[np.int64]:
        """Reader of each edge, ``[n_edges]``."""
        return np.repeat(np.arange(self.n_readers), self.visible)

    @cached_property
    def source_index(self) -> NDArray[np.int64]:
        """Source of each edge, ``[n_edges]``."""
        return np.arange(self.n_edges) - np.repeat(self.first_edge[:-1], self.visible)

    # -- names and layers --------------------------------------------------------------------

    @cached_property
    def sources(self) -> list[str]:
        """Names of the sources, in the order in which they write."""
        names = ["input"]
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)] + [f"m{layer}"]
        return names

    @cached_property
    def readers(self) -> list[str]:
        """Names of the readers, such as ``a0.h3<q>``, ``m0`` and ``logits``."""
        names = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.n_heads)]
            for part in "kv":
                names += [f"a{layer}.h{head}<{part}>" for head in range(self.kv_readers)]
            names.append(f"m{layer}")
        return [*names, "logits"]

    @property
    def nodes(self) -> list[str]:
        """Names of all nodes: the sources and ``logits``."""
        return [*self.sources, "logits"]

    @cached_property
    def names(self) -> list[str]:
        """Names of all edges, in the order of the scores."""
        pairs = zip(self.source_index.tolist(), self.reader_index.tolist(), strict=True)
        return [f"{self.sources[s]}->{self.readers[r]}" for s, r in pairs]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """Position of an edge in the scores.

        Raises:
            CircuitError: the graph has no such edge.
        """
        try:
            return self._positions[name]
        except KeyError:
            near = self.near(name)
            hint = f"did you mean {' or '.join(map(repr, near))}? T" if near else "t"
            raise CircuitError(
                f"Unknown edge {name[:80]!r}: {hint}his graph has {self.n_layers} layers of "
                f"{self.n_heads} heads with {self.kv} k and v, and names such as "
                f"{self.names[-1]!r}."
            ) from None

    def near(self, name: str, n: int = 3) -> list[str]:
        """Up to ``n`` edges whose names are like this one's, the most alike first.

        Source and reader are looked for apart, as a large model has a million edges.
        """
        source, _, reader = name[:80].partition("->")
        sources = get_close_matches(source, self.sources, n=n)
        readers = get_close_matches(reader, self.readers, n=n)
        found = [f"{s}->{r}" for s in sources for r in readers]
        return [edge for edge in found if edge in self._positions][:n]

    @cached_property
    def layer_of_source(self) -> NDArray[np.int64]:
        """Layer of each source, −1 for ``input``, ``[n_source]``."""
        layers = np.repeat(np.arange(self.n_layers), self.n_heads + 1)
        return np.concatenate([[-1], layers])

    @cached_property
    def layer_of_reader(self) -> NDArray[np.int64]:
        """Layer of each reader, ``n_layers`` for ``logits``, ``[n_reader]``."""
        layers = np.repeat(np.arange(self.n_layers), self.readers_per_layer)
        return np.concatenate([layers, [self.n_layers]])

    @property
    def source_layer(self) -> NDArray[np.int64]:
        """Layer of each edge's source, −1 for ``input``, ``[n_edges]``."""
        layers: NDArray[np.int64] = self.layer_of_source[self.source_index]
        return layers

    @property
    def reader_layer(self) -> NDArray[np.int64]:
        """Layer of each edge's reader, ``n_layers`` for ``logits``, ``[n_edges]``."""
        layers: NDArray[np.int64] = self.layer_of_reader[self.reader_index]
        return layers

    @cached_property
    def split(self) -> NDArray[np.str_]:
        """What each edge feeds, ``[n_edges]``: ``q``, ``k``, ``v``, ``mlp`` or ``logits``."""
        layer = np.repeat(["q", "k", "v", "mlp"], [self.n_heads, *[self.kv_readers] * 2, 1])
        return np.concatenate([np.tile(layer, self.n_layers), ["logits"]])[self.reader_index]

    @cached_property
    def reader_nodes(self) -> list[str]:
        """Node of each reader: its name without the split, ``[n_reader]``."""
        return [name.partition("<")[0] for name in self.readers]
