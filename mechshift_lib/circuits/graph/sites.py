"""Sites: which readers stand together, because they read what one norm puts out.

Each layer has two sites, its attention (all q, k and v readers) and its MLP; the logits are the
last one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.graph import Graph


def site_readers(graph: Graph) -> Iterator[slice]:
    """Readers of each site: attention and MLP of each layer, then the logits."""
    for layer in range(graph.n_layers):
        yield slice(graph.readers_of(layer, "q").start, graph.readers_of(layer, "v").stop)
        yield graph.readers_of(layer, "m")
    yield slice(graph.n_readers - 1, graph.n_readers)


def by_site(graph: Graph, edges: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Edges, in the order of ``graph.names``, of one site after the other (of those that have any).

    Args:
        graph: the graph.
        edges: positions of edges, ``[n_chosen]``.
    """
    attention = np.isin(graph.split[edges], ["q", "k", "v"])
    site = 2 * graph.reader_layer[edges] + ~attention
    for index in np.unique(site):
        yield edges[site == index]
