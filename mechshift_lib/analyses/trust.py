"""How far attribution can be trusted: against exact patching of every single edge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from transformers import AutoModelForCausalLM

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.scores import (
    Measured,
    assembled,
    clear_reads,
    edges_of,
    measured,
    questions,
    scores_key,
    studied_tasks,
)
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.bootstrap import bootstrap, split_halves
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.overlap import (
    REFERENCE_FRACTION,
    expected_jaccard,
    jaccard,
    top_edges,
)
from mechshift_lib.config import Role
from mechshift_lib.models.loading import LoadedModel, wrap_model
from mechshift_lib.models.readout import Item
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames

ROOMS = (
    "circuits",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/trust",
)

#: Models that are asked; ``untrained`` has the ARM's architecture and random weights.
Subject = Literal["arm", "mdm", "untrained"]
SUBJECTS: tuple[Subject, ...] = ("arm", "mdm", "untrained")
#: Those that the pair's file names.
ROLES: tuple[Literal["arm", "mdm"], ...] = ("arm", "mdm")
#: Name of an estimate -> how :func:`attribute` is called for it.
ESTIMATES: dict[str, dict[str, Any]] = {
    "eap": {"method": "eap"},
    "clean-corrupted": {"method": "clean-corrupted"},
    "eap-ig-5": {"method": "eap-ig", "steps": 5, "points": "left"},
    "eap-ig-5-right": {"method": "eap-ig", "steps": 5, "points": "right"},
    "eap-ig-20": {"method": "eap-ig", "steps": 20, "points": "left"},
    "eap-ig-activations-5": {"method": "eap-ig-activations", "steps": 5},
}
EXACT = "exact"
#: The exact scores of one half of the examples against those of the other.
HALVES = "exact-halves"
#: The estimate that circuits of larger models are taken from.
USED = "eap-ig-5"
#: Shares of all edges whose recall is asked for.
TOP_FRACTIONS = (0.01, 0.05, 0.2)
UNTRAINED_SEED = 0
#: Examples that the untrained model is asked at most: only its pattern is of interest.
UNTRAINED_EXAMPLES = 8
#: Examples from which on resampling them gives an interval.
LEAST_EXAMPLES = 8
#: Resamples of an interval, each of which ranks all edges anew by every estimate.
DRAWS = 200
#: Random halvings of the examples.
SPLITS = 20

Array = NDArray[np.float64]
#: Two mean score vectors ``[..., n_edges]`` -> their agreement ``[...]``.
Measure = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Estimates:
    """Scores of all edges of one model on one task by every method.

    Attributes:
        graph: the model's graph.
        by_example: name of the estimate, or :data:`EXACT`, -> scores ``[n_example, n_edges]``.
    """

    graph: Graph
    by_example: dict[str, NDArray[np.floating]]

    @property
    def n(self) -> int:
        """Number of examples."""
        return len(self.by_example[EXACT])

    def mean(self, name: str) -> Array:
        """Scores of one estimate, the mean over examples, ``[n_edges]``."""
        return np.asarray(self.by_example[name].mean(axis=0, dtype=np.float64))


def of_task(study: Study, task: str) -> Frames:
    """Everything of one task.

    Returns:
        ``agreement``, ``consequences`` and ``scatter``, as the functions of these names make them.
    """
    seed = study.seed
    keys = {role: scores_key(study, task, role, seed) for role in ROLES}
    key = study.key("arm", seed, task, ROOMS) | {
        "models": {role: key["models"][role] for role, key in keys.items()},
        "circuits": [about_address("circuits", key) for key in keys.values()],
        "examples": [study.budget.behaviour_examples, study.budget.trust_examples],
        "estimates": ESTIMATES,
        "untrained": [UNTRAINED_SEED, UNTRAINED_EXAMPLES],
        "draws": [DRAWS, SPLITS],
    }

    def compute() -> Frames:
        found = {subject: estimates(study, task, subject) for subject in SUBJECTS}
        tables = {
            "agreement": agreement(found),
            "consequences": consequences(found),
            "scatter": scatter(found),
        }
        for table in tables.values():
            table.insert(0, "task", task)
        return tables

    return study.frames("trust", key, compute)


def tables(study: Study) -> Frames:
    """:func:`of_task` of all tasks."""
    parts = [of_task(study, task) for task in studied_tasks(study)]
    return {name: pd.concat([p[name] for p in parts], ignore_index=True) for name in parts[0]}


def estimates(study: Study, task: str, subject: Subject) -> Estimates:
    """Every estimate and the exact scores, over the same questions, put together as circuits are.

    A question reads one answer token. Scores of trained models are shares of each read's effect
    (:mod:`mechshift_lib.analyses.scores`); the untrained one has no effect to speak of, so its are
    in units of the metric. Exact scores that ship with the pair aren't computed again.
    """
    role: Role = "mdm" if subject == "mdm" else "arm"
    fresh = subject == "untrained"
    n = study.budget.trust_examples
    n = min(n, UNTRAINED_EXAMPLES) if fresh else n
    chosen = pool(study, task, study.seed)[:n]
    model, items, table = questions(study, task, role, study.seed)
    asked = np.flatnonzero(table.example.isin(chosen))
    items = [replace(items[i], example=at) for at, i in enumerate(asked)]
    table = table.iloc[asked].reset_index(drop=True)
    if fresh:
        model = untrained(model, UNTRAINED_SEED)
    found = {EXACT: _exact(study, model, task, role, items, asked, shipped=not fresh)}
    for name, options in ESTIMATES.items():
        one = attribute(
            model,
            items,
            metric=study.task(task).metric,
            batch_size=study.budget.batch_size,
            **options,
        )
        found[name] = one.by_example
    graph = Graph.for_model(model)
    effects = measured(study, task, role, study.seed).items.effect.to_numpy()[asked]
    clear = [] if fresh else _clear(study, task)
    table = table.assign(effect=effects)
    made = {
        name: assembled(role, Measured(graph, table, values), clear)
        for name, values in found.items()
    }
    return Estimates(graph, {name: one.by_example for name, one in made.items()})


def _clear(study: Study, task: str) -> list[int]:
    """Answer positions that circuits of the first training are put together from."""
    return clear_reads([measured(study, task, r, study.seed).items for r in study.pair.roles])


def _exact(
    study: Study,
    model: LoadedModel,
    task: str,
    role: Role,
    items: list[Item],
    asked: NDArray[np.int64],
    *,
    shipped: bool,
) -> NDArray[np.float32]:
    """Exact scores of questions, ``[n_item, n_edges]``: measured already, or else measured now.

    Args:
        study: the study.
        model: the model, whose scores are at hand only if it is the circuit's own.
        task: the task.
        role: the circuit.
        items: the questions, a number of their own each.
        asked: their places among all questions of the circuit.
        shipped: whether the circuit's scores may be taken.
    """
    if shipped and study.budget.estimator == "exact":
        return measured(study, task, role, study.seed).scores[asked]
    return exact_scores(model, items, metric=study.task(task).metric).by_example


def untrained(model: LoadedModel, seed: int) -> LoadedModel:
    """A model of the same architecture and readout with weights as they are before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = AutoModelForCausalLM.from_config(model.hf.config)
    return wrap_model(
        fresh,
        tokenizer=model.tokenizer,
        attention=model.attention,
        readout=model.readout,
        mask_id=model.mask_id,
        kv=model.kv,
        device=str(model.device),
    )


