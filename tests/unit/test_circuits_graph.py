"""The graph against counts and names made by hand."""

import numpy as np
import pytest

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import CircuitError


@pytest.mark.parametrize(
    ("graph", "edges"),
    [
        (Graph(12, 12, 12), 32_491),  # GPT-2 small
        (Graph(28, 28, 4), 935_747),  # Qwen2.5-7B
        (Graph(28, 28, 4, "grouped"), 408_227),
        (Graph(32, 32, 32), 1_592_881),  # LLaMA-2-7B
    ],
)
def test_edge_counts_of_the_literature(graph, edges):
    assert graph.n_edges == edges
    assert len(graph.source_index) == len(graph.reader_index) == edges


def test_one_layer_two_heads_by_hand():
    graph = Graph(1, 2, 1)
    assert graph.sources == ["input", "a0.h0", "a0.h1", "m0"]
    assert graph.nodes == ["input", "a0.h0", "a0.h1", "m0", "logits"]
    assert graph.names == [
        *[f"input->a0.h{head}<{part}>" for part in "qkv" for head in (0, 1)],
        *["input->m0", "a0.h0->m0", "a0.h1->m0"],
        *["input->logits", "a0.h0->logits", "a0.h1->logits", "m0->logits"],
    ]
    assert graph.split.tolist() == ["q"] * 2 + ["k"] * 2 + ["v"] * 2 + ["mlp"] * 3 + ["logits"] * 4
    assert graph.source_layer.tolist() == [-1] * 7 + [0, 0, -1, 0, 0, 0]
    assert graph.reader_layer.tolist() == [0] * 9 + [1] * 4
    assert graph.reader_nodes[:2] == ["a0.h0", "a0.h1"]


def test_grouped_readers_are_key_value_heads():
    names = Graph(1, 4, 2, "grouped").names
    assert [n for n in names if "<k>" in n] == ["input->a0.h0<k>", "input->a0.h1<k>"]
    assert sum("<q>" in n for n in names) == 4


def test_parallel_attention_and_mlp_do_not_feed_each_other():
    names = Graph(2, 2, 2, parallel=True).names
    assert "a0.h0->m0" not in names
    assert "a0.h0->m1" in names
    assert "a0.h0->m0" in Graph(2, 2, 2).names


@pytest.mark.parametrize("kv", ["ungrouped", "grouped"])
def test_index_and_names_agree_and_edges_run_forward(kv):
    graph = Graph(3, 4, 2, kv)
    assert len(set(graph.names)) == graph.n_edges
    assert [graph.index(name) for name in graph.names] == list(range(graph.n_edges))
    assert (graph.source_layer <= graph.reader_layer).all()
    same = graph.source_layer == graph.reader_layer
    assert set(graph.split[same]) == {"mlp"}  # within a layer only heads -> MLP
    assert (np.diff(graph.reader_index) >= 0).all()


def test_readers_of_matches_names():
    graph = Graph(2, 3, 3)
    assert graph.readers[graph.readers_of(1, "v")] == ["a1.h0<v>", "a1.h1<v>", "a1.h2<v>"]
    assert graph.readers[graph.readers_of(0, "m")] == ["m0"]
    with pytest.raises(CircuitError, match="part"):
        graph.readers_of(0, "x")


def test_unknown_edge_is_said_with_an_example_of_a_known_one():
    with pytest.raises(CircuitError, match=r"Unknown edge 'm1->m0'.*'m1->logits'"):
        Graph(2, 2, 2).index("m1->m0")
