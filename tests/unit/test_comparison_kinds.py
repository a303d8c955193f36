"""Kinds of edges and inclusion over resamples, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.edges import parse_edges
from mechshift_lib.comparison.kinds import edge_kinds, inclusion, sureness


def test_every_edge_has_one_reader_and_one_distance() -> None:
    graph = Graph(n_layers=3, n_heads=2, n_kv_heads=2)
    edges = parse_edges(graph.names, graph.n_layers)
    kinds = edge_kinds(edges)
    readers = [mask for name, mask in kinds.items() if name.startswith("read by")]
    others = [mask for name, mask in kinds.items() if not name.startswith("read by")]
    assert (np.sum(readers, axis=0) == 1).all()
    assert (np.sum(others, axis=0) == 1).all()

    def named(kind: str) -> set[str]:
        return set(np.array(edges.names)[kinds[kind]])

    assert "a0.h0->a1.h1<k>" in named("read by k") & named("to the next layer")
    assert "a1.h0->m1" in named("read by mlp") & named("within a layer")
    assert "m0->a2.h0<q>" in named("read by q") & named("over 2 layers or more")
    assert "input->logits" in named("read by logits") & named("from the embedding")
    assert "m2->logits" in named("to the next layer")


def test_edges_are_core_contingent_or_noise() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([5.0, 5.0, 1.0, 1.0, 0.0, 0.0])
    scores = truth + 0.3 * rng.normal(size=(20, 6)) * np.array([1, 1, 1, 1, 0, 0])
    share = inclusion(scores, 3, draws=300, seed=1)
    assert share.sum() == pytest.approx(3)
    assert share[:2].tolist() == [1, 1]
    assert share[4:].tolist() == [0, 0]
    found = sureness(np.array([1.0, 0.95, 0.94, 0.06, 0.05, 0.01, 0.0]))
    assert {k: np.flatnonzero(m).tolist() for k, m in found.items()} == {
        "core": [0, 1],
        "contingent": [2, 3],
        "noise": [4, 5],
    }
