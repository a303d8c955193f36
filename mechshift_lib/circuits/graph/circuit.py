"""A circuit: one score per edge of a graph, with selection and files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mechshift_lib.choices import RANKINGS
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.documents.files import check_place, read_bytes, read_json, speaking
from mechshift_lib.errors import CircuitError, shown
from mechshift_lib.results.atomic import write_atomic

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
        if by not in RANKINGS:
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
        return cls.from_parquet(path, graph)

    def check_graph(self, graph: Graph) -> None:
        """Refuse scores of another graph's edges.

        Raises:
            CircuitError: the graphs differ.
        """
        _check_same(self.graph, graph)

    @classmethod
    def from_json(cls, path: str | Path, graph: Graph) -> Circuit:
        """Read ``{edge name: score}``; edges that the file doesn't name score 0.

        Raises:
            CircuitError: the file is missing or not such an object, or an edge is unknown.
        """
        return cls.from_scores(read_json(path, "Circuit", CircuitError), graph)

    @classmethod
    def from_scores(cls, named: Mapping[str, float], graph: Graph) -> Circuit:
        """A circuit from scores by edge name; edges that aren't named score 0.

        A list of scores, one a position, is added up.

        Raises:
            CircuitError: an edge is unknown, a score isn't a finite number, or these are the edges
                of the same graph with grouped keys and values.
        """
        scores = np.zeros(graph.n_edges, dtype=np.float32)
        if not isinstance(named, Mapping):
            raise CircuitError("A circuit is an object of edge names and scores.")
        _check_ungrouped(named, graph)
        for name, score in named.items():
            if isinstance(score, list) and score and all(map(_is_number, score)):
                score = math.fsum(score)
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise CircuitError(
                    f"Edge {shown(name)} has the score {shown(score)}: give a number."
                )
            if not abs(score) <= _LARGEST:  # NaN, too
                raise CircuitError(
                    f"Edge {shown(name)} has the score {shown(score)}: give a finite number."
                )
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
    def from_parquet(cls, path: str | Path, expected: Graph | None = None) -> Circuit:
        """Read what :meth:`to_parquet` wrote.

        What the file says of its graph is compared with the number of its rows, and with
        ``expected``, before anything of that size is made.

        Raises:
            CircuitError: the file is missing, damaged, not written by :meth:`to_parquet`, or of
                another graph than ``expected``.
        """
        content = read_bytes(path, "Circuit", CircuitError)
        try:
            file = pq.ParquetFile(pa.BufferReader(content))
            graph = Graph(**json.loads(file.schema_arrow.metadata[_GRAPH_KEY]))
            if expected is not None:
                _check_same(graph, expected)
            if file.metadata.num_rows != graph.n_edges:
                raise CircuitError(f"{path} doesn't hold the edges of its graph: export it again.")
            table = file.read(columns=["edge", "score"])
            names, column = table["edge"].to_pylist(), table["score"]
        except (
            KeyError,
            ValueError,
            TypeError,
            OSError,
            pa.ArrowException,
            RecursionError,
        ) as error:
            raise CircuitError(
                f"{path} isn't a circuit that mechshift wrote: {str(error).rstrip('.')}."
            ) from error
        if names != graph.names:
            raise CircuitError(f"{path} doesn't hold the edges of its graph: export it again.")
        if not pa.types.is_floating(column.type) or column.null_count:
            raise CircuitError(f"{path} has scores that aren't numbers: export it again.")
        scores = column.to_numpy().astype(np.float32)
        if not np.isfinite(scores).all():
            raise CircuitError(f"{path} has scores that aren't finite: export it again.")
        return cls(graph, scores)


def _is_number(score: object) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool)


def _check_ungrouped(named: Mapping[str, Any], graph: Graph) -> None:
    """Refuse all edges of the grouped graph where the ungrouped one is asked for: as the names of
    the first heads are in both, they would be taken for a part of it.
    """
    if graph.kv == "grouped" or graph.n_kv_heads == graph.n_heads:
        return
    grouped = replace(graph, kv="grouped")
    if len(named) == grouped.n_edges and set(named) == set(grouped.names):
        raise CircuitError(
            "These are the edges of the graph with grouped keys and values: say --kv grouped."
        )


def _check_same(graph: Graph, expected: Graph) -> None:
    if graph != expected:
        raise CircuitError(
            f"The circuit's graph isn't the model's, {graph} against {expected}: take a "
            "circuit of this model, or of one with the same layers and heads."
        )


def check_out(out: str | Path, allowed: Sequence[str] = (".json", ".parquet")) -> str:
    """The suffix of a file to be written, once it is clear that it can be.

    Raises:
        CircuitError: the suffix is none of those allowed, or nothing can be written there.
    """
    suffix = check_suffix(out, allowed)
    check_place(out, CircuitError)
    return suffix


def check_suffix(out: str | Path, allowed: Sequence[str] = (".json", ".parquet")) -> str:
    """The suffix of a file.

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
    with speaking(CircuitError, path):
        write_atomic(Path(path), content)
