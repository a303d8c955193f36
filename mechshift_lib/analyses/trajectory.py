"""A post-training as it goes: behaviour, circuit, cue and depth, and layers at its end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.cues import TASK as CUE_TASK
from mechshift_lib.analyses.scores import single_reads
from mechshift_lib.analyses.study import Study
from mechshift_lib.analyses.trajectory_curves import CURVES as MEASURED
from mechshift_lib.analyses.trajectory_curves import SMALLEST
from mechshift_lib.analyses.trajectory_files import Trajectory, is_of, read
from mechshift_lib.analyses.trajectory_points import READS
from mechshift_lib.comparison.cka import LEAST, linear_cka
from mechshift_lib.comparison.over_seeds import SHOWN, contrast_over_seeds
from mechshift_lib.diffusion.scratch import FOLLOWED
from mechshift_lib.semantics.activations import stream_at

#: Parts of the way of the behaviour at which the other curves are read.
PARTS = (0.5, 0.9)
#: Curves that are set against the behaviour, with their names.
CURVES = {"displacement": "‖Δθ‖", "way": "circuit", "listed": "cue", "depth": "depth"}
ROOMS = ("circuits", "semantics/activations", "comparison/cka", "analyses/scores")


def usable(study: Study) -> list[Trajectory]:
    """The shipped trajectories of the pair's models, by seed."""
    found = [read(study.pair.name, seed, study.root) for seed in study.pair.seeds]
    return [one for one in found if one is not None and is_of(one, study)]


def absent(study: Study) -> list[int]:
    """Seeds without a trajectory of the models that the pair has now."""
    there = [one.seed for one in usable(study)]
    return [seed for seed in study.pair.seeds if seed not in there]


def behaviour(found: Sequence[Trajectory]) -> pd.DataFrame:
    """Accuracy of every point.

    Returns:
        One row per training, model, step and task: ``seed, model, step, task, accuracy, n``.
    """
    rows = []
    for one in found:
        for model in FOLLOWED:
            for _, row in one.table.loc[one.of(model)].iterrows():
                rows += [
                    {
                        "seed": one.seed,
                        "model": model,
                        "step": row.step,
                        "task": str(name).removeprefix("accuracy/"),
                        "accuracy": row[name],
                        "n": row.examples,
                    }
                    for name in one.table.columns
                    if str(name).startswith("accuracy/")
                ]
    return pd.DataFrame(rows)


def circuits(found: Sequence[Trajectory]) -> pd.DataFrame:
    """Where the circuit of every point stands, read by read.

    Returns:
        One row per training, model, step and read: ``seed, model, step, displacement, read,
        jaccard, cosine, way, depth`` (:data:`~mechshift_lib.analyses.trajectory_curves.CURVES`),
        ``n`` (groups of examples).
    """
    rows = []
    for one in found:
        curves = one.curves()
        for model in FOLLOWED:
            for number, name in enumerate(one.places):
                for place in one.of(model):
                    rows.append(
                        {
                            "seed": one.seed,
                            "model": model,
                            "step": int(one.table.step[place]),
                            "displacement": float(one.table.displacement[place]),
                            "read": name,
                            **{curve: float(curves[curve][place, number]) for curve in MEASURED},
                            "n": one.scores.shape[2],
                        }
                    )
    return pd.DataFrame(rows)


def signals(found: Sequence[Trajectory], circuit: pd.DataFrame) -> pd.DataFrame:
    """Cue and depth along the way, a panel each.

    Args:
        found: the trajectories.
        circuit: of :func:`circuits`.

    Returns:
        ``seed, model, step, what`` (``cue`` or a read), ``value``; no cue where none was asked.
    """
    cues = [
        {"seed": one.seed, "model": model, "step": row.step, "what": "cue", "value": row.listed}
        for one in found
        for model in FOLLOWED
        for row in one.table.loc[one.of(model)].itertuples()
        if row.cues
    ]
    depths = circuit.rename(columns={"read": "what", "depth": "value"})
    columns = ["seed", "model", "step", "what", "value"]
    return pd.concat([pd.DataFrame(cues, columns=columns), depths[columns]], ignore_index=True)


