"""Kinds of edges, and how sure it is that an edge belongs to a circuit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.edges import NO_COMPONENT, Edges
from mechshift_lib.comparison.overlap import Mask, top_edges

#: Readers by the end of an edge's name; what has none of these is an MLP.
_READERS = {"q": "<q>", "k": "<k>", "v": "<v>", "logits": "->logits"}
#: Share of resamples in which an edge of the core is, and in which one of noise isn't.
SURE = 0.95


def edge_kinds(edges: Edges) -> dict[str, Mask]:
    """Which edges are of each kind, each ``[n_edges]``.

    By what reads (``read by q``, k, v, mlp, logits), by source (``from the embedding``), and, of
    the others, by how many layers lie between their ends.
    """
    names = np.array(edges.names)
    kinds = {name: np.char.endswith(names, end) for name, end in _READERS.items()}
    found = {f"read by {name}": mask for name, mask in kinds.items()}
    found["read by mlp"] = ~np.logical_or.reduce(list(kinds.values()))
    embedded = edges.source == NO_COMPONENT
    found["from the embedding"] = embedded
    layers = np.round((edges.reader_depth - edges.source_depth) * edges.n_layers).astype(int)
    found["within a layer"] = ~embedded & (layers == 0)
    found["to the next layer"] = ~embedded & (layers == 1)
    found["over 2 layers or more"] = ~embedded & (layers > 1)
    return found


def inclusion(
    scores: NDArray[np.floating], count: int, *, draws: int, seed: int
) -> NDArray[np.float64]:
    """Share of bootstrap resamples in which each edge is among the strongest, ``[n_edges]``.

    Args:
        scores: ``[n_example, n_edges]``.
        count: edges of a circuit.
        draws: resamples of the examples.
        seed: seed of the resampling.
    """
    means = resample(len(scores), draws, seed) @ np.asarray(scores, dtype=np.float64)
    return np.asarray(top_edges(means, count).mean(axis=0))


def sureness(share: NDArray[np.float64]) -> dict[str, Mask]:
    """Edges by :func:`inclusion`: ``core`` (:data:`SURE` of resamples or more), ``noise`` (in some,
    but no more than the rest), ``contingent`` (between).
    """
    core, noise = share >= SURE, (share > 0) & (share <= 1 - SURE)
    return {"core": core, "contingent": (share > 1 - SURE) & ~core, "noise": noise}
