"""Circuits of a pair: scores of all edges, the strongest ones, components, and steps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import answers, pool
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.edges import Edges, parse_edges
from mechshift_lib.comparison.overlap import (
    REFERENCE_FRACTION,
    component_count,
    component_overlap,
    component_scores,
    jaccard,
    top_edges,
)
from mechshift_lib.config import Role
from mechshift_lib.errors import ConfigError

ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour", "analyses/circuits")

#: Circuit -> model whose circuit it is. ``mdm`` reveals left to right, as the ARM writes;
#: ``mdm-own`` in the order of its own confidence on the clean prompt.
CIRCUITS: dict[str, Role] = {
    "arm": "arm",
    "mdm": "mdm",
    "mdm-own": "mdm",
    "continued": "continued",
}
#: Edges of each model that the diagram draws.
DRAWN = 40


@dataclass(frozen=True)
class Scores:
    """Scores of all edges of one circuit, with what is needed to compare them.

    Attributes:
        circuit: a key of :data:`CIRCUITS`.
        graph: the model's graph.
        edges: the ends of its edges.
        examples: indices of the examples, ``[n_example]``.
        by_example: scores, ``[n_example, n_edges]``.
        steps: denoising steps, ``[n_step]``.
        by_step: mean scores over the examples with that step, ``[n_step, n_edges]``.
    """

    circuit: str
    graph: Graph
    edges: Edges
    examples: NDArray[np.int64]
    by_example: NDArray[np.float32]
    steps: NDArray[np.int64]
    by_step: NDArray[np.float32]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over examples, ``[n_edges]``."""
        return self.by_example.mean(axis=0, dtype=np.float64)

    def of(self, examples: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of some of the examples, in their order, ``[len(examples), n_edges]``."""
        return self.by_example[np.searchsorted(self.examples, examples)]


@lru_cache(maxsize=4)
def edges_of(graph: Graph) -> Edges:
    """The ends of a graph's edges."""
    return parse_edges(graph.names, graph.n_layers)


def studied_tasks(study: Study) -> list[str]:
    """Tasks with at least 2 examples to take circuits over; the others have no circuit to show.

    Raises:
        ConfigError: there is no such task.
    """
    tasks = [task for task in study.pair.tasks if len(pool(study, task, study.seed)) >= 2]
    if not tasks:
        raise ConfigError(
            f"ARM and MDM of {study.pair.name!r} solve fewer than 2 examples of every task in "
            "common, so there are no circuits to compare: train longer, or set pool = 'all'."
        )
    return tasks


def circuits_of(study: Study, task: str) -> list[str]:
    """Circuits that there are: no own order where it is left to right for every example, no control
    where the pair has none.
    """
    chosen = pool(study, task, study.seed)
    reveal = answers(study, task, "mdm", study.seed).reveal[chosen].map(json.loads)
    differs = any(order != [[i] for i in range(len(order))] for order in reveal)
    return [
        circuit
        for circuit, role in CIRCUITS.items()
        if role in study.pair.roles and (differs or circuit != "mdm-own")
    ]


def scores(study: Study, task: str, circuit: str, seed: int | None = None) -> Scores:
    """EAP-IG scores of all edges over the common-correct pool.

    All circuits of a task and seed are taken over the same examples.

    Raises:
        ConfigError: the circuit is unknown, or no two examples are solved.
    """
    seed = study.seed if seed is None else seed
    key = scores_key(study, task, circuit, seed)
    chosen = key["pool"]

    def compute() -> dict[str, pd.DataFrame]:
        model, examples = study.model(CIRCUITS[circuit], seed), study.examples(task, seed)
        orders = _orders(study, task, circuit, seed, chosen)
        items = [
            item for i in chosen for item in model.readout.items(examples[i], i, order=orders[i])
        ]
        found = attribute(
            model,
            items,
            metric=study.task(task).metric,
            method="eap-ig",
            steps=study.budget.ig_steps,
            batch_size=study.budget.batch_size,
        )
        return {
            "by_example": pd.DataFrame(found.by_example.T, columns=found.examples.astype(str)),
            "by_step": pd.DataFrame(found.by_step.T, columns=found.steps.astype(str)),
            "graph": pd.DataFrame([asdict(found.graph)]),
        }

    frames = study.frames("circuits", key, compute)
    graph = Graph(**frames["graph"].iloc[0].to_dict())
    return Scores(
        circuit=circuit,
        graph=graph,
        edges=edges_of(graph),
        examples=frames["by_example"].columns.astype(int).to_numpy(),
        by_example=np.ascontiguousarray(frames["by_example"].to_numpy(dtype=np.float32).T),
        steps=frames["by_step"].columns.astype(int).to_numpy(),
        by_step=np.ascontiguousarray(frames["by_step"].to_numpy(dtype=np.float32).T),
    )


def scores_key(study: Study, task: str, circuit: str, seed: int) -> dict:
    """The key under which :func:`scores` are stored.

    Raises:
        ConfigError: the circuit is unknown, or no two examples are solved.
    """
    if circuit not in CIRCUITS:
        raise ConfigError(f"Unknown circuit {circuit!r}: choose one of {', '.join(CIRCUITS)}.")
    chosen = pool(study, task, seed)
    if len(chosen) < 2:
        raise ConfigError(
            f"ARM and MDM of {study.pair.name!r} (seed {seed}) solve fewer than 2 examples of "
            f"{task!r} in common: train longer, draw more examples, or choose the pool 'all'."
        )
    role = CIRCUITS[circuit]
    orders = _orders(study, task, circuit, seed, chosen)
    return study.key(role, seed, task, ROOMS) | {
        "circuit": circuit,
        "method": "eap-ig",
        "ig_steps": study.budget.ig_steps,
        "metric": study.task(task).metric,
        "pool": chosen,
        "orders": None if circuit != "mdm-own" else [orders[i] for i in chosen],
    }


def _orders(
    study: Study, task: str, circuit: str, seed: int, chosen: list[int]
) -> dict[int, list[list[int]] | None]:
    """Reveal order of each chosen example; None is left to right."""
    if circuit != "mdm-own":
        return dict.fromkeys(chosen)
    reveal = answers(study, task, "mdm", seed).reveal
    return {i: json.loads(reveal[i]) for i in chosen}


def strongest_table(study: Study, task: str, n: int = 10) -> pd.DataFrame:
    """The strongest edges of ARM and MDM side by side.

    Returns:
        One row per rank: ``rank`` and for each of arm and mdm the ``edge``, its ``score`` (in
        units of the metric) and its rank in the other model.
    """
    columns: dict[str, object] = {"rank": range(1, n + 1)}
    means = {name: scores(study, task, name) for name in ("arm", "mdm")}
    ranks = {}
    for name, found in means.items():
        order = np.argsort(-np.abs(found.mean), kind="stable")
        ranks[name] = np.empty_like(order)
        ranks[name][order] = np.arange(1, len(order) + 1)
    for name, other in (("arm", "mdm"), ("mdm", "arm")):
        top = np.argsort(ranks[name])[:n]
        columns[f"{name} edge"] = [means[name].edges.names[i] for i in top]
        columns[f"{name} score"] = means[name].mean[top]
        columns[f"rank in {other}"] = ranks[other][top]
    return pd.DataFrame(columns)


def diagram_table(study: Study, task: str, n: int = DRAWN) -> pd.DataFrame:
    """The strongest edges of ARM and MDM for the diagram.

    Returns:
        One row per edge: ``edge, arm, mdm`` (is it among the strongest?), ``weight`` (its largest
        |score|, as a share of its model's strongest edge).
    """
    arm, mdm = scores(study, task, "arm"), scores(study, task, "mdm")
    n = min(n, len(arm.edges))
    in_arm, in_mdm = top_edges(arm.mean, n), top_edges(mdm.mean, n)
    weight = np.maximum(
        in_arm * np.abs(arm.mean) / np.abs(arm.mean).max(),
        in_mdm * np.abs(mdm.mean) / np.abs(mdm.mean).max(),
    )
    chosen = in_arm | in_mdm
    return pd.DataFrame(
        {
            "edge": np.array(arm.edges.names)[chosen],
            "arm": in_arm[chosen],
            "mdm": in_mdm[chosen],
            "weight": weight[chosen],
        }
    )


def component_table(study: Study, task: str) -> pd.DataFrame:
    """Component scores of ARM and MDM at the reference budget.

    Returns:
        One row per circuit and component: ``circuit, component, layer, head`` (-1: MLP),
        ``score`` (units of the metric), ``share`` (of the circuit's summed |component score|),
        ``count`` (edges in the circuit), ``n`` (examples).
    """
    frames = []
    for name in ("arm", "mdm"):
        found = scores(study, task, name)
        count = max(1, round(REFERENCE_FRACTION * len(found.edges)))
        values = component_scores(found.edges, found.mean, top_edges(found.mean, count))
        total = np.abs(values).sum()
        frames.append(
            pd.DataFrame(
                {
                    "circuit": name,
                    "component": found.edges.components,
                    "layer": found.edges.component_layer,
                    "head": found.edges.component_head,
                    "score": values,
                    "share": values / total if total else values,
                    "count": count,
                    "n": len(found.examples),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def step_table(study: Study) -> pd.DataFrame:
    """What the MDM's circuits at consecutive denoising steps have in common.

    Returns:
        One row per task, circuit and step: ``task, circuit, step, next, edges`` (Jaccard of the
        top edges), ``components`` (share of the top-K components in both), ``cosine`` (of the
        scores of all edges), ``count, k, n``; empty where no answer has several scored steps.
    """
    rows = []
    for task in studied_tasks(study):
        for circuit in circuits_of(study, task):
            if CIRCUITS[circuit] != "mdm":
                continue
            found = scores(study, task, circuit)
            count = max(1, round(REFERENCE_FRACTION * len(found.edges)))
            k = component_count(len(found.edges.components))
            tops = top_edges(found.by_step, count)
            parts = component_scores(found.edges, found.by_step, tops)
            for i in range(len(found.steps) - 1):
                a, b = found.by_step[i].astype(float), found.by_step[i + 1].astype(float)
                norm = np.linalg.norm(a) * np.linalg.norm(b)
                rows.append(
                    {
                        "task": task,
                        "circuit": circuit,
                        "step": int(found.steps[i]) + 1,
                        "next": int(found.steps[i + 1]) + 1,
                        "edges": float(jaccard(tops[i], tops[i + 1])),
                        "components": component_overlap(parts[i], parts[i + 1], k).share,
                        "cosine": float(a @ b / norm) if norm else np.nan,
                        "count": count,
                        "k": k,
                        "n": len(found.examples),
                    }
                )
    columns = ["task", "circuit", "step", "next", "edges", "components", "cosine"]
    return pd.DataFrame(rows, columns=[*columns, "count", "k", "n"])
