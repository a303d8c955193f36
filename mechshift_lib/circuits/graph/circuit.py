"""A circuit: one score per edge of a graph, with selection and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import CircuitError

_GRAPH_KEY = b"mechshift.graph"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Circuit:
    """Scores of all edges.

    Attributes:
        graph: the graph.
        scores: one score per edge, in the order of ``graph.names``, ``[n_edges]``; positive =
            corrupting the edge lowers the metric.
    """

    graph: Graph
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.scores.shape != (self.graph.n_edges,):
            raise CircuitError(
                f"A graph with {self.graph.n_edges} edges can't have scores of shape "
                f"{self.scores.shape}."
            )

    def top(self, n: int, by: str = "absolute") -> NDArray[np.bool_]:
        """The ``n`` strongest edges, as a mask ``[n_edges]``.

        Ranked by absolute or by signed score; of equal scores the earlier edge wins.

        Raises:
            CircuitError: ``n`` is out of range or ``by`` is unknown.
        """
        self.check_selection(n, by)
        ranked = np.abs(self.scores) if by == "absolute" else self.scores
        mask = np.zeros(self.graph.n_edges, dtype=bool)
        mask[np.argsort(-ranked, kind="stable")[:n]] = True
        return mask

    def strongest(self, n: int, by: str = "absolute") -> list[str]:
        """Names of the ``n`` strongest edges, in the graph's order.

        Raises:
            CircuitError: as :meth:`top`.
        """
        return [name for name, kept in zip(self.graph.names, self.top(n, by), strict=True) if kept]

    def check_selection(self, n: int, by: str) -> None:
        """Refuse a selection that can't be made.

        Raises:
            CircuitError: ``n`` is out of range or ``by`` is unknown.
        """
        if not 0 <= n <= self.graph.n_edges:
            raise CircuitError(f"Can't take {n} of {self.graph.n_edges} edges.")
        if by not in ("absolute", "signed"):
            raise CircuitError(f"Unknown ranking {by!r}: choose 'absolute' or 'signed'.")

    def frame(self, **columns: NDArray[Any]) -> pd.DataFrame:
        """One row per edge: edge, source, reader, split, layers, score and more ``columns``."""
        graph = self.graph
        return pd.DataFrame(
            {
                "edge": graph.names,
                "source": np.array(graph.sources)[graph.source_index],
                "reader": np.array(graph.reader_nodes)[graph.reader_index],
                "split": graph.split,
                "source_layer": graph.source_layer,
                "reader_layer": graph.reader_layer,
                "score": self.scores,
                **columns,
            }
        )

    def to_json(self, path: str | Path) -> None:
        """Write ``{edge name: score}``."""
        scores = self.scores.astype(float).tolist()
        text = json.dumps(dict(zip(self.graph.names, scores, strict=True)), indent=0)
        write_file(path, text.encode())

    @classmethod
    def read(cls, path: str | Path, graph: Graph) -> Circuit:
        """Read the scores of a graph's edges from ``.json`` or ``.parquet``.

        Raises:
            CircuitError: the file can't be read, or is of another graph.
        """
        if check_suffix(path) == ".json":
            return cls.from_json(path, graph)
        circuit = cls.from_parquet(path)
        circuit.check_graph(graph)
        return circuit

    def check_graph(self, graph: Graph) -> None:
        """Refuse scores of another graph's edges.

        Raises:
            CircuitError: the graphs differ.
        """
        if self.graph != graph:
            raise CircuitError(
                f"The circuit's graph isn't the model's, {self.graph} against {graph}: take a "
                "circuit of this model, or of one with the same layers and heads."
            )

    @classmethod
    def from_json(cls, path: str | Path, graph: Graph) -> Circuit:
        """Read ``{edge name: score}``; edges that the file doesn't name score 0.

        Raises:
            CircuitError: the file is missing or not such an object, or an edge is unknown.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CircuitError(f"{path} can't be read as JSON: {error}.") from error
        return cls.from_scores(content, graph)

    @classmethod
    def from_scores(cls, named: Mapping[str, float], graph: Graph) -> Circuit:
        """A circuit from scores by edge name; edges that aren't named score 0.

        Raises:
            CircuitError: an edge is unknown or a score isn't a finite number.
        """
        scores = np.zeros(graph.n_edges, dtype=np.float32)
        if not isinstance(named, Mapping):
            raise CircuitError("A circuit is an object of edge names and scores.")
        for name, score in named.items():
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise CircuitError(f"Edge {name!r} has the score {score!r}: give a number.")
            if not abs(score) <= _LARGEST:  # NaN, too
                raise CircuitError(f"Edge {name!r} has the score {score}: give a finite number.")
            scores[graph.index(name)] = score
        return cls(graph, scores)

    def to_parquet(self, path: str | Path, **columns: NDArray[Any]) -> None:
        """Write :meth:`frame` with the graph in the file's metadata."""
        table = pa.Table.from_pandas(self.frame(**columns), preserve_index=False)
        metadata = {**(table.schema.metadata or {}), _GRAPH_KEY: json.dumps(asdict(self.graph))}
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(metadata), sink)
        write_file(path, sink.getvalue().to_pybytes())

    @classmethod
    def from_parquet(cls, path: str | Path) -> Circuit:
        """Read what :meth:`to_parquet` wrote.

        Raises:
            CircuitError: the file is missing, damaged or not written by :meth:`to_parquet`.
        """
        try:
            table = pq.read_table(path, columns=["edge", "score"])
            graph = Graph(**json.loads(table.schema.metadata[_GRAPH_KEY]))
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise CircuitError(f"{path} isn't a circuit that mechshift wrote: {error}.") from error
        if table["edge"].to_pylist() != graph.names:
            raise CircuitError(f"{path} doesn't hold the edges of its graph: export it again.")
        return cls(graph, table["score"].to_numpy().astype(np.float32))


def check_suffix(out: str | Path, allowed: Sequence[str] = (".json", ".parquet")) -> str:
    """The suffix of a file to be written.

    Raises:
        CircuitError: it is none of those allowed.
    """
    suffix = Path(out).suffix
    if suffix not in allowed:
        raise CircuitError(
            f"Can't use {Path(out).name!r}: its name must end in "
            f"{' or '.join(filter(None, (', '.join(allowed[:-1]), allowed[-1])))}."
        )
    return suffix


def write_file(path: str | Path, content: bytes) -> None:
    """Write whole or not at all.

    Raises:
        CircuitError: the file can't be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise CircuitError(f"Can't write {path}: {error.strerror}.") from error
