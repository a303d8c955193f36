"""Circuits in the forms of peers, and what these can't say of ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import CircuitError
from mechshift_lib.exchange.forms import PeerForm

Mask = NDArray[np.bool_]


def peer_content(
    circuit: Circuit,
    form: PeerForm,
    *,
    d_model: int,
    members: Mask | None = None,
    scores: bool = True,
) -> dict[str, Any]:
    """A circuit as EAP-IG's ``Graph.to_json`` would write it.

    Args:
        circuit: the edges' scores.
        form: ``"eap-ig"`` or ``"mib"``.
        d_model: width of the residual stream, which MIB's ``cfg`` says.
        members: edges that are in the circuit, ``[n_edges]``; by default none, as in MIB's files of
            scores, from which circuits are made when they are evaluated.
        scores: write the scores; MIB's files of single circuits have none.

    Raises:
        CircuitError: EAP-IG's older form is asked for without scores, which it always has.
    """
    if form == "eap-ig" and not scores:
        raise CircuitError("EAP-IG's graph has a score for every edge: write it with scores.")
    graph = circuit.graph
    kept = np.zeros(graph.n_edges, dtype=bool) if members is None else members
    edges: dict[str, dict[str, Any]] = {}
    parts = zip(graph.names, circuit.scores.tolist(), kept.tolist(), strict=True)
    for name, score, inside in parts:
        for peer_name, share in _peer_names(name, graph):
            edges[peer_name] = {"score": score * share} if scores else {}
            edges[peer_name]["in_graph"] = inside
    inside_nodes = _nodes_in(name for name, edge in edges.items() if edge["in_graph"])
    nodes: dict[str, Any] = {
        node: node in inside_nodes if form == "eap-ig" else {"in_graph": node in inside_nodes}
        for node in graph.nodes
    }
    cfg: dict[str, Any] = {
        "n_layers": graph.n_layers,
        "n_heads": graph.n_heads,
        "parallel_attn_mlp": graph.parallel,
    }
    if form == "mib":
        cfg["d_model"] = d_model
    return {"cfg": cfg, "nodes": nodes, "edges": edges}


def left_out(graph: Graph) -> list[str]:
    """What the peers' forms can't say of a circuit of this graph, a sentence each."""
    said = [
        "The form doesn't say which attention, readout, metric and prompts the scores are of: keep "
        "that beside the file."
    ]
    if graph.kv == "grouped" and graph.n_kv_heads < graph.n_heads:
        said.append(
            f"The form has a k and a v edge for every query head: each of the "
            f"{graph.n_heads // graph.n_kv_heads} heads that share a key/value head gets an equal "
            "part of its score."
        )
    elif graph.n_kv_heads < graph.n_heads:
        said.append("The form doesn't say that query heads share key/value heads.")
    return said


def _peer_names(name: str, graph: Graph) -> list[tuple[str, float]]:
    """A peer's edges that stand for one of ours, and the part of its score that each gets."""
    source, _, reader = name.partition("->")
    if graph.kv == "ungrouped" or not reader.endswith(("<k>", "<v>")):
        return [(name, 1.0)]
    node, part = reader[:-3], reader[-3:]
    layer, _, head = node.partition(".h")
    shared = graph.n_heads // graph.n_kv_heads
    heads = range(int(head) * shared, (int(head) + 1) * shared)
    return [(f"{source}->{layer}.h{h}{part}", 1 / shared) for h in heads]


def _nodes_in(edges: Iterable[str]) -> set[str]:
    """Nodes on a path of these edges from the input to the logits; the logits always are.

    That is what EAP-IG's ``prune`` leaves.
    """
    ahead: dict[str, set[str]] = defaultdict(set)
    back: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        source, _, reader = edge.partition("->")
        node = reader.partition("<")[0]
        ahead[source].add(node)
        back[node].add(source)
    return (_reached("input", ahead) & _reached("logits", back)) | {"logits"}


def _reached(start: str, links: dict[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        for node in links[waiting.pop()] - found:
            found.add(node)
            waiting.append(node)
    return found
