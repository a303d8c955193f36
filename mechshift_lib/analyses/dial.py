"""The dial: which part of the post-training moves what, by MDMs that differ in one part of it.

All start from the same ARM and see the same batches. From the control to ``mdm-causal`` the
objective changes, from there to ``mdm`` the attention opens, and ``mdm-answers`` may mask answers
only. All are compared after the same step, the last that every one of them has reached, asked what
a trajectory's checkpoints are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mechshift_lib.analyses import trajectory
from mechshift_lib.analyses.scores import edges_of
from mechshift_lib.analyses.study import Study
from mechshift_lib.analyses.trajectory_files import DIAL, Trajectory, read
from mechshift_lib.analyses.trajectory_points import Point, folder_of
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, top_edges
from mechshift_lib.comparison.similarity import corrected, cosine, top_jaccard
from mechshift_lib.diffusion.recipe import recipe_of
from mechshift_lib.diffusion.scratch import WORK, kept
from mechshift_lib.errors import ConfigError, ModelError

#: What each difference turns: its name, the model and its base.
TURNS = (
    ("objective", "mdm-causal", "continued"),
    ("attention", "mdm", "mdm-causal"),
    ("what is masked", "mdm-answers", "mdm"),
)
#: Measure -> its column in :func:`followed`; all but the cue are of a read.
MEASURES = {"circuit": "cosine", "depth": "depth", "cue": "listed"}


def points(study: Study, seed: int) -> list[Point]:
    """The checkpoints of the MDM's variants that a training left so far, after the ARM.

    Raises:
        ConfigError: the models aren't trained here, or the recipe has no variant.
        ModelError: no variant has a checkpoint.
    """
    recipe = recipe_of(study.pair)
    if not recipe.variants:
        raise ConfigError(
            f"Pair {study.pair.name!r} has no variants of its MDM: name some in training.variants."
        )
    found = []
    for stage in recipe.variants:
        places = kept(study.pair, recipe, seed, stage, study.root / WORK)
        end = folder_of(study, study.pair.model(stage, seed))
        for step, folder in (places | {recipe.post.steps: end}).items():
            if any(folder.glob("*.safetensors")):
                found.append(Point(stage, step, folder))
    if not found:
        names = " and ".join(recipe.variants)
        raise ModelError(
            f"No checkpoint of {names} of seed {seed} is in {WORK}: "
            f"`mechshift train {study.pair.name} --seed {seed}` leaves them."
        )
    return [Point("arm", 0, folder_of(study, study.pair.model("arm", seed))), *found]


def usable(study: Study) -> list[Trajectory]:
    """Trajectories of the pair's models, by seed, joined by those of the MDM's variants.

    A training whose variants aren't shipped, or were asked something else, is left out, and so is
    one of which no scores are kept.
    """
    found = []
    for one in trajectory.usable(study):
        own = read(study.pair.name, one.seed, study.root, DIAL)
        if own is None or own.notes["amount"] != one.notes["amount"] or own.reads != one.reads:
            continue
        if one.kept or own.kept:
            continue
        arms = [part.table.weights[part.table.model == "arm"].item() for part in (one, own)]
        if arms[0] == arms[1]:
            variants = (own.table.model != "arm").to_numpy()
            found.append(
                replace(
                    one,
                    table=pd.concat([one.table, own.table[variants]], ignore_index=True),
                    scores=np.concatenate([one.scores, own.scores[variants]]),
                )
            )
    return found


def steps(found: Sequence[Trajectory]) -> list[int]:
    """Steps, in order, after which every model of every training was measured."""
    reached = [
        set(part.step)
        for one in found
        for model, part in one.table.groupby("model")
        if model != "arm"
    ]
    return sorted(int(step) for step in set.intersection(*reached)) if reached else []


def whole(found: Sequence[Trajectory]) -> int:
    """Steps of the whole post-training."""
    return max(int(one.table.step.max()) for one in found)


def followed(found: Sequence[Trajectory]) -> pd.DataFrame:
    """Every model of every training after every one of :func:`steps`, the ARM first (step 0).

    Returns:
        One row per training, model, step and read: ``seed, model, step, displacement, listed``
        (probability of the number that is left, at the decisive conflict), ``read, cosine`` (with
        the ARM's scores of all edges, noise divided out), ``jaccard`` (top 5 % of edges),
        ``depth``, ``n`` (groups of examples), ``accuracy/TASK``.
    """
    wanted = steps(found)
    rows = []
    for one in found:
        start = int(np.flatnonzero(one.table.model == "arm")[0])
        source = edges_of(one.graph).source_depth
        count = max(1, round(REFERENCE_FRACTION * one.graph.n_edges))
        accuracies = [str(name) for name in one.table.columns if str(name).startswith("accuracy/")]
        for place in [start, *np.flatnonzero(one.table.step.isin(wanted)).tolist()]:
            end = one.table.loc[place]
            said = {name: float(end[name]) for name in ("displacement", "listed", *accuracies)}
            for number, name in enumerate(one.places):
                arm, own = one.scores[start, number], one.scores[place, number]
                mean = own.mean(0)
                alike = 1.0 if place == start else min(1.0, corrected(arm, own, cosine).value)
                rows.append(
                    {"seed": one.seed, "model": end.model, "step": int(end.step), "read": name}
                    | said
                    | {
                        "cosine": alike,
                        "jaccard": float(top_jaccard(arm.mean(0), mean, count)),
                        "depth": float(centre_of_mass(mean, source, top_edges(mean, count))),
                        "n": len(own),
                    }
                )
    return pd.DataFrame(rows)


def last(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`followed` of the ARM, and of all others after the last step."""
    return table[(table.step == table.step.max()) | (table.model == "arm")]


def turned(table: pd.DataFrame) -> pd.DataFrame:
    """What each part of the post-training changes, over trainings.

    Args:
        table: of :func:`last`.

    Returns:
        One row per part (:data:`TURNS`), measure (:data:`MEASURES`) and read (empty where a measure
        has none): ``part, measure, read, model, base, difference, low, high`` (95 %, over
        trainings), ``n`` (trainings).
    """
    rows: list[dict[str, object]] = []
    for measure, column in MEASURES.items():
        parts = (
            [("", table.drop_duplicates(["seed", "model"]))]
            if measure == "cue"
            else list(table.groupby("read", sort=False))
        )
        for name, values in parts:
            wide = values.pivot(index="seed", columns="model", values=column)
            for part, model, base in TURNS:
                rows += [
                    {"part": part, "measure": measure, "read": name} | one
                    for one in differences(wide, [(model, base)])
                ]
    columns = ["part", "measure", "read", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)
