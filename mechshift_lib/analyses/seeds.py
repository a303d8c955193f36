"""The same comparison in other training seeds, and one model's circuit across seeds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.overlap import at_reference, columns, compare
from mechshift_lib.analyses.scores import scores, scores_key, studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.bootstrap import bootstrap
from mechshift_lib.comparison.overlap import (
    REFERENCE_FRACTION,
    expected_jaccard,
    jaccard,
    top_edges,
)
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames

#: Code that the overlap between trainings depends on.
ROOMS = ("comparison", "analyses/scores", "analyses/seeds")
#: Circuits that are compared with the same model's of another training.
MODELS = ("arm", "mdm")


def seed_table(study: Study) -> pd.DataFrame:
    """ARM and MDM in every seed, and the same model in two seeds, at the reference budget.

    Heads of models that were trained independently have no common numbering, so the overlap
    between seeds says what is left of a circuit when only its layers and parts can agree.

    Returns:
        ``task, seed, comparison, jaccard, low, high, bias, chance, n, count``; empty for a pair
        with one seed.
    """
    frames = []
    for task in studied_tasks(study):
        usable = [s for s in study.pair.seeds if len(pool(study, task, s)) >= 2]
        if len(usable) < 2:
            continue
        for seed in usable:
            edges = at_reference(compare(study, task, seed)["edges"])
            frames.append(edges[edges.comparison == "arm-mdm"])
        for first, second in pairwise(usable):
            frames.append(between_seeds(study, task, first, second))
    if not frames:
        return pd.DataFrame(columns=["task", "seed", "comparison", "jaccard"])
    return pd.concat(frames, ignore_index=True)


def with_seeds(reference: pd.DataFrame, by_seed: pd.DataFrame) -> pd.DataFrame:
    """Overlaps at one budget with those between seeds below them, for the figure.

    Of several pairs of seeds the mean is taken, and the interval that holds all of theirs.
    """
    between = by_seed[by_seed.comparison != "arm-mdm"]
    if not len(between):
        return reference
    how = {"jaccard": "mean", "low": "min", "high": "max", "chance": "mean", "n": "min"}
    how |= {"count": "min"}
    by = between.groupby(["task", "comparison"], sort=False, as_index=False)
    return pd.concat([reference, by.agg(how)], ignore_index=True)


def between_seeds(study: Study, task: str, first: int, second: int) -> pd.DataFrame:
    """One model's circuits of two trainings, set against each other, from the store.

    Returns:
        As :func:`seed_table`, a row a model with examples that both trainings have a circuit of.
    """
    keys = {
        f"{name}/{seed}": scores_key(study, task, name, seed)
        for name in MODELS
        for seed in (first, second)
    }
    key = study.key("arm", second, task, ROOMS) | {
        "circuits": {name: about_address("circuits", one) for name, one in keys.items()},
        "draws": _draws(study),
    }

    def compute() -> Frames:
        return {"between": _between_seeds(study, task, first, second)}

    return study.frames("between-seeds", key, compute)["between"]


def _draws(study: Study) -> int:
    return min(200, study.budget.bootstrap)


def _between_seeds(study: Study, task: str, first: int, second: int) -> pd.DataFrame:
    rows = []
    for name in MODELS:
        a, b = scores(study, task, name, first), scores(study, task, name, second)
        common = np.intersect1d(a.examples, b.examples)
        if len(common) < 2:
            continue
        count = max(1, round(REFERENCE_FRACTION * len(a.edges)))

        def overlap(
            x: NDArray[np.float64], y: NDArray[np.float64], count: int = count
        ) -> NDArray[np.float64]:
            return jaccard(top_edges(x, count), top_edges(y, count))[:, None]

        estimate = bootstrap(
            [a.of(common), b.of(common)],
            overlap,
            draws=_draws(study),
            seed=RESAMPLING_SEED,
            recentre=True,
        )
        rows.append(
            {"task": task, "seed": second, "comparison": f"{name}-seeds", "count": count}
            | {"fraction": count / len(a.edges)}
            | {"chance": expected_jaccard(len(a.edges), count, count)}
            | columns(estimate, 0, "jaccard", (0, 1))
            | {"n": len(common)}
        )
    names = ["task", "seed", "comparison", "count", "fraction", "chance"]
    return pd.DataFrame(rows or {name: [] for name in names})
