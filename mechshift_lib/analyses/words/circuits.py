"""Words of the chapter on circuits: the graph, the strongest edges, and step to step."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.choices import Estimator
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.config import Budget
from mechshift_lib.plots.theme import label

GRAPH = (
    "The graph has {layers} layers of {heads} heads ({kv_heads} key/value heads; {kv} key and "
    "value edges) and {edges:,} edges. {estimator}; at most {n} examples a task. A score is the "
    "share of the metric's effect (clean minus corrupted prompt) that an edge carries, mean over "
    "the answer's tokens."
)
ESTIMATORS: dict[Estimator, str] = {
    "exact": "Every edge is patched by itself (exact patching)",
    "eap-ig": "EAP-IG with {points} interpolation points",
}
STRONGEST = "Of each model's {n} strongest edges, {shared} are the same ones."


def graph(found: Graph, budget: Budget) -> str:
    """Size of the graph and how attribution was run."""
    return GRAPH.format(
        layers=found.n_layers,
        heads=found.n_heads,
        kv_heads=found.n_kv_heads,
        kv=found.kv,
        edges=found.n_edges,
        estimator=ESTIMATORS[budget.estimator].format(points=budget.ig_steps),
        n=budget.circuit_examples,
    )


def strongest(tables: Mapping[str, pd.DataFrame]) -> str:
    """How many of the strongest edges both models have, of :func:`circuits.strongest_table`."""
    shared = [
        f"{len({*table['arm edge']} & {*table['mdm edge']})} on {label(task)}"
        for task, table in tables.items()
    ]
    n = max(len(table) for table in tables.values())
    return STRONGEST.format(n=n, shared=fmt.listed(shared))
