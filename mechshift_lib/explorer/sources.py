"""Circuits that there are to look at: shipped, or stored by the book. Nothing is computed here.

Scores of other weights than the pair's are left out, so that none is shown as if it were of the
models that lie here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.overlap import SPLITS
from mechshift_lib.analyses.scores import (
    CIRCUITS,
    Measured,
    Scores,
    assembled,
    clear_reads,
    measured,
)
from mechshift_lib.analyses.shipped import path_of, shipped
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.analyses.trajectory import usable
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.bootstrap import split_halves
from mechshift_lib.config import ROOT
from mechshift_lib.errors import ModelError, ResultError
from mechshift_lib.explorer.curves import Split
from mechshift_lib.results.provenance import model_hash
from mechshift_lib.results.store import Frames, Store
from mechshift_lib.results.store import read as read_result

#: What an answer as a whole is called beside its single positions.
WHOLE = "all"
#: How edges of a trajectory are scored.
ALONG = "eap-ig-5"


class NotStoredError(ResultError):
    """A table isn't there; :class:`Reading` computes none."""


@dataclass(frozen=True)
class Reading(Store):
    """A store that computes nothing and writes nothing."""

    def frames(
        self,
        kind: str,
        key: Mapping[str, Any],
        compute: Callable[[], Frames],
        kept: Callable[[], tuple[Frames, dict[str, Any]] | None] | None = None,
    ) -> Frames:
        """The tables of this key, stored or shipped.

        Raises:
            NotStoredError: they are neither.
        """
        folder = self.folder(kind, key)
        if folder.exists():
            return read_result(folder)
        found = kept() if kept is not None else None
        if found is None:
            raise NotStoredError(f"There is no stored {kind!r} in {folder}: say mechshift run.")
        return found[0]


@dataclass(frozen=True)
class Source:
    """Which circuits a file of the explorer has.

    Attributes:
        task: the task.
        estimator: how edges are scored, ``exact`` or ``eap-ig-5``.
        read: answer position whose scores they are, or :data:`WHOLE`.
        seed: the training.
        graph: the models' graph.
        names: of the circuits, a key of :data:`CIRCUITS` each; a checkpoint's has its step, such as
            ``mdm@400``.
    """

    task: str
    estimator: str
    read: str
    seed: int
    graph: Graph
    names: tuple[str, ...]


@dataclass(frozen=True)
class Circuits(Source):
    """The circuits of one training on one task, over the same examples.

    Attributes:
        scores: of each, ``[n_example, n_edges]``; of a trajectory's ``[n_group, n_edges]``.
        splits: rows of the halves that are set against each other.
        shares: whether scores are shares of the effect, or in units of the metric.
        n: number of examples.
    """

    scores: tuple[NDArray[np.float32], ...]
    splits: tuple[Split, ...]
    shares: bool
    n: int


def reading(pair: str, results: str = "results", root: Path = ROOT) -> Study:
    """A study that reads what is there and computes nothing."""
    found = Study.open(pair, results=results, root=root)
    return replace(found, store=Reading(found.store.root))


def final(study: Study, task: str, seed: int) -> Iterator[Circuits]:
    """Circuits of the trained models: of the whole answer, and of each of its positions."""
    found = {name: one for name in CIRCUITS if (one := _measured(study, task, name, seed))}
    if not {"arm", "mdm"} <= set(found):
        return
    clear = clear_reads([found[role].items for role in study.pair.roles if role in found])
    made = {name: assembled(name, one, clear) for name, one in found.items()}
    examples = made["arm"].examples
    # Circuits are set against each other over the same examples only.
    made = {n: s for n, s in made.items() if np.array_equal(s.examples, examples)}
    reads = [WHOLE, *map(str, made["arm"].reads)] if len(made["arm"].reads) > 1 else [WHOLE]
    for read in reads:
        scores = {name: _at(one, read) for name, one in made.items()}
        there = np.all([~np.isnan(one).any(axis=1) for one in scores.values()], axis=0)
        n = int(there.sum())
        if n < 2:
            continue
        yield Circuits(
            task=task,
            estimator=_estimator(study),
            read=read,
            seed=seed,
            graph=made["arm"].graph,
            names=tuple(scores),
            scores=tuple(one[there] for one in scores.values()),
            splits=tuple(split_halves(n, SPLITS, RESAMPLING_SEED)),
            shares=made["arm"].shares,
            n=n,
        )


def _at(scores: Scores, read: str) -> NDArray[np.float32]:
    """Scores by example of an answer position, NaN where an example has no metric there."""
    if read == WHOLE:
        return scores.by_example
    places = np.flatnonzero(scores.reads == int(read))
    missing = np.full_like(scores.by_example, np.nan)
    return scores.by_read[places[0]] if len(places) else missing


def _estimator(study: Study) -> str:
    budget = study.budget
    return "exact" if budget.estimator == "exact" else f"eap-ig-{budget.ig_steps}"


def _measured(study: Study, task: str, circuit: str, seed: int) -> Measured | None:
    """What was measured of a circuit of the pair's models; None where nothing was."""
    role = CIRCUITS[circuit]
    if not study.has(role, seed):
        return None
    path = path_of(study, task, circuit, seed)
    if path.is_file():
        key = _asked(path)
        try:
            own = model_hash(study.pair.model(role, seed), study.root)
        except ModelError:  # the weights aren't here, so nobody can say whose scores they are
            return None
        frames = shipped(study, task, circuit, seed, key)
        if frames is None or key["models"].get(role) != own:
            return None
        graph = Graph(**frames["graph"].iloc[0].to_dict())
        values = frames["scores"].to_numpy(dtype=np.float32).T
        return Measured(graph, frames["items"], np.ascontiguousarray(values))
    try:
        if len(pool(study, task, seed)) < 2:  # nothing can be measured over one example
            return None
        return measured(study, task, circuit, seed)
    except (NotStoredError, ModelError):
        return None


def _asked(path: Path) -> dict[str, Any]:
    """What shipped scores are of: the key that was asked, without how it was computed.

    Raises:
        ResultError: the file is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(json.loads((file.metadata() or {})["about"]))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ResultError(f"{path} is damaged: take it from the repository again.") from error


def along(study: Study) -> Iterator[Circuits]:
    """Circuits of every checkpoint of a training whose scores are kept, one position at a time."""
    for one in usable(study):
        if one.kept:
            continue
        n_group = one.scores.shape[2]
        everything = np.arange(n_group)
        splits = tuple(
            (np.array(half), np.setdiff1d(everything, half))
            for half in combinations(range(n_group), n_group // 2)
            if 0 in half  # the rest is the same splits the other way round
        )
        names = tuple(
            row.model if row.model == "arm" else f"{row.model}@{row.step}"
            for row in one.table.itertuples()
        )
        single = {
            task
            for task in study.pair.tasks
            if sum(name.startswith(f"{task}/") for name in one.reads) == 1
        }
        for number, name in enumerate(one.reads):
            task, _, position = name.rpartition("/")
            yield Circuits(
                task=task,
                estimator=ALONG,
                read=WHOLE if task in single else position,
                seed=one.seed,
                graph=one.graph,
                names=names,
                scores=tuple(one.scores[:, number]),
                splits=splits,
                shares=False,
                n=int(one.notes["amount"]["circuit"]),
            )
