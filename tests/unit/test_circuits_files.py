"""Circuits: selection, and files that come back as they were."""

import json

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.errors import CircuitError

GRAPH = Graph(1, 1, 1)  # 3 readers q, k, v with 1 source, MLP with 2, logits with 3


def circuit():
    scores = np.array([0.5, -2.0, 0.0, 1.0, 1.0, -0.25, 3.0, 0.125], dtype=np.float32)
    return Circuit(GRAPH, scores)


def test_top_by_absolute_and_signed_score():
    names = np.array(GRAPH.names)
    assert names[circuit().top(2)].tolist() == ["input->a0.h0<k>", "a0.h0->logits"]
    assert set(names[circuit().top(2, by="signed")]) == {"a0.h0->logits", "input->m0"}
    assert circuit().top(0).sum() == 0
    assert circuit().top(8).all()
    with pytest.raises(CircuitError, match="9 of 8"):
        circuit().top(9)
    with pytest.raises(CircuitError, match="ranking"):
        circuit().top(1, by="size")


def test_json_holds_every_edge_by_name(tmp_path):
    circuit().to_json(tmp_path / "c.json")
    content = json.loads((tmp_path / "c.json").read_text())
    assert content["a0.h0->logits"] == 3.0
    assert list(content) == GRAPH.names
    again = Circuit.from_json(tmp_path / "c.json", GRAPH)
    np.testing.assert_array_equal(again.scores, circuit().scores)


def test_parquet_brings_its_graph_and_columns(tmp_path):
    circuit().to_parquet(tmp_path / "c.parquet", rank=np.arange(8))
    again = Circuit.from_parquet(tmp_path / "c.parquet")
    assert again.graph == GRAPH
    np.testing.assert_array_equal(again.scores, circuit().scores)
    table = pd.read_parquet(tmp_path / "c.parquet")
    assert list(table) == [
        *["edge", "source", "reader", "split", "source_layer", "reader_layer", "score", "rank"]
    ]
    row = table.set_index("edge").loc["a0.h0->m0"]
    assert row[["source", "reader", "split"]].tolist() == ["a0.h0", "m0", "mlp"]


def test_files_that_are_no_circuits(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CircuitError, match="JSON"):
        Circuit.from_json(tmp_path / "bad.json", GRAPH)
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(CircuitError, match="object"):
        Circuit.from_json(tmp_path / "list.json", GRAPH)
    with pytest.raises(CircuitError, match=r"Unknown edge 'm7->logits'"):
        Circuit.from_scores({"m7->logits": 1.0}, GRAPH)
    with pytest.raises(CircuitError, match="number"):
        Circuit.from_scores({"m0->logits": "big"}, GRAPH)
    pd.DataFrame({"edge": ["a"], "score": [1.0]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(CircuitError, match="isn't a circuit"):
        Circuit.from_parquet(tmp_path / "other.parquet")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CircuitError, match="isn't a circuit"):
        Circuit.from_parquet(tmp_path / "damaged.parquet")
    with pytest.raises(CircuitError, match="shape"):
        Circuit(GRAPH, np.zeros(7, dtype=np.float32))


ENTRY = {"clean": [1, 2, 3], "corrupted": [1, 5, 3], "answer": 4, "distractor": 6, "position": -1}


def test_examples_file_counts_negative_positions_from_the_end(tmp_path):
    path = tmp_path / "examples.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, "position": 1}, {**ENTRY, "position": -3}]))
    items = read_examples(path)
    assert [item.reads for item in items] == [(2,), (1,), (0,)]
    assert [item.example for item in items] == [0, 1, 2]
    assert items[0].answers == ((4,),)
    assert items[0].distractors == ((6,),)
    assert items[0].corrupted == (1, 5, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not valid JSON"),
        ("[]", "is empty"),
        ('{"clean": [1]}', "list"),
        (json.dumps([{**ENTRY, "position": 3}]), r"position 3.*3 tokens"),
        (json.dumps([{**ENTRY, "position": -4}]), "position -4"),
        (json.dumps([{**ENTRY, "clean": []}]), r"list\[0\]\.clean"),
        (json.dumps([{**ENTRY, "answer": "four"}]), r"list\[0\]\.answer"),
        (json.dumps([{**ENTRY, "answer": -1}]), r"list\[0\]\.answer"),
        (json.dumps([{**ENTRY, "clean": [1, 2.5, 3]}]), r"list\[0\]\.clean\[1\]"),
        (json.dumps([{**ENTRY, "target": 3}]), r"list\[0\]\.target"),
        (json.dumps([{k: v for k, v in ENTRY.items() if k != "answer"}]), r"list\[0\]\.answer"),
    ],
)
def test_malformed_examples_are_said_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "examples.json"
    path.write_text(content)
    with pytest.raises(CircuitError, match=message) as caught:
        read_examples(path)
    assert "\n" not in str(caught.value)


def test_missing_examples_file(tmp_path):
    with pytest.raises(CircuitError, match="Can't read"):
        read_examples(tmp_path / "none.json")


def test_entries_of_one_example_with_steps_and_sets_of_ids(tmp_path):
    path = tmp_path / "examples.json"
    first = {**ENTRY, "example": 7, "answer": [4, 5], "distractor": [6, 8, 9]}
    path.write_text(json.dumps([first, {**first, "step": 2, "position": 0}]))
    items = read_examples(path)
    assert [(item.example, item.step, item.reads) for item in items] == [(7, 0, (2,)), (7, 2, (0,))]
    assert items[0].answers == ((4, 5),)
    assert items[0].distractors == ((6, 8, 9),)
    path.write_text(json.dumps([{**ENTRY, "answer": []}]))
    with pytest.raises(CircuitError, match=r"list\[0\]\.answer"):
        read_examples(path)
    path.write_text(json.dumps([first, ENTRY]))
    with pytest.raises(CircuitError, match="1 of 2 entries don't say their example"):
        read_examples(path)


def test_a_circuit_is_read_by_suffix_and_must_be_of_the_graph(tmp_path):
    for name in ("c.json", "c.parquet"):
        (circuit().to_json if name == "c.json" else circuit().to_parquet)(tmp_path / name)
        again = Circuit.read(tmp_path / name, GRAPH)
        np.testing.assert_array_equal(again.scores, circuit().scores)
    with pytest.raises(CircuitError, match="graph isn't the model's"):
        Circuit.read(tmp_path / "c.parquet", Graph(2, 1, 1))
    with pytest.raises(CircuitError, match=r"must end in \.json or \.parquet"):
        Circuit.read(tmp_path / "c.csv", GRAPH)
