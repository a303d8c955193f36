"""How often the rule for C1 errs, simulated on what was measured of a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from mechshift_lib.analyses import shift
from mechshift_lib.analyses.scores import scores, scores_key
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison import published
from mechshift_lib.comparison.noiseless import noiseless_cosines
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION
from mechshift_lib.comparison.similarity import corrected, top_jaccard
from mechshift_lib.comparison.worlds import (
    NULLS,
    Drift,
    Real,
    Similarity,
    Simulation,
    drift_of,
    error_rates,
    planted_drift,
    true_drift,
)
from mechshift_lib.errors import CircuitError
from mechshift_lib.results.kept import about_address

ROOMS = ("comparison", "analyses/errors", "analyses/shift")
TASKS = ("ioi", "countdown")
MODELS = ("arm", "mdm", "continued")
#: Similarities that a rule could be built on: the one that is used, and the paper's.
COMPARED = ("noiseless", "jaccard")
#: Simulated studies a world that the paper's is judged by, at most: its halves take long.
PAPERS_STUDIES = 100
#: Simulated studies of each world with a planted shift, at most: power needs no more.
POWER_STUDIES = 200
#: Halves over which the paper's is corrected in a simulated training.
SPLITS = 4
#: Trainings of a simulated study, and numbers of them for the curve of power.
TRAININGS = 5
CURVE = (3, 5, 8)


def usable(study: Study) -> list[int]:
    """Training seeds that have what a simulation starts from; none where the pair lacks a control
    or one of the two tasks.
    """
    if "continued" not in study.pair.roles or not set(TASKS) <= set(study.pair.tasks):
        return []
    return [s for s in shift.trainings(study, TASKS) if study.has("continued", s)]


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
        ``rates``: one row per similarity and world, ``true`` (is C1 true there?) and the columns
        of :func:`mechshift_lib.comparison.worlds.error_rates`. ``power``: the worlds with a planted
        shift again, for the similarity that is used and several numbers of trainings.
    """
    seeds = usable(study)
    keys = {
        f"{task}/{model}/{seed}": about_address("circuits", scores_key(study, task, model, seed))
        for task in TASKS
        for model in MODELS
        for seed in seeds
    }
    key = study.key("arm", study.seed, TASKS[0], ROOMS) | {
        "circuits": keys,
        "studies": [study.budget.error_studies, PAPERS_STUDIES, POWER_STUDIES],
        "trainings": [TRAININGS, *CURVE],
    }

    def compute() -> dict[str, pd.DataFrame]:
        return simulated(*_starting(study, seeds), planted_effects(), study.budget.error_studies)

    return study.frames("errors", key, compute)


def _starting(
    study: Study, seeds: list[int]
) -> tuple[list[Real], list[Real], tuple[np.ndarray, np.ndarray], int]:
    """What a simulation starts from: the first four arguments of :func:`simulated`."""
    reals = _measured(study, seeds)
    edges = scores(study, TASKS[0], "arm", seeds[0]).edges
    # Components count from 0; embedding and logits are ends, too.
    ends = (edges.source + 1, edges.reader + 1)
    count = max(1, round(REFERENCE_FRACTION * len(edges)))
    return reals[: len(seeds)], reals[len(seeds) :], ends, count


def first_rates(study: Study, studies: int) -> pd.DataFrame:
    """The table ``rates`` of :func:`rates` from the first few of its simulated studies alone."""
    return simulated(*_starting(study, usable(study)), planted_effects(), studies)["rates"]


def similarities(count: int) -> dict[str, Similarity]:
    """What :data:`COMPARED` are, the paper's at ``count`` edges and corrected for noise."""

    def overlap(a: np.ndarray, others: Sequence[np.ndarray]) -> list[float]:
        jaccard = partial(top_jaccard, count=count)
        return [corrected(a, b, jaccard, splits=SPLITS).value for b in others]

    return {"noiseless": noiseless_cosines, "jaccard": overlap}


def simulated(
    local: list[Real],
    planned: list[Real],
    ends: tuple[np.ndarray, np.ndarray],
    count: int,
    effects: Mapping[str, float],
    studies: int,
) -> dict[str, pd.DataFrame]:
    """The tables of :func:`rates` from scores alone.

    Args:
        local: what was measured on IOI.
        planned: what was measured on Countdown, in the same trainings.
        ends: source and reader of every edge, counted from 0.
        count: edges of the paper's circuit.
        effects: shifts to plant (:func:`planted_effects`).
        studies: simulated studies a world.
    """
    simulation = Simulation(local, planned, *ends, similarities(count), TRAININGS)
    control, mdm = simulation.drifts()
    nulls = {str(w): drift_of(w, control, mdm, 0.0) for w in NULLS}
    # Planted: on IOI the MDM moves as its control does. Where it moves far on both tasks, there is
    # no overlap left for Countdown to fall below.
    found = {name: planted_drift(simulation, "jaccard", control, x) for name, x in effects.items()}
    # Moves of the edges' own sizes may not be able to take as much of the overlap as was published.
    planted = {
        name: drift_of("planted", control, control, drift)
        for name, drift in found.items()
        if drift is not None
    }
    fewer = min(studies, POWER_STUDIES)
    total = studies * len(nulls) + fewer * len(planted)
    with tqdm(total=total, desc="simulated studies", unit="study") as bar:

        def run(worlds: Mapping[str, Drift], numbers: tuple[int, ...], true: bool) -> pd.DataFrame:
            rows = error_rates(
                simulation,
                worlds,
                studies=fewer if true else studies,
                seeds=numbers,
                seed=RESAMPLING_SEED,
                fewer={"jaccard": PAPERS_STUDIES},
                progress=bar.update,
            )
            return pd.DataFrame(rows).assign(true=true)

        false = run(nulls, (TRAININGS,), true=False)
        true = run(planted, CURVE, true=True) if planted else false.iloc[:0]
    rates = pd.concat([false, true[true.seeds == TRAININGS]], ignore_index=True)
    rates = rates.sort_values("measure", key=lambda m: m != COMPARED[0], kind="stable")
    power = true[true.measure == COMPARED[0]]
    return {"rates": rates.reset_index(drop=True), "power": power.reset_index(drop=True)}