def at_the_controls_distance(circuit: pd.DataFrame) -> pd.DataFrame:
    """The MDM where it is as far from the ARM as its control ends, between its checkpoints.

    Returns:
        One row per read: ``read, mdm, continued`` (mean over trainings of the cosine with the ARM),
        ``difference, low, high`` (MDM minus control, t interval over trainings), ``n`` (trainings
        whose MDM gets that far).
    """
    rows = []
    for name, part in circuit.groupby("read", sort=False):
        pairs = []
        for _, training in part.groupby("seed"):
            mdm, control = (training[training.model == model] for model in FOLLOWED)
            if control.empty:
                continue
            distance = control.displacement.iloc[-1]
            # Linear between checkpoints; beyond the last there is no such model.
            value = np.interp(distance, mdm.displacement, mdm.cosine, right=np.nan)
            pairs.append((float(value), float(control.cosine.iloc[-1])))
        values = np.array([pair for pair in pairs if not np.isnan(pair).any()]).reshape(-1, 2)
        contrast = contrast_over_seeds((values[:, 0] - values[:, 1]).tolist(), "continued", SHOWN)
        means = values.mean(0) if len(values) else (np.nan, np.nan)
        rows.append(
            {
                "read": name,
                "mdm": means[0],
                "continued": means[1],
                "difference": contrast.effect,
                "low": contrast.low,
                "high": contrast.high,
                "n": contrast.n,
            }
        )
    return pd.DataFrame(rows)


def reached(found: Sequence[Trajectory], part: float = PARTS[0]) -> pd.DataFrame:
    """Step at which the MDM's accuracy has gone a part of its way, from the ARM asked as an MDM.

    Returns:
        One row per training and task: ``seed, task, step``, NaN where the accuracy ends within
        :data:`SMALLEST` of where it began.
    """
    rows = []
    for one in found:
        table = one.table.loc[one.of("mdm")]
        for name in map(str, table.columns):
            if name.startswith("accuracy/"):
                step = _reached(table.step.to_numpy(dtype=float), table[name].to_numpy(), part)
                rows.append(
                    {"seed": one.seed, "task": name.removeprefix("accuracy/"), "step": step}
                )
    return pd.DataFrame(rows, columns=["seed", "task", "step"])


def learnt(found: Sequence[Trajectory]) -> list[str]:
    """Tasks whose circuit is followed, and whose accuracy changes in some training."""
    steps = reached(found).dropna()
    return [task for task in dict.fromkeys(steps.task) if task in READS]


