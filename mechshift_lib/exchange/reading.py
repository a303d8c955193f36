"""Circuits that peers wrote, as scores and members of a model's edges.

A file of EAP-IG's ``Graph.to_json`` has three keys::

    {"cfg": {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": false, "d_model": 768},
     "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false}, …},
     "edges": {"input->a0.h0<q>": {"score": 0.5, "in_graph": false}, …}}

Before MIB a node was ``true`` or ``false``, ``cfg`` had no ``d_model`` and a score could be null;
MIB's circuits without scores have only ``in_graph``. Scores of nodes (``score``) and neurons
(``neurons``, ``neurons_scores``) may stand beside. Edges have the names that ours have, with k and
v for every query head, and the same sign: positive = corrupting the edge raises the loss.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.graph.circuit import Circuit, check_suffix
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.documents.files import read_json
from mechshift_lib.errors import CircuitError, shown

_KEYS = ("cfg", "nodes", "edges")
_LARGEST = float(np.finfo(np.float32).max)
_KV_READER = re.compile(r"->a(\d+)\.h(\d+)<([kv])>$")


@dataclass(frozen=True)
class Foreign:
    """What a circuit's file says, in whatever form.

    Attributes:
        circuit: the edges' scores; 0 where the file has none.
        members: edges that the file puts into the circuit, ``[n_edges]``, or ``None`` where it has
            scores and puts none there.
        scored: whether the file has scores.
    """

    circuit: Circuit
    members: NDArray[np.bool_] | None
    scored: bool

    @property
    def given(self) -> NDArray[np.bool_]:
        """The circuit itself, ``[n_edges]``: the members, or the edges with a score other than 0.

        Of a file with both, the members count.
        """
        return self.circuit.scores != 0 if self.members is None else self.members

    def ranking(self, path: str | Path) -> Circuit:
        """The scores, to rank edges by.

        Raises:
            CircuitError: the file only says which edges are in the circuit.
        """
        if not self.scored:
            raise CircuitError(
                f"{path} says which edges are in its circuit and not how strong they are: add "
                "--given, or name a folder of such files, each a circuit of another size."
            )
        return self.circuit


def read_circuit(path: str | Path, graph: Graph) -> Foreign:
    """Read a circuit of a graph in any form: ours, EAP-IG's or MIB's.

    Raises:
        CircuitError: the file can't be read, is of another graph, is a pickle, or has scores of
            nodes or single neurons instead of edges.
    """
    if check_circuit_path(path) == ".parquet":
        return Foreign(Circuit.from_parquet(path, graph), None, scored=True)
    content = read_json(path, "Circuit", CircuitError)
    if not (isinstance(content, Mapping) and "edges" in content):
        try:
            return Foreign(Circuit.from_scores(content, graph), None, scored=True)
        except CircuitError as error:
            raise CircuitError(f"{path}: {error}") from error
    return foreign_circuit(content, graph, str(path))


def check_circuit_path(path: str | Path) -> str:
    """The suffix of a circuit's file, ``".json"`` or ``".parquet"``.

    Raises:
        CircuitError: it is another; of a pickle, the way out is said.
    """
    if Path(path).suffix in (".pt", ".pth"):
        raise CircuitError(
            f"{path} is a pickle, which can run code when it is opened: where you trust it, open "
            "it with EAP-IG's Graph.from_pt, save it with to_json and give that file."
        )
    return check_suffix(path)


def foreign_circuit(content: Mapping[str, Any], graph: Graph, where: str = "The file") -> Foreign:
    """A peer's file as a circuit of a graph.

    Where k and v are grouped, the scores of the query heads that share a key/value head are
    added, as their edges carry one and the same change.

    Args:
        content: what stands in the file.
        graph: the model's graph; it must have the file's layers and heads.
        where: how a sentence names the file.

    Raises:
        CircuitError: as :func:`read_circuit`.
    """
    lacking = [key for key in _KEYS if not isinstance(content.get(key), Mapping)]
    if lacking:
        raise CircuitError(
            f"{where} has no object {shown(lacking[0])}: a graph of EAP-IG or MIB has cfg, nodes "
            "and edges."
        )
    _check_cfg(content["cfg"], graph, where)
    scores = np.zeros(graph.n_edges, dtype=np.float64)
    members = np.zeros(graph.n_edges, dtype=bool)
    scored = False
    for name, edge in content["edges"].items():
        if not isinstance(edge, Mapping):
            raise CircuitError(
                f'{where}: edge {shown(name)} is {shown(edge)}: give {{"score": …, "in_graph": …}}.'
            )
        at = graph.index(_own_name(name, graph))
        if edge.get("score") is not None:
            scores[at] += _number(edge["score"], f"{where}: edge {shown(name)}")
            scored = True
        members[at] |= _truth(edge.get("in_graph", False), f"{where}: edge {shown(name)}")
    _check_nodes(content["nodes"], where, edges=bool(scores.any() or members.any()))
    if not content["edges"]:
        raise CircuitError(f"{where} names no edges: export it again.")
    said = members.any() or not scored  # of a file of scores, no member means that it has no say
    circuit = Circuit(graph, scores.astype(np.float32))
    return Foreign(circuit, members if said else None, scored=scored)


def _own_name(name: str, graph: Graph) -> str:
    """The edge that carries a peer's edge: with grouped k and v, that into the shared head."""
    if graph.kv == "ungrouped" or (found := _KV_READER.search(name)) is None:
        return name
    shared = graph.n_heads // graph.n_kv_heads
    layer, head, part = found.groups()
    if int(head[:6]) >= graph.n_heads:
        return name  # the graph refuses it by the name that the file has
    return f"{name[: found.start()]}->a{layer}.h{int(head) // shared}<{part}>"


