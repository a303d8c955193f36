"""How often the rule for C1 errs, simulated on what was measured of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.scores import scores, scores_key
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison import published
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION
from mechshift_lib.comparison.similarity import Measure, measures
from mechshift_lib.comparison.worlds import (
    NULLS,
    Drift,
    Real,
    Simulation,
    drift_of,
    error_rates,
    planted_drift,
    true_drift,
)
from mechshift_lib.errors import CircuitError

ROOMS = ("comparison", "analyses/errors")
TASKS = ("ioi", "countdown")
MODELS = ("arm", "mdm", "continued")
#: Similarities that a rule could be built on: the one that is used, and the paper's.
COMPARED = ("cosine", "jaccard")
#: Trainings of a simulated study, and numbers of them for the curve of power.
TRAININGS = 5
CURVE = (3, 5, 8, 12)


def usable(study: Study) -> list[int]:
    """Training seeds that have what a simulation starts from; none where the pair lacks a control
    or one of the two tasks.
    """
    if "continued" not in study.pair.roles or not set(TASKS) <= set(study.pair.tasks):
        return []
    return [s for s in study.pair.seeds if all(len(pool(study, t, s)) >= 4 for t in TASKS)]


def obstacle(study: Study) -> str:
    """Why nothing can be simulated from this pair; the empty text where it can."""
    seeds = usable(study)
    if not seeds:
        return (
            "This pair has no control, or ARM and MDM don't both solve IOI and Countdown, so there "
            "is nothing to simulate from."
        )
    try:
        for real in _measured(study, seeds):
            true_drift(real.arm, real.mdm)
    except CircuitError as error:
        return str(error)
    return ""


def _measured(study: Study, seeds: list[int]) -> list[Real]:
    """Scores of every training on IOI, then of every training on Countdown."""
    found = [{m: scores(study, t, m, s) for m in MODELS} for t in TASKS for s in seeds]
    return [Real(*(one[m].by_example for m in MODELS)) for one in found]


def planted_effects() -> dict[str, float]:
    """Name of a world with a shift of a published size -> that size: overlap of IOI minus that of
    Countdown, Jaccard index of the top 1,000 edges.
    """
    tables = (published.read_table(name) for name in ("overlap", "top_edges"))
    rows = published.overlap_table(*tables).pivot(index="series", columns="task", values="top1000")
    return {f"as in the {s}": float(row.ioi - row.countdown) for s, row in rows.iterrows()}


def rates(study: Study) -> dict[str, pd.DataFrame]:
    """Error rates of the rule in every world.

    Returns:
        ``rates``: one row per similarity and world, ``measure, world, true`` (is C1 true there?),
        and the columns of :func:`mechshift_lib.comparison.worlds.error_rates`. ``power``: the
        worlds with a planted shift again, for the similarity that is used and several numbers of
        trainings.
    """
    seeds = usable(study)
    keys = {
        f"{task}/{model}/{seed}": study.store.folder(
            "circuits", scores_key(study, task, model, seed)
        ).name
        for task in TASKS
        for model in MODELS
        for seed in seeds
    }
    key = study.key("arm", study.seed, TASKS[0], ROOMS) | {
        "circuits": keys,
        "studies": study.budget.error_studies,
        "trainings": [TRAININGS, *CURVE],
    }

    def compute() -> dict[str, pd.DataFrame]:
        reals = _measured(study, seeds)
        local, planned = reals[: len(seeds)], reals[len(seeds) :]
        first = scores(study, TASKS[0], "arm", seeds[0])
        # Components count from 0; the embedding is a source, too.
        sources = first.edges.source + 1
        of = measures(max(1, round(REFERENCE_FRACTION * len(first.edges))))
        return _simulated(
            local, planned, sources, of, planted_effects(), study.budget.error_studies
        )

    return study.frames("errors", key, compute)


def _simulated(
    local: list[Real],
    planned: list[Real],
    sources: np.ndarray,
    of: Mapping[str, Measure],
    effects: Mapping[str, float],
    studies: int,
) -> dict[str, pd.DataFrame]:
    make = partial(Simulation, local, planned, sources)
    paper = make(of["jaccard"])
    control, mdm = paper.drifts()
    nulls = {str(w): drift_of(w, control, mdm, 0.0) for w in NULLS}
    found = {name: planted_drift(paper, mdm, effect) for name, effect in effects.items()}
    # Moves of the edges' own sizes may not be able to take as much of the overlap as was published.
    planted = {
        name: drift_of("planted", control, mdm, drift)
        for name, drift in found.items()
        if drift is not None
    }
    worlds: dict[str, Drift] = {**nulls, **planted}
    total = studies * (len(COMPARED) * len(worlds) + len(CURVE) * len(planted))
    with tqdm(total=total, desc="simulated studies", unit="study") as bar:

        def run(measure: str, drifts: Mapping[str, Drift], trainings: int) -> pd.DataFrame:
            simulation = make(of[measure], seeds=trainings)
            rows = error_rates(
                simulation,
                drifts,
                studies=studies,
                seed=RESAMPLING_SEED,
                progress=bar.update,
            )
            frame = pd.DataFrame(rows)
            frame.insert(0, "measure", measure)
            frame.insert(2, "true", [world in planted for world in frame.world])
            return frame

        rates = pd.concat([run(m, worlds, TRAININGS) for m in COMPARED], ignore_index=True)
        power = [run(COMPARED[0], planted, n) for n in CURVE] if planted else [rates.iloc[:0]]
        return {"rates": rates, "power": pd.concat(power, ignore_index=True)}