def shares(found: Sequence[Trajectory], circuit: pd.DataFrame, task: str) -> pd.DataFrame:
    """How far each curve has gone when the MDM's accuracy on a task has gone a part of its way.

    Everything is linear between checkpoints. A share is (now - start) / (end - start), the start
    being the ARM asked as an MDM.

    Returns:
        One row per training, part (:data:`PARTS`), curve and read (empty where a curve has none):
        ``seed, part, step, curve`` (a key of :data:`CURVES`), ``read, share``; NaN where accuracy
        or curve ends within :data:`SMALLEST` of where it began.
    """
    rows: list[dict[str, object]] = []
    for part in PARTS:
        at = reached(found, part)
        at = at[at.task == task].set_index("seed").step
        for one in found:
            table = one.table.loc[one.of("mdm")]
            steps, step = table.step.to_numpy(dtype=np.float64), float(at[one.seed])
            row = {"seed": one.seed, "part": part, "step": step}
            curves = {("displacement", ""): _shares(table.displacement.to_numpy())}
            if task == CUE_TASK and table.cues.all():
                curves["listed", ""] = _shares(table.listed.to_numpy())
            own = circuit[(circuit.seed == one.seed) & (circuit.model == "mdm")]
            for name, rest in own.groupby("read", sort=False):
                if str(name).startswith(f"{task}/"):
                    curves["way", str(name)] = rest.way.to_numpy()
                    curves["depth", str(name)] = _shares(rest.depth.to_numpy())
            for (curve, name), values in curves.items():
                share = float(np.interp(step, steps, values))
                rows.append(row | {"curve": curve, "read": name, "share": share})
    return pd.DataFrame(rows, columns=["seed", "part", "step", "curve", "read", "share"])


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the way from the first value to the last; NaN where that is no way."""
    change = values[-1] - values[0]
    return (values - values[0]) / (change if abs(change) >= SMALLEST else np.nan)


def _reached(steps: NDArray[np.float64], accuracy: NDArray[np.float64], part: float) -> float:
    """First step, between checkpoints, at which a part of the way is gone; NaN without a way."""
    share = _shares(accuracy)
    if np.isnan(share).any():
        return float("nan")
    above = int(np.flatnonzero(share >= part)[0])  # not the first: its share is 0
    low, high = share[above - 1], share[above]
    return float(np.interp(part, [low, high], steps[[above - 1, above]]))


def layers(study: Study) -> pd.DataFrame:
    """Linear CKA of the ARM's residual stream with that of MDM and control, layer by layer.

    At the position that an answer token is read from, over the examples that ARM and MDM solve;
    the mean over the answer's scored tokens.

    Returns:
        One row per training, model, task and layer: ``seed, model, task, layer`` (layers before;
        the last is what the head reads), ``cka, n`` (examples, the fewest of a token's).
    """
    frames = []
    for seed in study.pair.seeds:
        for task in study.pair.tasks:
            chosen = pool(study, task, seed)[: study.budget.circuit_examples]
            if len(chosen) >= LEAST:
                frames.append(_layers(study, seed, task, chosen).assign(seed=seed, task=task))
    columns = ["seed", "model", "task", "layer", "cka", "n"]
    return (
        pd.concat(frames, ignore_index=True)[columns]
        if frames
        else pd.DataFrame([], columns=columns)
    )


def _layers(study: Study, seed: int, task: str, chosen: list[int]) -> pd.DataFrame:
    key = study.key("arm", seed, task, (*ROOMS, "analyses/trajectory")) | {
        "models": {
            role: study.key(role, seed, task, ())["models"][role] for role in study.pair.roles
        },
        "pool": chosen,
    }

    def compute() -> dict[str, pd.DataFrame]:
        streams = {role: _streams(study, seed, task, chosen, role) for role in study.pair.roles}
        rows = []
        for role in study.pair.roles[1:]:
            values, counts = [], []
            for at, (examples, arm) in streams["arm"].items():
                others, other = streams[role][at]
                assert examples == others  # what is scored doesn't depend on the model
                if len(examples) >= LEAST:
                    values.append([linear_cka(a, b) for a, b in zip(arm, other, strict=True)])
                    counts.append(len(examples))
            if not values:
                continue
            # A layer in which nothing varies yet, such as the embedding of one same token: NaN.
            table = np.array(values)
            known = ~np.isnan(table)
            means = np.where(
                known.any(0), np.nansum(table, 0) / np.maximum(known.sum(0), 1), np.nan
            )
            rows += [
                {"model": role, "layer": layer, "cka": float(value), "n": min(counts)}
                for layer, value in enumerate(means)
            ]
        return {"layers": pd.DataFrame(rows, columns=["model", "layer", "cka", "n"])}

    return study.frames("layers", key, compute)["layers"]


def _streams(
    study: Study, seed: int, task: str, chosen: list[int], role: str
) -> dict[int, tuple[list[int], NDArray[np.float32]]]:
    """Answer position -> the examples scored there, and the stream where it is read from,
    ``[n_layers + 1, n_example, d_model]``.
    """
    model, examples = study.model(role, seed), study.examples(task, seed)
    asked = [(at, i, item) for i in chosen for item, at in single_reads(model, examples[i], i)]
    inputs, reads = [item.clean for *_, item in asked], [item.reads for *_, item in asked]
    stream = stream_at(model, inputs, reads, study.budget.batch_size)[:, :, 0]
    found = {}
    for at in sorted({at for at, *_ in asked}):
        rows = [number for number, one in enumerate(asked) if one[0] == at]
        found[at] = [asked[number][1] for number in rows], stream[:, rows]
    return found
