"""Scripts that the page loads: one index of all pairs, and one file for each training's circuits.

They are scripts, not JSON, because a page that is opened from a folder may load scripts only. A
file calls ``mechshiftExplorer.add(NAME, {...})``; the numbers in it are one block of bytes,
deflated, as base64, in this order (little-endian):

1. ``edges``, int32: places in ``graph.names`` of the file's edges; none where it has all;
2. ``scores``, float32 ``[n_circuit, n_edges]``: means over the examples;
3. ``overlap``, float32 ``[n_pair, 3, n_stops]``: mean, 2.5 % and 97.5 % over splits of examples;
4. ``entering``, uint8 ``[n_circuit, n_edges, n_stops]``: in how many halves' circuits an edge is
   that it isn't in at the stop before; left out where ``halves`` is 0.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.config import Pair
from mechshift_lib.explorer.curves import chance, halves, ranks, stops
from mechshift_lib.explorer.sources import ALONG, Circuits, Source
from mechshift_lib.plots.palette import ROLE_COLORS
from mechshift_lib.plots.theme import label

#: A graph with more edges shows only those among this many strongest of some model.
ALL_EDGES, STRONGEST = 5000, 2000


def largest(n_edges: int) -> int:
    """Edges of the largest circuit that can be chosen in a graph of this size."""
    return n_edges if n_edges <= ALL_EDGES else STRONGEST


def name_of(pair: str, found: Source) -> str:
    """Name of a file without its ending, such as ``tiny-qwen/ioi.exact.all.0``."""
    return f"{pair}/{found.task}.{found.estimator}.{found.read}.{found.seed}"


def script(pair: str, found: Circuits) -> str:
    """The file of one training's circuits."""
    n_edges = found.graph.n_edges
    counts = stops(n_edges, largest(n_edges))
    means = np.stack([one.mean(axis=0) for one in found.scores])
    whole = counts[-1] == n_edges
    edges = np.arange(n_edges) if whole else _strong(means, counts[-1])
    along = found.estimator == ALONG and len(found.splits) < len(found.names)
    pairs = [(n, n) for n in found.names] if along else _all_pairs(found.names)
    halved = halves(
        found.names,
        found.scores,
        found.splits,
        counts,
        pairs,
        edges[:0] if along else edges,
    )
    block = b"".join(
        [
            b"" if whole else edges.astype("<i4").tobytes(),
            means[:, edges].astype("<f4").tobytes(),
            np.stack([halved.overlap[pair] for pair in pairs]).astype("<f4").tobytes(),
            halved.entering.tobytes(),
        ]
    )
    about: dict[str, Any] = {
        "names": list(found.names),
        "n": found.n,
        "shares": found.shares,
        "edges": 0 if whole else len(edges),
        "pairs": [list(pair) for pair in pairs],
        "halves": 0 if along else halved.n_halves,
        "data": base64.b64encode(zlib.compress(block, 4)).decode(),
    }
    return f"mechshiftExplorer.add({_json(name_of(pair, found))}, {_json(about)});\n"


def _all_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return list(combinations_with_replacement(names, 2))


def _strong(means: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Edges among the strongest of some circuit, ascending."""
    return np.flatnonzero(np.any([ranks(one, count) < count for one in means], axis=0))


@dataclass
class Entry:
    """What the index says of a pair.

    Attributes:
        pair: the pair.
        graph: its models' graph; None as long as no circuits were added.
        sources: task, estimator and read -> training -> names of its circuits.
    """

    pair: Pair
    graph: Any = None
    sources: dict[tuple[str, str, str], dict[int, list[str]]] = field(default_factory=dict)

    def add(self, found: Source) -> None:
        """Note circuits whose file is written."""
        self.graph = found.graph
        at = found.task, found.estimator, found.read
        self.sources.setdefault(at, {})[found.seed] = list(found.names)

    def content(self) -> dict[str, Any]:
        """The pair's part of the index."""
        n_edges = self.graph.n_edges
        counts = stops(n_edges, largest(n_edges))
        return {
            "name": self.pair.name,
            "title": self.pair.title,
            "graph": asdict(self.graph),
            "stops": counts,
            "chance": chance(n_edges, counts),
            "sources": [
                {"task": task, "estimator": estimator, "read": read, "trainings": trainings}
                for (task, estimator, read), trainings in self.sources.items()
            ],
        }


def index(entries: Sequence[Entry]) -> str:
    """The script that says what there is to look at."""
    shown = [entry for entry in entries if entry.sources]
    words = {
        word
        for entry in shown
        for (task, estimator, _), trainings in entry.sources.items()
        for names in trainings.values()
        for word in (task, estimator, *(name.split("@")[0] for name in names))
    }
    about = {
        "pairs": [entry.content() for entry in shown],
        "labels": {name: label(name) for name in sorted(words)},
        "colors": {name: ROLE_COLORS[name] for name in sorted(words) if name in ROLE_COLORS},
    }
    return f"mechshiftExplorer.index({_json(about)});\n"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
