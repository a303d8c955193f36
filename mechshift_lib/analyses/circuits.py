"""Circuits of a pair as tables: the strongest edges, components, and steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.analyses.scores import scores, scores_key
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.overlap import (
    REFERENCE_FRACTION,
    component_scores,
    top_edges,
)
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames

#: Edges of each model that the diagram draws.
DRAWN = 40
ROOMS = ("circuits", "comparison", "analyses/behaviour", "analyses/scores", "analyses/circuits")


def key_of(
    study: Study, task: str, seed: int, names: Sequence[str], rooms: tuple[str, ...]
) -> dict[str, Any]:
    """The key of a result that is made of the scores of several circuits.

    Args:
        study: the study.
        task: the task.
        seed: the training.
        names: of the circuits.
        rooms: whose code the result depends on.
    """
    keys = {name: scores_key(study, task, name, seed) for name in names}
    return study.key("arm", seed, task, rooms) | {
        "models": {name: one["models"][one["role"]] for name, one in keys.items()},
        "circuits": {name: about_address("circuits", one) for name, one in keys.items()},
        "role": "all",
    }


def drawn(study: Study, task: str) -> Frames:
    """What is drawn of the circuits of ARM and MDM, of the first training.

    Returns:
        ``strongest`` (:func:`strongest_table`), ``diagram`` (:func:`diagram_table`), ``components``
        (:func:`component_table`) and ``graph``, one row: the fields of :class:`Graph`.
    """

    def compute() -> Frames:
        return {
            "strongest": strongest_table(study, task),
            "diagram": diagram_table(study, task),
            "components": component_table(study, task),
            "graph": pd.DataFrame([asdict(scores(study, task, "arm").graph)]),
        }

    return study.frames("drawn", key_of(study, task, study.seed, study.pair.roles, ROOMS), compute)


def graph_of(frames: Frames) -> Graph:
    """The graph of :func:`drawn`."""
    return Graph(**frames["graph"].iloc[0].to_dict())


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
