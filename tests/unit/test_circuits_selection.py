"""Selection on micro graphs made by hand, and against brute force over all paths."""

import itertools

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.selection import (
    check_mask,
    connected,
    greedy,
    prune,
    select,
    top_edges,
)
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import circuit_logits
from tests.support.tiny import tiny_hf, tiny_items

GRAPH = Graph(1, 1, 1)
GRAPHS = [
    Graph(2, 2, 2),
    Graph(2, 4, 2, "grouped"),
    Graph(2, 4, 2),
    Graph(3, 2, 1, "grouped", parallel=True),
]


def circuit(**scores):
    """Scores by name with ``_`` for ``->``; edges that aren't named score −9."""
    named = dict.fromkeys(GRAPH.names, -9.0)
    return Circuit.from_scores(
        named | {name.replace("__", "->"): x for name, x in scores.items()}, GRAPH
    )


def named(graph, mask):
    return {name for name, kept in zip(graph.names, mask, strict=True) if kept}


def mask_of(graph, names):
    mask = np.zeros(graph.n_edges, dtype=bool)
    mask[[graph.index(name) for name in names]] = True
    return mask


def feeds(graph, reader):
    """Nodes that a reader is part of, written out from its name."""
    node, _, part = reader.partition("<")
    if node == "logits":
        return []
    if graph.kv == "grouped" and part[:1] in ("k", "v"):
        layer, _, head = node.partition(".h")
        group = graph.n_heads // graph.n_kv_heads
        return [f"{layer}.h{int(head) * group + i}" for i in range(group)]
    return [node]


def paths(graph, names):
    """Every path of a set of edges from the input to the logits, as lists of edges."""
    found = []

    def walk(node, path):
        if node == "logits":
            found.append(path)
            return
        for name in names:
            source, _, reader = name.partition("->")
            if source == node:
                for after in feeds(graph, reader) or ["logits"]:
                    walk(after, [*path, name])

    walk("input", [])
    return found


def literal_greedy(graph, scores, n):
    """One edge at a time: look at all edges, keep those whose reader's node feeds the circuit."""
    chosen, nodes = [], {"logits"}
    for _ in range(n):
        open_edges = [
            (-scores[i], i)
            for i, name in enumerate(graph.names)
            if i not in chosen and nodes & set(feeds(graph, name.partition("->")[2]) or ["logits"])
        ]
        best = min(open_edges)[1]
        chosen.append(best)
        nodes.add(graph.names[best].partition("->")[0])
    return {graph.names[i] for i in chosen}


def test_greedy_takes_only_what_feeds_the_circuit():
    """By hand: the strongest edge waits until its reader's node has a way to the logits."""
    scores = circuit(
        **{
            "input__a0.h0<v>": 5.0,
            "a0.h0__m0": 4.0,
            "m0__logits": 1.0,
            "input__logits": 2.0,
            "a0.h0__logits": 0.5,
        }
    )
    assert named(GRAPH, top_edges(scores, 2)) == {"input->a0.h0<v>", "a0.h0->m0"}
    steps = ["input->logits", "m0->logits", "a0.h0->m0", "input->a0.h0<v>", "a0.h0->logits"]
    for n in range(6):
        assert named(GRAPH, greedy(scores, n)) == set(steps[:n])
    assert greedy(scores, GRAPH.n_edges).all()


def test_greedy_by_absolute_score_and_of_equal_scores_the_earlier():
    scores = circuit(**{"m0__logits": -20.0, "input__m0": -10.0})
    assert named(GRAPH, greedy(scores, 2, by="absolute")) == {"m0->logits", "input->m0"}
    equal = Circuit(GRAPH, np.zeros(GRAPH.n_edges, dtype=np.float32))
    assert named(GRAPH, greedy(equal, 1)) == {"input->logits"}
    assert named(GRAPH, greedy(equal, 2)) == {"input->logits", "a0.h0->logits"}
    assert named(GRAPH, top_edges(equal, 1)) == {"input->a0.h0<q>"}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("by", ["signed", "absolute"])
