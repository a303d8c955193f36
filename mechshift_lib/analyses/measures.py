"""Overlap by other measures, by kind of edge, and by how sure each edge is: tables to download."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.scores import Scores
from mechshift_lib.analyses.shift import stored, trainings
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.kinds import edge_kinds, inclusion, sureness
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, jaccard, top_edges
from mechshift_lib.comparison.similarity import table
from mechshift_lib.results.store import Frames

ROOMS = ("comparison", "analyses/measures")
DRAWS = 200


def tables(study: Study) -> Frames:
    """Everything of this module for all tasks and trainings.

    Returns:
        ``measures``: one row a circuit and measure, ``task, seed, comparison`` (with the ARM),
        ``measure, plain`` (all examples), ``between, ceiling, corrected`` (over halves), ``n``.
        ``kinds``: one row a circuit and kind of edge, ``task, seed, circuit, kind, edges`` (of the
        graph), ``arm, other, both`` (of these, in the ARM's circuit, in this one, in both),
        ``jaccard``. ``inclusion``: one row a circuit, ``task, seed, circuit``, edges that are
        ``core, contingent, noise``, ``shared`` (core of this and of the ARM's), ``draws``.
    """
    parts = [
        of_training(study, task, seed)
        for task in study.pair.tasks
        for seed in trainings(study, [task])
    ]
    return {name: pd.concat([p[name] for p in parts], ignore_index=True) for name in parts[0]}


def of_training(study: Study, task: str, seed: int) -> Frames:
    """:func:`tables` of one training on one task."""
    return stored(study, "measures", ROOMS, task, seed, compared)


def compared(found: Mapping[str, Scores]) -> Frames:
    """The tables of :func:`of_training` from scores alone (without task and seed)."""
    arm = found["arm"]
    count = max(1, round(REFERENCE_FRACTION * len(arm.edges)))
    groups = edge_kinds(arm.edges)
    others = {name: one.of(arm.examples) for name, one in found.items() if name != "arm"}
    tops = {name: top_edges(one.mean, count) for name, one in found.items()}
    sure = {
        name: sureness(inclusion(one.by_example, count, draws=DRAWS, seed=RESAMPLING_SEED))
        for name, one in found.items()
    }
    kinds = [
        {"circuit": name, "kind": kind, "edges": int(mask.sum())}
        | {"arm": int(tops["arm"][mask].sum()), "other": int(tops[name][mask].sum())}
        | {"both": int((tops["arm"] & tops[name])[mask].sum())}
        | {"jaccard": float(jaccard(tops["arm"][mask], tops[name][mask]))}
        for name in others
        for kind, mask in groups.items()
    ]
    included = [
        {"circuit": name}
        | {kind: int(mask.sum()) for kind, mask in one.items()}
        | {"shared": int((one["core"] & sure["arm"]["core"]).sum()), "draws": DRAWS}
        for name, one in sure.items()
    ]
    return {
        "measures": pd.DataFrame(table(arm.by_example, others, count)),
        "kinds": pd.DataFrame(kinds),
        "inclusion": pd.DataFrame(included),
    }
