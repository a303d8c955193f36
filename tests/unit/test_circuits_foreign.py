"""Circuit files that mechshift didn't write, or that say absurd things of their graph."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import MOST, Graph
from mechshift_lib.errors import CircuitError

GRAPH = Graph(2, 4, 2)
PLAIN = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2}


def write(path: Path, about: object, edge: list[object], score: pa.Array) -> Path:
    table = pa.table({"edge": pa.array(edge), "score": score})
    text = about if isinstance(about, str) else json.dumps(about)
    pq.write_table(table.replace_schema_metadata({"mechshift.graph": text}), path)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"n_layers": -1},
        {"n_layers": 2.5},
        {"n_layers": True},
        {"n_layers": "2"},
        {"n_layers": 100_000},
        {"n_layers": 10**30},
        {"n_heads": 0},
        {"n_kv_heads": 3},
        {"kv": "sideways"},
        {"kv": ["ungrouped"] * 1000},
        {"parallel": 1},
        {"colour": "red"},
        {"n_layers": MOST, "n_heads": MOST, "n_kv_heads": MOST},
    ],
)
def test_absurd_graphs_are_refused_before_anything_of_their_size_is_made(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = write(tmp_path / "c.parquet", PLAIN | change, ["m0->logits"], pa.array([1.0]))
    tracemalloc.start()
    with pytest.raises(CircuitError) as caught:
        Circuit.from_parquet(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("about", ["[1]", "null", "{", "[" * 5000, "3"])
def test_a_graph_that_is_none(tmp_path: Path, about: str) -> None:
    path = write(tmp_path / "c.parquet", about, ["m0->logits"], pa.array([1.0]))
    with pytest.raises(CircuitError):
        Circuit.read(path, GRAPH)


@pytest.mark.parametrize("kind", ["text", "null", "nan", "names", "column"])
def test_scores_or_names_that_are_none(tmp_path: Path, kind: str) -> None:
    path, names, n = tmp_path / "c.parquet", list(GRAPH.names), GRAPH.n_edges
    write(path, PLAIN, names, pa.array(np.ones(n)))
    assert Circuit.read(path, GRAPH).scores.tolist() == [1.0] * n
    if kind == "names":
        write(path, PLAIN, names[::-1], pa.array(np.ones(n)))
    elif kind == "column":
        table = pa.table({"edge": names}).replace_schema_metadata(
            {"mechshift.graph": json.dumps(PLAIN)}
        )
        pq.write_table(table, path)
    else:
        scores = {
            "text": pa.array(["strong"] * n),
            "null": pa.array([None] * n, pa.float32()),
            "nan": pa.array([np.nan] * n),
        }[kind]
        write(path, PLAIN, names, scores)
    with pytest.raises(CircuitError):
        Circuit.read(path, GRAPH)


def test_files_that_are_no_circuit(tmp_path: Path) -> None:
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" + b"\x00" * 50 + b"PAR1")
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "deep.json").write_text('{"a":' * 50_000)
    (tmp_path / "nested.json").write_text('{"m0->logits": ' + "[" * 800 + "]" * 800 + "}")
    (tmp_path / "latin.json").write_bytes(b'{"\xe4": 1}')
    pq.write_table(pa.table({"edge": ["x"], "score": [1.0]}), tmp_path / "plain.parquet")
    for path in [*tmp_path.iterdir(), tmp_path / "absent.json", tmp_path / "absent.parquet"]:
        with pytest.raises(CircuitError) as caught:
            Circuit.read(path, GRAPH)
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("kv", ["ungrouped", "grouped"])
def test_the_number_of_edges_is_counted_without_making_them(kv: str, parallel: bool) -> None:
    for layers, heads, kv_heads in ((1, 1, 1), (2, 4, 2), (5, 6, 1)):
        graph = Graph(layers, heads, kv_heads, kv, parallel)
        assert graph.n_edges == graph.visible.sum() == len(graph.names)