def _check_cfg(cfg: Mapping[str, Any], graph: Graph, where: str) -> None:
    own = {"n_layers": graph.n_layers, "n_heads": graph.n_heads}
    theirs = {key: cfg.get(key) for key in own}
    if theirs != own:
        raise CircuitError(
            f"{where} is of a model with {shown(theirs['n_layers'])} layers of "
            f"{shown(theirs['n_heads'])} heads, and this one has {graph.n_layers} of "
            f"{graph.n_heads}: take a circuit of this model, or of one of its shape."
        )
    if cfg.get("parallel_attn_mlp", False) != graph.parallel:
        raise CircuitError(
            f"{where} says parallel_attn_mlp = {shown(cfg.get('parallel_attn_mlp'))}, and this "
            f"model's MLPs run {'beside' if graph.parallel else 'after'} its heads: take a circuit "
            "of this model, or of one of its shape."
        )


def _check_nodes(nodes: Mapping[str, Any], where: str, *, edges: bool) -> None:
    """Refuse circuits of whole nodes or of single neurons, which say nothing of edges."""
    objects = [node for node in nodes.values() if isinstance(node, Mapping)]
    for node in objects:
        neurons = node.get("neurons")
        if isinstance(neurons, list) and any(neurons) and not all(neurons):
            raise CircuitError(
                f"{where} keeps single neurons of nodes, and an edge here carries all that a node "
                "writes: export the circuit at the level of edges."
            )
    levels = [x for x in ("score", "neurons_scores") if any(x in node for node in objects)]
    if levels and not edges:
        level = "nodes" if levels == ["score"] else "neurons"
        raise CircuitError(
            f"{where} has scores of {level} and none of edges, and edges are what is ranked here: "
            "export it at the level of edges."
        )


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CircuitError(f"{where} has the score {shown(value)}: give a number.")
    if not abs(value) <= _LARGEST:  # NaN, too
        raise CircuitError(f"{where} has the score {shown(value)}: give a finite number.")
    return float(value)


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise CircuitError(f"{where} has in_graph = {shown(value)}: give true or false.")
    return value
