"""EAP-IG beside exact patching in every training: how far it errs, and what would be concluded.

Both score all edges over the same questions, one answer position at a time, and are put together
alike (:mod:`mechshift_lib.analyses.scores`). One number a training is what EAP-IG says minus what
exact patching says; its interval is over trainings.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mechshift_lib.analyses import shift
from mechshift_lib.analyses.scores import (
    Measured,
    Scores,
    assembled,
    clear_reads,
    measured,
    questions,
    scores,
    scores_key,
)
from mechshift_lib.analyses.study import Study
from mechshift_lib.analyses.trust import EXACT, spearman
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.comparison.over_seeds import SHOWN, contrast_over_seeds
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, jaccard, top_edges
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames

KIND = "trust-trainings"
ROOMS = (
    "circuits",
    "comparison",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/shift",
    "analyses/trust",
    "analyses/trust_trainings",
)
MODELS = ("arm", "mdm", "continued")
ESTIMATED = "eap-ig"
METHODS = (EXACT, ESTIMATED)
#: How well EAP-IG's circuits agree with the exact ones of the same model.
AGREEMENTS = ("spearman", "jaccard")
#: What is asked of two models: how alike their circuits are, without noise and as edges in common,
#: and how much earlier than the ARM's the other's sources lie.
READINGS = ("cosine", "jaccard", "earlier")
#: The MDM's reading minus the control's.
BEYOND = "beyond"
#: What stands for the task where IOI's reading minus Countdown's is meant.
CONTRAST = "ioi-countdown"


def asked(study: Study, task: str) -> list[int]:
    """Trainings whose circuits are measured by exact patching; none where the pair's aren't."""
    return shift.trainings(study, [task]) if study.budget.estimator == "exact" else []


def estimate(study: Study, task: str, circuit: str, seed: int) -> Measured:
    """EAP-IG's scores over the questions that exact patching is asked, in units of the metric."""
    model, items, table = questions(study, task, circuit, seed)
    found = attribute(
        model,
        items,
        metric=study.task(task).metric,
        method="eap-ig",
        steps=study.budget.ig_steps,
        batch_size=study.budget.batch_size,
    )
    effect = found.metric_clean - found.metric_corrupted
    return Measured(found.graph, table.assign(effect=effect), found.by_example)


def of_training(study: Study, task: str, seed: int) -> Frames:
    """EAP-IG and exact patching on one task of one training.

    Returns:
        ``agreement``: ``circuit``, the columns of :data:`AGREEMENTS` (rank correlation over all
        edges; Jaccard index of the two methods' strongest edges), ``count`` (of those), ``n``
        (examples). ``likeness`` and ``depth``: the tables of :func:`shift.compared`, by
        ``method``.
    """
    models = [model for model in MODELS if study.has(model, seed)]
    keys = {model: scores_key(study, task, model, seed) for model in models}
    key = study.key("arm", seed, task, ROOMS) | {
        "models": {name: one["models"][name] for name, one in keys.items()},
        "circuits": [about_address("circuits", one) for one in keys.values()],
        "ig_steps": study.budget.ig_steps,
    }

    def compute() -> Frames:
        exact = {model: scores(study, task, model, seed) for model in models}
        judges = [measured(study, task, role, seed).items for role in study.pair.roles]
        clear = clear_reads(judges)
        estimated = {
            model: assembled(model, estimate(study, task, model, seed), clear) for model in models
        }
        return compared(exact, estimated)

    return study.frames(KIND, key, compute)


def compared(exact: Mapping[str, Scores], estimated: Mapping[str, Scores]) -> Frames:
    """The tables of :func:`of_training` from scores alone, ARM's and others' by both methods."""
    rows: list[dict[str, str | float]] = []
    for name, one in exact.items():
        means = estimated[name].mean, one.mean
        count = max(1, round(REFERENCE_FRACTION * len(one.edges)))
        tops = [top_edges(mean, count) for mean in means]
        found = {"spearman": float(spearman(*means)), "jaccard": float(jaccard(*tops))}
        rows.append({"circuit": name, **found, "count": count, "n": len(one.examples)})
    parts = {EXACT: shift.compared(exact), ESTIMATED: shift.compared(estimated)}
    both = {
        table: pd.concat(
            [frames[table].assign(method=method) for method, frames in parts.items()],
            ignore_index=True,
        )
        for table in ("likeness", "depth")
    }
    return {"agreement": pd.DataFrame(rows)} | both