def test_greedy_equals_the_literal_one(graph, by):
    rng = np.random.default_rng(3)
    scores = rng.choice(np.arange(-6, 7), graph.n_edges).astype(np.float32)  # with many ties
    ranked = np.abs(scores) if by == "absolute" else scores
    for n in (1, 2, 5, 11, 30):
        found = greedy(Circuit(graph, scores), n, by)
        assert named(graph, found) == literal_greedy(graph, ranked.tolist(), n)
        assert found.sum() == n


def test_prune_by_hand():
    kept = {"input->a0.h0<q>", "a0.h0->logits"}  # a path through q is a path
    assert named(GRAPH, prune(GRAPH, mask_of(GRAPH, kept))) == kept
    loose = {*kept, "input->m0"}  # m0 reaches no logits
    assert named(GRAPH, prune(GRAPH, mask_of(GRAPH, loose))) == kept
    deaf = {*kept, "m0->logits"}  # no path from the input reaches m0
    assert named(GRAPH, prune(GRAPH, mask_of(GRAPH, deaf))) == kept
    apart = mask_of(GRAPH, {"input->a0.h0<v>", "m0->logits"})
    assert not prune(GRAPH, apart).any()
    assert not connected(GRAPH, apart)
    assert connected(GRAPH, mask_of(GRAPH, kept))
    assert connected(GRAPH, mask_of(GRAPH, {"input->logits"}))
    assert not connected(GRAPH, np.zeros(GRAPH.n_edges, dtype=bool))


def test_a_grouped_key_reader_connects_all_heads_of_its_group():
    graph = Graph(1, 4, 2, "grouped")
    kept = {"input->a0.h1<k>", "a0.h2->logits", "a0.h3->m0", "m0->logits"}
    assert named(graph, prune(graph, mask_of(graph, kept))) == kept
    other = {"input->a0.h1<k>", "a0.h1->logits"}  # KV head 1 serves the query heads 2 and 3
    assert not connected(graph, mask_of(graph, other))


@pytest.mark.parametrize("graph", GRAPHS)
def test_prune_keeps_exactly_the_edges_on_a_path(graph):
    rng = np.random.default_rng(0)
    dropped = 0
    for share in (0.1, 0.2, 0.3):
        for _ in range(5):
            mask = rng.random(graph.n_edges) < share
            expected = set(itertools.chain(*paths(graph, named(graph, mask))))
            assert named(graph, prune(graph, mask)) == expected
            assert connected(graph, mask) == bool(expected)
            dropped += mask.sum() - len(expected)
    assert dropped > 10


@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
def test_pruning_changes_no_logit_under_resample_ablation(architecture):
    hf = tiny_hf(architecture)
    graph = Graph.for_model(wrap_model(hf))
    (item,) = tiny_items(1)
    clean, corrupted = torch.tensor([item.clean]), torch.tensor([item.corrupted])
    rng = np.random.default_rng(1)
    mask = rng.random(graph.n_edges) < 0.25
    pruned = prune(graph, mask)
    assert 0 < pruned.sum() < mask.sum()
    whole, less = (
        circuit_logits(hf, clean, corrupted, named(graph, m), causal=True) for m in (mask, pruned)
    )
    torch.testing.assert_close(whole, less, atol=1e-5, rtol=1e-4)
    none = circuit_logits(hf, clean, corrupted, set(), causal=True)
    assert (whole - none).abs().max() > 1e-3


def test_select_by_name_and_what_is_refused():
    scores = Circuit(GRAPH, np.arange(GRAPH.n_edges, dtype=np.float32))
    for name, function in (("top", top_edges), ("greedy", greedy)):
        np.testing.assert_array_equal(
            select(scores, 3, "absolute", name), function(scores, 3, "absolute")
        )
    with pytest.raises(CircuitError, match="Unknown selection 'best'"):
        select(scores, 3, selection="best")
    for function in (top_edges, greedy):
        with pytest.raises(CircuitError, match="99 of 8"):
            function(scores, 99)
        with pytest.raises(CircuitError, match="Unknown ranking 'size'"):
            function(scores, 1, by="size")
    for wrong in (np.ones(7, dtype=bool), np.ones(8), np.ones((1, 8), dtype=bool)):
        with pytest.raises(CircuitError, match="mask of 8 edges"):
            check_mask(GRAPH, wrong)
