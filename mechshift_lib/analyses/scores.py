"""Scores of all edges of every circuit of a pair, one answer position at a time.

A model is asked for one answer token after the other, and each such **read** has an effect of its
own: the metric on the clean prompt minus that on the corrupted one. Averaged as they are, reads of
small effect would be drowned and a mixture that differs between models would look like a shift of
the circuit; so each read's scores are divided by its mean effect, and then averaged: a score is
the share of the effect that an edge carries.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from mechshift_lib.analyses.behaviour import answers, pool
from mechshift_lib.analyses.parts import together
from mechshift_lib.analyses.shipped import shipped
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.edges import Edges, parse_edges
from mechshift_lib.errors import ConfigError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item, Order
from mechshift_lib.tasks import Example

ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour", "analyses/scores")

#: Circuit -> model whose circuit it is. ``mdm`` reveals left to right, as the ARM writes;
#: ``mdm-own`` in the order of its own confidence on the clean prompt. ``matched`` is the MDM when
#: it was as far from the ARM as the control ends; the others are the dial's.
CIRCUITS: dict[str, str] = {
    "arm": "arm",
    "mdm": "mdm",
    "mdm-own": "mdm",
    "continued": "continued",
    "matched": "matched",
    "mdm-answers": "mdm-answers",
    "mdm-causal": "mdm-causal",
}
#: Circuits of the first training's chapters.
SHOWN = ("arm", "mdm", "mdm-own", "continued")
#: Bytes that the scores of one circuit may have in half precision to be shipped.
LARGEST = 2**20
#: Coverage of the interval by which a read's effect is told from 0.
LEVEL = 0.95


@dataclass(frozen=True)
class Measured:
    """Scores as they were measured, in units of the metric.

    Attributes:
        graph: the model's graph.
        items: one row per question: ``example, position`` (of the answer token that is read),
            ``step, effect`` (metric, clean minus corrupted).
        scores: ``[n_item, n_edges]``.
    """

    graph: Graph
    items: pd.DataFrame
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """Scores of all edges of one circuit, with what is needed to compare them.

    Attributes:
        circuit: a key of :data:`CIRCUITS`.
        graph: the model's graph.
        edges: the ends of its edges.
        examples: indices of the examples, ``[n_example]``.
        by_example: mean over the reads that are used, ``[n_example, n_edges]``.
        steps: denoising steps, ``[n_step]``.
        by_step: mean scores over the examples with that step, ``[n_step, n_edges]``.
        reads: answer positions that are used, ``[n_read]``.
        by_read: scores at each of them, NaN where an example has no metric there,
            ``[n_read, n_example, n_edges]``.
        effect: mean effect at each, in units of the metric, ``[n_read]``.
        shares: whether scores are shares of the effect; else they are in units of the metric, as
            no read has an effect that can be told from 0.
    """

    circuit: str
    graph: Graph
    edges: Edges
    examples: NDArray[np.int64]
    by_example: NDArray[np.float32]
    steps: NDArray[np.int64]
    by_step: NDArray[np.float32]
    reads: NDArray[np.int64]
    by_read: NDArray[np.float32]
    effect: NDArray[np.float64]
    shares: bool

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
        for circuit in SHOWN
        if CIRCUITS[circuit] in study.pair.roles and (differs or circuit != "mdm-own")
    ]


def circuits_to_ship(study: Study, seeds: Sequence[int]) -> list[tuple[str, str, int]]:
    """Task, circuit and seed of everything that is compared over trainings.

    The MDM's own order is the first training's only; a model that isn't on this disk has none. Of
    models with so many edges that a circuit would take more than :data:`LARGEST` bytes, none is.
    """
    edges = len(Graph.for_model(study.model("arm", study.seed)).names)
    if 2 * edges * study.budget.circuit_examples > LARGEST:
        return []
    found = []
    for seed in seeds:
        for task in study.pair.tasks:
            if len(pool(study, task, seed)) < 2:
                continue
            own = circuits_of(study, task) if seed == study.seed else []
            names = [name for name in CIRCUITS if name != "mdm-own" or name in own]
            found += [(task, name, seed) for name in names if study.has(CIRCUITS[name], seed)]
    return found


def scores(study: Study, task: str, circuit: str, seed: int | None = None) -> Scores:
    """Scores of all edges over the common-correct pool, as shares of each read's effect.

    All circuits of a task and seed are taken over the same examples and the same reads: those at
    which the ARM, the MDM and, where there is one, the control all have an effect that can be told
    from 0.

    Raises:
        ConfigError: the circuit is unknown, or no two examples are solved.
    """
    seed = study.seed if seed is None else seed
    own = measured(study, task, circuit, seed)
    judges = [measured(study, task, name, seed).items for name in study.pair.roles]
    return assembled(circuit, own, clear_reads(judges))


def assembled(circuit: str, own: Measured, clear: Sequence[int]) -> Scores:
    """Scores by example, read and step from what was measured.

    Args:
        circuit: its name.
        own: what was measured of it.
        clear: answer positions to use; none: all, in units of the metric.
    """
    shares = bool(clear)
    table = own.items.reset_index(drop=True)
    kept = table[table.position.isin(clear)] if shares else table
    effect = kept.groupby("position").effect.mean()
    if shares:
        effect = effect[effect > 0]
        kept = kept[kept.position.isin(effect.index)]
    scale = kept.position.map(effect).to_numpy() if shares else np.ones(len(kept))
    values = own.scores[kept.index] / scale[:, None].astype(np.float32)
    examples, reads = np.unique(kept.example), effect.index.to_numpy(dtype=np.int64)
    by_read = np.full((len(reads), len(examples), values.shape[1]), np.nan, dtype=np.float32)
    by_read[np.searchsorted(reads, kept.position), np.searchsorted(examples, kept.example)] = values
    steps = np.unique(kept.step).astype(np.int64)
    return Scores(
        circuit=circuit,
        graph=own.graph,
        edges=edges_of(own.graph),
        examples=examples.astype(np.int64),
        by_example=np.nanmean(by_read, axis=0),
        steps=steps,
        by_step=np.stack([values[(kept.step == step).to_numpy()].mean(0) for step in steps]),
        reads=reads,
        by_read=by_read,
        effect=effect.to_numpy(dtype=np.float64),
        shares=shares,
    )


def clear_reads(tables: Sequence[pd.DataFrame]) -> list[int]:
    """Answer positions at which every one of these models has an effect clearly above 0.

    Clearly: the lower end of Student's t interval over examples (:data:`LEVEL`) is above 0.
    """

    def lowest(effect: pd.Series) -> float:
        if len(effect) < 2:
            return float("nan")
        half = student.ppf(0.5 + LEVEL / 2, len(effect) - 1) * effect.sem()
        return float(effect.mean() - half)

    lows = [table.groupby("position").effect.apply(lowest) for table in tables]
    return sorted(set.intersection(*(set(low.index[low > 0]) for low in lows)))


def measured(study: Study, task: str, circuit: str, seed: int) -> Measured:
    """Every score of a circuit, in units of the metric; read from data/scores where it is shipped.

    Where jobs made parts of it (:mod:`mechshift_lib.analyses.shards`), these are taken together.

    Raises:
        ConfigError: the circuit is unknown, or no two examples are solved.
        ResultError: some of the parts are missing, or were made of something else.
    """
    key = scores_key(study, task, circuit, seed)

    def compute() -> dict[str, pd.DataFrame]:
        found = shipped(study, task, circuit, seed, key)
        return measure(study, task, circuit, seed) if found is None else found

    frames = study.frames("circuits", key, compute, lambda: together(study.store, key))
    return Measured(
        graph=Graph(**frames["graph"].iloc[0].to_dict()),
        items=frames["items"],
        scores=np.ascontiguousarray(frames["scores"].to_numpy(dtype=np.float32).T),
    )


def measure(study: Study, task: str, circuit: str, seed: int) -> dict[str, pd.DataFrame]:
    """What :func:`measured` reads, computed: ``items, scores`` (a column an item), ``graph``."""
    model, items, table = questions(study, task, circuit, seed)
    return measured_items(study, model, task, items, table)


def measured_items(
    study: Study, model: LoadedModel, task: str, items: Sequence[Item], table: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The scores of some questions, as :func:`measure` gives them.

    Args:
        study: the study.
        model: the circuit's model.
        task: the task.
        items: questions, numbered in :attr:`Item.example`; they may be none.
        table: one row for each.
    """
    metric, budget = study.task(task).metric, study.budget
    if not items:
        return {
            "items": table.assign(effect=np.zeros(0)),
            "scores": pd.DataFrame(index=range(len(Graph.for_model(model).names))),
            "graph": pd.DataFrame([asdict(Graph.for_model(model))]),
        }
    if budget.estimator == "exact":
        found = exact_scores(model, items, metric=metric)
    else:
        found = attribute(
            model,
            items,
            metric=metric,
            method="eap-ig",
            steps=budget.ig_steps,
            batch_size=budget.batch_size,
        )
    table["effect"] = found.metric_clean - found.metric_corrupted
    return {
        "items": table,
        "scores": pd.DataFrame(found.by_example.T, columns=found.examples.astype(str)),
        "graph": pd.DataFrame([asdict(found.graph)]),
    }