def tables(study: Study) -> Frames:
    """:func:`of_training` of all tasks and trainings, with ``task`` and ``seed``; {} for none."""
    parts = [
        {name: frame.assign(task=task, seed=seed) for name, frame in frames.items()}
        for task in study.pair.tasks
        for seed in asked(study, task)
        for frames in [of_training(study, task, seed)]
    ]
    return {
        name: pd.concat([part[name] for part in parts], ignore_index=True)
        for name in (parts[0] if parts else ())
    }


def readings(likeness: pd.DataFrame, depth: pd.DataFrame) -> pd.DataFrame:
    """What each method says of ARM and others, in every training.

    Args:
        likeness: of :func:`tables`.
        depth: of :func:`tables`.

    Returns:
        ``reading, task`` (or :data:`CONTRAST`), ``circuit`` (or :data:`BEYOND`), ``seed``, a column
        for each of :data:`METHODS`, and ``error``: EAP-IG's minus the exact one.
    """
    parts = []
    for method in METHODS:
        alike = likeness[(likeness.method == method) & (likeness.read == shift.ALL)]
        deep = depth[depth.method == method]
        by = alike.set_index(["task", "seed", "circuit"])
        # Without noise there may be nothing left of a circuit: its cosine is NaN, and stays so.
        found = {name: by[name].unstack("circuit", sort=False) for name in READINGS[:2]}
        found["earlier"] = pd.concat(
            {task: shift.earlier(deep, task) for task in dict.fromkeys(deep.task)}, names=["task"]
        )
        for name, wide in found.items():
            long = _with_differences(wide).stack().rename("value").reset_index()
            parts.append(long.assign(reading=name, method=method))
    every = pd.concat(parts, ignore_index=True)
    index = ["reading", "task", "circuit", "seed"]
    table = every.set_index([*index, "method"]).value.unstack("method", sort=False).reset_index()
    return table.assign(error=table[ESTIMATED] - table[EXACT]).rename_axis(columns=None)


def _with_differences(wide: pd.DataFrame) -> pd.DataFrame:
    """``[task, seed]`` × circuit with the MDM's beyond the control's, and IOI's minus Countdown's.

    Both only where there is what they are made of.
    """
    if {"mdm", "continued"} <= set(wide):
        wide = wide.assign(**{BEYOND: wide.mdm - wide.continued})
    there = set(wide.index.get_level_values("task"))
    if not {shift.LOCAL, shift.GLOBAL} <= there:
        return wide
    contrast = (wide.xs(shift.LOCAL) - wide.xs(shift.GLOBAL)).dropna(how="all")
    return pd.concat([wide, pd.concat({CONTRAST: contrast}, names=["task"])])


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`readings` over trainings, the error with its interval (:data:`SHOWN`).

    Returns:
        ``reading, task, circuit``, means of :data:`METHODS`, ``error, low, high`` (NaN with too few
        trainings), ``n`` (trainings).
    """
    rows = []
    for names, part in table.groupby(["reading", "task", "circuit"], sort=False):
        about = dict(zip(("reading", "task", "circuit"), names, strict=True))
        means = {method: part[method].mean() for method in METHODS}
        rows.append(about | means | _spanned("error", part.error))
    return pd.DataFrame(rows)


def agreements(table: pd.DataFrame) -> pd.DataFrame:
    """How well EAP-IG's circuits agree with exact ones, over trainings.

    Args:
        table: ``agreement`` of :func:`tables`.

    Returns:
        ``reading`` (of :data:`AGREEMENTS`), ``task, circuit, value, low, high, n`` (trainings).
    """
    rows = []
    for names, part in table.groupby(["task", "circuit"], sort=False):
        about = dict(zip(("task", "circuit"), names, strict=True))
        rows += [{"reading": name} | about | _spanned("value", part[name]) for name in AGREEMENTS]
    return pd.DataFrame(rows)


def _spanned(name: str, values: pd.Series) -> dict[str, float]:
    found = contrast_over_seeds(values.tolist(), name, SHOWN)
    return {name: found.effect, "low": found.low, "high": found.high, "n": found.n}


def same_side(table: pd.DataFrame, reading: str, task: str, circuit: str) -> tuple[int, int]:
    """In how many trainings both methods say the same sign of a reading, and of how many."""
    chosen = (table.reading == reading) & (table.task == task) & (table.circuit == circuit)
    part = table[chosen]
    return int((np.sign(part[EXACT]) == np.sign(part[ESTIMATED])).sum()), len(part)