def pearson(a: Array, b: Array) -> Array:
    """Correlation of score vectors along the last axis, NaN where one is constant."""
    a, b = (x - x.mean(-1, keepdims=True) for x in (a, b))
    norm = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    return np.asarray((a * b).sum(-1) / np.where(norm == 0, np.nan, norm))


def spearman(a: Array, b: Array) -> Array:
    """Correlation of the ranks of score vectors along the last axis."""
    return pearson(rankdata(a, axis=-1), rankdata(b, axis=-1))


def recall(a: Array, b: Array, fraction: float) -> Array:
    """Share of the strongest edges of ``b`` that are among as many strongest of ``a``."""
    count = max(1, round(fraction * a.shape[-1]))
    return np.asarray((top_edges(a, count) & top_edges(b, count)).sum(-1) / count)


def measures() -> dict[str, Measure]:
    """Name of every measure of agreement -> function of estimate and exact scores."""
    tops = {f"recall-{share}": partial(recall, fraction=share) for share in TOP_FRACTIONS}
    return {"pearson": pearson, "spearman": spearman, **tops}


def agreement(found: Mapping[Subject, Estimates]) -> pd.DataFrame:
    """Agreement of every estimate with exact patching over all edges.

    Args:
        found: the models' scores on one task.

    Returns:
        One row per model, estimate and measure: ``subject, n, estimate, measure, value`` (of
        scores averaged over examples), ``low, high`` (95 % interval from resampling examples,
        NaN for fewer than :data:`LEAST_EXAMPLES`). The estimate :data:`HALVES` is a mean over
        :data:`SPLITS` random halvings of the examples, whose spread is ``low, high``.
    """
    rows = []
    for subject, one in found.items():
        about = {"subject": subject, "n": one.n}
        pairs = [(name, measure) for name in ESTIMATES for measure in measures()]
        for (name, measure), span in zip(pairs, _agreements(one), strict=True):
            rows.append({**about, "estimate": name, "measure": measure, **span})
        exact = one.by_example[EXACT]
        halves = list(split_halves(one.n, SPLITS, RESAMPLING_SEED))
        means = [np.stack([exact[h].mean(0) for h in half]) for half in zip(*halves, strict=True)]
        for measure, of in measures().items():
            values = of(*means)
            low, high = np.quantile(values, [0.025, 0.975])
            span = {"value": values.mean(), "low": low, "high": high}
            rows.append({**about, "estimate": HALVES, "measure": measure, **span})
    return pd.DataFrame(rows)