def questions(
    study: Study, task: str, circuit: str, seed: int
) -> tuple[LoadedModel, list[Item], pd.DataFrame]:
    """The model of a circuit and its questions, one for each answer position of each example.

    Returns:
        The model; items, numbered in :attr:`Item.example`; and what each is: ``example, position,
        step``.
    """
    chosen = pool(study, task, seed)
    model, examples = study.model(CIRCUITS[circuit], seed), study.examples(task, seed)
    orders = _orders(study, task, circuit, seed, chosen)
    items: list[Item] = []
    rows: list[dict[str, int]] = []
    for i in chosen:
        for item, position in single_reads(model, examples[i], i, orders[i]):
            rows.append({"example": i, "position": position, "step": item.step})
            items.append(replace(item, example=len(items)))
    return model, items, pd.DataFrame(rows)


def single_reads(
    model: LoadedModel, example: Example, index: int, order: Order | None = None
) -> list[tuple[Item, int]]:
    """The questions of an example, each reading one answer token, with that token's place in the
    answer.
    """
    readout = model.readout
    first = readout.read_position(len(example.clean))
    return [
        (replace(item, reads=(read,), answers=(right,), distractors=(wrong,)), read - first)
        for item in readout.items(example, index, order=order)
        for read, right, wrong in zip(item.reads, item.answers, item.distractors, strict=True)
    ]


def scores_key(study: Study, task: str, circuit: str, seed: int) -> dict:
    """The key under which :func:`measured` is stored.

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
    orders = _orders(study, task, circuit, seed, chosen)
    exact = study.budget.estimator == "exact"
    return study.key(CIRCUITS[circuit], seed, task, ROOMS) | {
        "circuit": circuit,
        "method": study.budget.estimator,
        "ig_steps": None if exact else study.budget.ig_steps,
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
