"""A post-training as it goes: behaviour, circuit, cue and depth, and layers at its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.scores import edges_of, single_reads
from mechshift_lib.analyses.study import Study
from mechshift_lib.analyses.trajectory_files import Trajectory, is_of, read
from mechshift_lib.comparison.cka import LEAST, linear_cka
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, top_edges
from mechshift_lib.comparison.similarity import corrected, cosine, top_jaccard
from mechshift_lib.diffusion.scratch import FOLLOWED
from mechshift_lib.semantics.activations import stream_at

#: Change from its start to its end below which a curve has gone no way that could be halved.
SMALLEST = 0.05
#: Curves that are set against the behaviour, with their names.
CURVES = {"displacement": "‖Δθ‖", "own": "circuit", "listed": "cue", "depth": "depth"}
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
        jaccard`` (top 5 % of edges, with the ARM's), ``cosine`` (of all scores with the ARM's,
        noise divided out), ``own`` (the same with the circuit at the end of the model's own
        training), ``depth`` (of the top edges' sources), ``n`` (groups of examples).
    """
    rows = []
    for one in found:
        start = int(np.flatnonzero(one.table.model == "arm")[0])
        source = edges_of(one.graph).source_depth
        count = max(1, round(REFERENCE_FRACTION * one.graph.n_edges))
        for model in FOLLOWED:
            places = one.of(model)
            for number, name in enumerate(one.reads):
                arm, end = one.scores[start, number], one.scores[places[-1], number]
                for place in places:
                    own = one.scores[place, number]
                    mean = own.mean(0)
                    rows.append(
                        {
                            "seed": one.seed,
                            "model": model,
                            "step": int(one.table.step[place]),
                            "displacement": float(one.table.displacement[place]),
                            "read": name,
                            "jaccard": float(top_jaccard(arm.mean(0), mean, count)),
                            "cosine": _similarity(arm, own),
                            "own": 1.0 if place == places[-1] else _similarity(end, own),
                            "depth": float(centre_of_mass(mean, source, top_edges(mean, count))),
                            "n": len(own),
                        }
                    )
    return pd.DataFrame(rows)


def _similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Cosine of two circuits over halves of their groups, divided by what the halves allow."""
    return 1.0 if a is b else min(1.0, corrected(a, b, cosine).value)


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
        contrast = contrast_over_seeds((values[:, 0] - values[:, 1]).tolist(), "continued")
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


def learnt(found: Sequence[Trajectory]) -> list[str]:
    """Tasks whose circuit is followed."""
    return list(dict.fromkeys(name.partition("/")[0] for one in found for name in one.reads))


def half_accuracy(found: Sequence[Trajectory]) -> pd.DataFrame:
    """Step at which the MDM's accuracy is half of what it ends with: ``seed, task, step``."""
    rows = []
    for one in found:
        table = one.table.loc[one.of("mdm")]
        for name in table.columns:
            if str(name).startswith("accuracy/"):
                task = str(name).removeprefix("accuracy/")
                step = _crossing(table.step.to_numpy(dtype=np.float64), table[name].to_numpy())
                rows.append({"seed": one.seed, "task": task, "step": step})
    return pd.DataFrame(rows, columns=["seed", "task", "step"])


def halfway(found: Sequence[Trajectory], circuit: pd.DataFrame, task: str) -> pd.DataFrame:
    """How far each curve has gone when the MDM's accuracy on a task is half of what it ends with.

    Everything is linear between checkpoints. A share is (now - start) / (end - start), the start
    being the ARM asked as an MDM.

    Returns:
        One row per training, curve and read (empty where a curve has none): ``seed, step`` (of half
        the accuracy), ``curve`` (a key of :data:`CURVES`), ``read, share``; NaN where the curve
        changes by less than :data:`SMALLEST`.
    """
    rows: list[dict[str, object]] = []
    for one in found:
        table = one.table.loc[one.of("mdm")]
        steps = table.step.to_numpy(dtype=np.float64)
        step = _crossing(steps, table[f"accuracy/{task}"].to_numpy())
        share = partial(_share, steps, step)
        row = {"seed": one.seed, "step": step}
        for name in ("displacement", "listed"):
            if name == "displacement" or table.cues.all():
                value = share(table[name].to_numpy())
                rows.append(row | {"curve": name, "read": "", "share": value})
        own = circuit[(circuit.seed == one.seed) & (circuit.model == "mdm")]
        for read_name, part in own[own["read"].str.startswith(f"{task}/")].groupby("read"):
            for name in ("own", "depth"):
                value = share(part[name].to_numpy())
                rows.append(row | {"curve": name, "read": read_name, "share": value})
    return pd.DataFrame(rows, columns=["seed", "step", "curve", "read", "share"])


def _crossing(steps: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float:
    """First step, between checkpoints, at which half of the last value is reached."""
    half = accuracy[-1] / 2
    above = int(np.flatnonzero(accuracy >= half)[0])
    if above == 0:
        return float(steps[0])
    low, high = accuracy[above - 1], accuracy[above]
    part = (half - low) / (high - low)
    return float(steps[above - 1] + part * (steps[above] - steps[above - 1]))


def _share(steps: NDArray[np.float64], step: float, values: NDArray[np.float64]) -> float:
    change = values[-1] - values[0]
    if abs(change) < SMALLEST:
        return float("nan")
    return float((np.interp(step, steps, values) - values[0]) / change)


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