def _agreements(found: Estimates) -> list[dict[str, float]]:
    """``value, low, high`` of every estimate's every measure of agreement, in that order."""

    def statistic(exact: Array, *others: Array) -> Array:
        values = [of(other, exact) for other in others for of in measures().values()]
        return np.stack(values, -1)

    return _resampled([found.by_example[name] for name in (EXACT, *ESTIMATES)], statistic)


def _resampled(
    scores: Sequence[NDArray[np.floating]], statistic: Callable[..., Array]
) -> list[dict[str, float]]:
    """``value, low, high`` of statistics of mean scores, resampling the same examples for all.

    Args:
        scores: ``[n_example, n_edges]`` each.
        statistic: see :func:`~mechshift_lib.comparison.bootstrap.bootstrap`; within −1 to 1.
    """
    scores = [np.asarray(x, dtype=np.float64) for x in scores]
    if len(scores[0]) < LEAST_EXAMPLES:
        values = statistic(*(x.mean(0, keepdims=True) for x in scores))[0]
        return [{"value": x, "low": np.nan, "high": np.nan} for x in values]
    found = bootstrap(
        scores, statistic, draws=DRAWS, seed=RESAMPLING_SEED, recentre=True, bounds=(-1, 1)
    )
    ends = zip(found.value, found.low, found.high, strict=True)
    return [{"value": x, "low": low, "high": high} for x, low, high in ends]


def consequences(found: Mapping[Subject, Estimates]) -> pd.DataFrame:
    """What the comparison of ARM and MDM would be by each estimate and by exact patching.

    Args:
        found: the models' scores on one task.

    Returns:
        One row per estimate (or :data:`EXACT`), at the reference budget: ``estimate, jaccard`` (ARM
        and MDM) with ``low, high``, ``error`` (how far it lies above that of exact patching) with
        ``error_low, error_high``, ``arm`` and ``mdm`` (Jaccard of the model's circuit with the
        exact one), ``arm_depth, mdm_depth`` (centre of mass of the sources), ``shift`` (MDM minus
        ARM), ``chance, count, n``. Intervals are as those of :func:`agreement`.
    """
    rows = []
    arm, mdm = found["arm"], found["mdm"]
    edges = edges_of(arm.graph)
    count = max(1, round(REFERENCE_FRACTION * len(edges)))
    chance = expected_jaccard(len(edges), count, count)
    exact = [top_edges(one.mean(EXACT), count) for one in (arm, mdm)]
    names = (EXACT, *ESTIMATES)
    overlaps = _overlaps(arm, mdm, names, count)
    for name, overlap, error in zip(names, *overlaps, strict=True):
        means = [one.mean(name) for one in (arm, mdm)]
        tops = [top_edges(mean, count) for mean in means]
        depth = [
            float(centre_of_mass(mean, edges.depth("source"), top))
            for mean, top in zip(means, tops, strict=True)
        ]
        rows.append(
            {
                "estimate": name,
                "jaccard": overlap["value"],
                "low": overlap["low"],
                "high": overlap["high"],
                "error": error["value"],
                "error_low": error["low"],
                "error_high": error["high"],
                "arm": float(jaccard(tops[0], exact[0])),
                "mdm": float(jaccard(tops[1], exact[1])),
                "arm_depth": depth[0],
                "mdm_depth": depth[1],
                "shift": depth[1] - depth[0],
                "chance": chance,
                "count": count,
                "n": arm.n,
            }
        )
    return pd.DataFrame(rows)


def _overlaps(
    arm: Estimates, mdm: Estimates, names: tuple[str, ...], count: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Overlap of ARM and MDM by each of ``names``, and how far it is above that of the first."""

    def statistic(*means: Array) -> Array:
        pairs = zip(means[::2], means[1::2], strict=True)
        values = np.stack([jaccard(*(top_edges(x, count) for x in pair)) for pair in pairs], -1)
        return np.concatenate([values, values - values[..., :1]], -1)

    scores = [one.by_example[name] for name in names for one in (arm, mdm)]
    found = _resampled(scores, statistic)
    return found[: len(names)], found[len(names) :]


def scatter(found: Mapping[Subject, Estimates]) -> pd.DataFrame:
    """Exact score and :data:`USED` estimate of every edge, of ARM and MDM on one task.

    Returns:
        ``subject, edge, exact, estimate, n``.
    """
    frames = []
    for role in ROLES:
        one = found[role]
        columns = {"edge": one.graph.names, "exact": one.mean(EXACT), "estimate": one.mean(USED)}
        frames.append(pd.DataFrame(columns).assign(subject=role, n=one.n))
    return pd.concat(frames, ignore_index=True)
