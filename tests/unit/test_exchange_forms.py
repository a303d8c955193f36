"""Circuits in the forms of EAP-IG and MIB: small files in their exact form, and there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.circuits.evaluation.by_name import run_with
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curve
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.cli.files.conversions import graph_of_folder
from mechshift_lib.cli.files.examples import read_examples
from mechshift_lib.errors import CircuitError
from mechshift_lib.exchange.forms import SHARES
from mechshift_lib.exchange.reading import foreign_circuit, read_circuit
from mechshift_lib.exchange.writing import peer_content
from mechshift_lib.models.loading import load_folder
from tests.support.command import assert_refused, call, make_folder

SMALL = Graph(1, 1, 1)
#: All that EAP-IG's ``to_json`` writes of a model of one layer with one head.
MIB: dict[str, Any] = {
    "cfg": {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": False, "d_model": 8},
    "nodes": {
        "input": {"in_graph": True},
        "a0.h0": {"in_graph": True},
        "m0": {"in_graph": False},
        "logits": {"in_graph": True},
    },
    "edges": {
        "input->a0.h0<q>": {"score": 0.5, "in_graph": False},
        "input->a0.h0<k>": {"score": -2.0, "in_graph": True},
        "input->a0.h0<v>": {"score": 0.0, "in_graph": False},
        "input->m0": {"score": 1.0, "in_graph": False},
        "a0.h0->m0": {"score": 1.5, "in_graph": False},
        "input->logits": {"score": -0.25, "in_graph": False},
        "a0.h0->logits": {"score": 3.0, "in_graph": True},
        "m0->logits": {"score": 0.125, "in_graph": False},
    },
}
#: The same before MIB.
EAP_IG: dict[str, Any] = {
    "cfg": {"n_layers": 1, "n_heads": 1, "parallel_attn_mlp": False},
    "nodes": {"input": True, "a0.h0": True, "m0": False, "logits": True},
    "edges": MIB["edges"],
}
#: The edges of a circuit of nodes or neurons.
UNSCORED = {name: {"score": 0.0, "in_graph": False} for name in MIB["edges"]}
MEMBERS = ["input->a0.h0<k>", "a0.h0->logits"]


def changed(path: str, value: object) -> dict[str, Any]:
    """A copy of the MIB file in which one part, such as ``cfg/n_layers``, is another."""
    copy: dict[str, Any] = json.loads(json.dumps(MIB))
    *parents, last = path.split("/")
    place = copy
    for key in parents:
        place = place[key]
    place[last] = value
    return copy


@pytest.mark.parametrize("content", [MIB, EAP_IG])
def test_a_small_file_in_the_peers_exact_form(content: dict[str, Any]) -> None:
    found = foreign_circuit(content, SMALL)
    assert dict(zip(SMALL.names, found.circuit.scores.tolist(), strict=True)) == {
        name: edge["score"] for name, edge in MIB["edges"].items()
    }
    assert found.scored
    assert np.array(SMALL.names)[found.given].tolist() == sorted(MEMBERS, key=SMALL.index)


@pytest.mark.parametrize(("form", "content"), [("mib", MIB), ("eap-ig", EAP_IG)])
def test_what_is_written_is_what_the_peer_would_write(form: Any, content: dict[str, Any]) -> None:
    found = foreign_circuit(content, SMALL)
    assert peer_content(found.circuit, form, d_model=8, members=found.members) == content


@pytest.mark.parametrize("form", ["mib", "eap-ig"])
@pytest.mark.parametrize(
    "graph",
    [
        Graph(3, 4, 2),
        Graph(2, 4, 4),
        Graph(2, 4, 2, "grouped"),
        Graph(3, 4, 1, "grouped"),
        Graph(2, 2, 2, "ungrouped", True),
    ],
)
def test_there_and_back(form: Any, graph: Graph) -> None:
    rng = np.random.default_rng(0)
    circuit = Circuit(graph, rng.normal(size=graph.n_edges).astype(np.float32))
    members = circuit.top(graph.n_edges // 3)
    content = json.loads(json.dumps(peer_content(circuit, form, d_model=8, members=members)))
    again = foreign_circuit(content, graph)
    np.testing.assert_allclose(again.circuit.scores, circuit.scores, rtol=1e-6)
    assert again.members is not None
    np.testing.assert_array_equal(again.members, members)
    whole = Graph(graph.n_layers, graph.n_heads, graph.n_heads, "ungrouped", graph.parallel)
    assert set(content["edges"]) == set(whole.names)  # what the peers' own graph has
    assert set(content["nodes"]) == set(whole.nodes)


def test_all_edges_of_the_grouped_graph_are_no_part_of_the_ungrouped_one() -> None:
    grouped, whole = Graph(2, 4, 2, "grouped"), Graph(2, 4, 2)
    scores = dict.fromkeys(grouped.names, 1.0)
    with pytest.raises(CircuitError, match="say --kv grouped"):
        Circuit.from_scores(scores, whole)
    assert Circuit.from_scores(scores, grouped).scores.sum() == grouped.n_edges
    scores.popitem()  # some edges are a circuit that either graph may have
    assert Circuit.from_scores(scores, whole).scores.sum() == grouped.n_edges - 1


def test_scores_by_position_are_added_up() -> None:
    graph = Graph(1, 2, 2)
    name = graph.names[0]
    circuit = Circuit.from_scores({name: [0.25, -1.0, 2]}, graph)
    assert circuit.scores[graph.index(name)] == 1.25
    for wrong in ([], [True], ["1"], [float("nan")]):
        with pytest.raises(CircuitError, match="give a"):
            Circuit.from_scores({name: wrong}, graph)


def test_grouped_heads_share_the_score_of_their_edge() -> None:
    graph = Graph(1, 4, 2, "grouped")
    circuit = Circuit.from_scores({"input->a0.h1<k>": 1.0, "input->a0.h2<q>": 3.0}, graph)
    edges = peer_content(circuit, "mib", d_model=8)["edges"]
    assert {name: edge["score"] for name, edge in edges.items() if edge["score"]} == {
        "input->a0.h2<k>": 0.5,
        "input->a0.h3<k>": 0.5,
        "input->a0.h2<q>": 3.0,
    }


def test_nodes_are_in_the_graph_where_a_path_runs_through_them() -> None:
    edges = ["input->m0", "m0->a1.h0<v>", "a1.h0->logits", "input->a0.h1<q>", "m1->logits"]
    graph = Graph(2, 2, 2)
    mask = np.isin(graph.names, edges)
    content = peer_content(
        Circuit(graph, mask.astype(np.float32)), "eap-ig", d_model=8, members=mask
    )
    assert [x for x, inside in content["nodes"].items() if inside] == [
        *("input", "m0", "a1.h0", "logits")
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed("cfg/n_layers", 12), ("12 layers", "1 of 1")),
        (changed("cfg/n_heads", [3] * 99), ("heads",)),
        (changed("cfg/parallel_attn_mlp", True), ("parallel_attn_mlp", "after")),
        (changed("nodes", []), ("'nodes'",)),
        (changed("edges/m0->logits", 0.5), ("'m0->logits'", "in_graph")),
        (changed("edges/m0->logits/score", "big"), ("'big'", "number")),
        (changed("edges/m0->logits/score", float("nan")), ("finite",)),
        (changed("edges/m0->logits/in_graph", 1), ("true or false",)),
        (changed("edges/m7->logits", {"score": 1.0}), ("Unknown edge 'm7->logits'",)),
        (changed("nodes/m0/neurons", [True, False]), ("single neurons", "level of edges")),
        ({**MIB, "edges": {}}, ("names no edges",)),
        (
            {**MIB, "edges": UNSCORED, "nodes": {"m0": {"in_graph": False, "score": 1.0}}},
            ("scores of nodes", "level of edges"),
        ),
        (
            {**MIB, "edges": UNSCORED, "nodes": {"m0": {"neurons_scores": [1.0]}}},
            ("scores of neurons",),
        ),
    ],
)
def test_a_peers_file_that_cannot_be_used(content: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(CircuitError) as caught:
        foreign_circuit(content, SMALL)
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert said.endswith(".")
    assert len(said) < 400


def test_files_without_scores_and_pickles(tmp_path: Path) -> None:
    edges = {name: {"in_graph": name in MEMBERS} for name in MIB["edges"]}
    path = tmp_path / "circuit.json"
    path.write_text(json.dumps({**MIB, "edges": edges}))
    found = read_circuit(path, SMALL)
    assert int(found.given.sum()) == 2
    with pytest.raises(CircuitError, match="--given"):
        found.ranking(path)
    unscored = {name: {"score": None, "in_graph": name in MEMBERS} for name in MIB["edges"]}
    assert not foreign_circuit({**EAP_IG, "edges": unscored}, SMALL).scored
    with pytest.raises(CircuitError, match="pickle"):
        read_circuit(tmp_path / "importances.pt", SMALL)


# -- the commands ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("exchange"))


def evaluate(folder: Path, circuit: Path, out: Path, *options: object) -> pd.DataFrame:
    given = (folder / "model", folder / "examples.json", circuit, "--out", out)
    code, _, err = call("evaluate", *given, *options)
    assert code == 0, err
    return pd.read_csv(out)


@pytest.mark.parametrize("form", ["mib", "eap-ig"])
def test_a_peers_scores_are_evaluated_as_ours(folder: Path, tmp_path: Path, form: str) -> None:
    theirs = tmp_path / "importances.json"
    given = (folder / "scores.json", theirs, "--form", form, "--model", folder / "model")
    code, said, err = call("convert", *given)
    assert (code, said) == (0, f"Wrote {theirs}\n")
    assert "doesn't say which attention" in err
    assert "share key/value heads" in err  # the model's four heads share two
    options = ("--fractions", "0.1,1")
    pd.testing.assert_frame_equal(
        evaluate(folder, theirs, tmp_path / "a.csv", *options),
        evaluate(folder, folder / "scores.json", tmp_path / "b.csv", *options),
    )
    for name in ("back.json", "back.parquet"):
        back = (theirs, tmp_path / name, "--form", "mechshift", "--model", folder / "model")
        assert call("convert", *back)[0] == 0
        graph, d_model = graph_of_folder(folder / "model")
        again, own = (Circuit.read(x, graph) for x in (tmp_path / name, folder / "scores.json"))
        np.testing.assert_array_equal(again.scores, own.scores)
        assert d_model == 32


def test_circuits_of_growing_size(folder: Path, tmp_path: Path) -> None:
    circuits = tmp_path / "ioi_tiny"
    given = (folder / "scores.json", circuits, "--form", "mib", "--model", folder / "model")
    assert call("convert", *given, "--circuits", "--by", "signed")[0] == 0
    assert len(list(circuits.iterdir())) == len(SHARES)
    graph, _ = graph_of_folder(folder / "model")
    for share in SHARES:
        content = json.loads((circuits / f"{share:g}.json").read_text())
        kept = [edge["in_graph"] for edge in content["edges"].values()]
        assert sum(kept) <= share * graph.n_edges < sum(kept) + 1  # no more, and as many as may be
        assert all(set(edge) == {"in_graph"} for edge in content["edges"].values())
    assert_refused(call("convert", *given, "--circuits"), "isn't empty")
    table = evaluate(folder, circuits, tmp_path / "curve.csv")
    rows = table[table["by"] == "signed"]
    model, items = load_folder(folder / "model"), read_examples(folder / "examples.json")
    circuit = Circuit.read(folder / "scores.json", graph)
    shares = [float(path.stem) for path in sorted(circuits.iterdir(), key=lambda x: float(x.stem))]
    curve = faithfulness_curve(model, items, circuit, fractions=[*shares, 1.0], by="signed")
    np.testing.assert_allclose(rows["faithfulness"], curve.faithfulness, atol=1e-4)
    np.testing.assert_allclose(rows["fraction"], rows["n_edges"] / graph.n_edges)
    assert (table["selection"] == "given").all()


def test_a_given_circuit_of_a_peer_is_its_members(folder: Path, tmp_path: Path) -> None:
    graph, d_model = graph_of_folder(folder / "model")
    scores = Circuit.read(folder / "scores.json", graph)
    members = scores.top(30)
    content = peer_content(scores, "mib", d_model=d_model, members=members)
    (tmp_path / "c.json").write_text(json.dumps(content))
    given = (folder / "model", folder / "examples.json", tmp_path / "c.json", "--given")
    assert call("evaluate", *given, "--sample", 1, "--out", tmp_path / "o.json")[0] == 0
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["n_edges"] == 30
    model, items = load_folder(folder / "model"), read_examples(folder / "examples.json")
    runs = run_with(model, items, np.array(graph.names)[members].tolist())
    f = (runs.metric - runs.corrupted).mean() / (runs.clean - runs.corrupted).mean()
    assert found["faithfulness"] == pytest.approx(f, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--form", "eap-ig", "--circuits"), ("--form mib",)),
        (("--form", "mib", "--by", "signed"), ("--circuits",)),
        (("--form", "gexf"), ("gexf",)),
    ],
)
def test_conversions_that_there_are_not(
    folder: Path, tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    given = (folder / "scores.json", tmp_path / "o.json", "--model", folder / "model")
    refused = call("convert", *given, *options)
    assert refused[0] == 2
    assert all(word in refused[2] for word in words)
    assert not (tmp_path / "o.json").exists()


def test_options_that_a_folder_of_circuits_does_not_take(folder: Path, tmp_path: Path) -> None:
    given = ("evaluate", folder / "model", folder / "examples.json", tmp_path)
    out = ("--out", tmp_path / "c.csv")
    assert_refused(call(*given, *out, "--fractions", "0.1,1"), "as they are")
    assert_refused(call(*given, *out), "no .json files")
    (tmp_path / "scores.json").write_bytes((folder / "scores.json").read_bytes())
    assert_refused(call(*given, *out), "puts no edge")
