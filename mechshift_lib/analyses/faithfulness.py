"""Do circuits do their model's work, and does one model's circuit do another's?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import pool, solved
from mechshift_lib.analyses.scores import scores, scores_key, studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.evaluation.curve import FRACTIONS, RANKING_OF, Curve, faithfulness
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curves
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.config import Role

ROOMS = (
    "circuits",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/circuits",
    "analyses/faithfulness",
)
#: A circuit counts as doing the task from this faithfulness on.
FAITHFUL = 0.85
#: Random rankings that stand beside a circuit's.
RANDOM = ("random-1", "random-2")

Array = NDArray[np.float64]


def held_out(study: Study, task: str) -> list[int]:
    """Examples that circuits are evaluated on: solved ones that no circuit was found on.

    As many as the budget says; where fewer than 2 are left, the examples that circuits were
    found on.
    """
    found_on = pool(study, task, study.seed)
    rest = solved(study, task, study.seed)[len(found_on) :]
    return (rest if len(rest) >= 2 else found_on)[: study.budget.faithfulness_examples]


def separate(study: Study) -> bool:
    """Is every circuit evaluated on other examples than it was found on?"""
    return all(
        not set(held_out(study, task)) & set(pool(study, task, study.seed))
        for task in studied_tasks(study)
    )


def rankings(study: Study, model: Role) -> list[tuple[str, str]]:
    """Which circuits are evaluated inside a model, as (circuit, ``signed`` or ``absolute``).

    Its own circuit by both rankings, the other models' circuits and random ones by signed score.
    """
    others = [role for role in study.pair.roles if role != model]
    return [(model, "signed"), (model, "absolute"), *((r, "signed") for r in (*others, *RANDOM))]


def evaluated(study: Study, task: str, model: Role) -> pd.DataFrame:
    """Metric of a model that keeps a circuit only, for every circuit, size and example.

    All other edges carry the corrupted run's signal (resample ablation).

    Returns:
        One row per circuit, size and example: ``circuit, by, fraction, count, example, value,
        correct, full, empty``; ``correct`` is the share of answer tokens still ranked first,
        ``full`` and ``empty`` are the metric of the whole model and without any edge.
    """
    metric, chosen = study.task(task).metric, held_out(study, task)
    wanted = rankings(study, model)
    keys = {role: scores_key(study, task, role, study.seed) for role in study.pair.roles}
    key = study.key(model, study.seed, task, ROOMS) | {
        "metric": metric,
        "rankings": wanted,
        "circuits": {role: study.store.folder("circuits", one).name for role, one in keys.items()},
        "fractions": list(FRACTIONS),
        "evaluated_on": chosen,
    }

    def compute() -> dict[str, pd.DataFrame]:
        loaded, examples = study.model(model, study.seed), study.examples(task, study.seed)
        items = [item for i in chosen for item in loaded.readout.items(examples[i], i)]
        found = {role: scores(study, task, role) for role in study.pair.roles}
        graph = found[model].graph
        ranked = {name: _random(graph, name) for name in RANDOM}
        ranked |= {
            str(role): Circuit(graph, s.mean.astype(np.float32)) for role, s in found.items()
        }
        frames = []
        for by in ("signed", "absolute"):
            names = [circuit for circuit, ranking in wanted if ranking == by]
            evaluated = faithfulness_curves(
                loaded,
                items,
                [ranked[name] for name in names],
                by=by,
                metric=metric,
                batch_size=study.budget.batch_size,
            )
            frames += [_rows_of(n, c) for n, c in zip(names, evaluated, strict=True)]
        return {"evaluated": pd.concat(frames, ignore_index=True)}

    return study.frames("faithfulness", key, compute)["evaluated"]


def _rows_of(circuit: str, curve: Curve) -> pd.DataFrame:
    """One row per size and example."""
    size, example = (index.ravel() for index in np.indices(curve.values.shape))
    return pd.DataFrame(
        {
            "circuit": circuit,
            "by": curve.by,
            "fraction": curve.fractions[size],
            "count": curve.n_edges[size],
            "example": curve.examples[example],
            "value": curve.values.ravel(),
            "correct": curve.correct.ravel(),
            "full": curve.full[example],
            "empty": curve.empty[example],
        }
    )


def _random(graph: Graph, name: str) -> Circuit:
    """A random ranking, the same in every model and task."""
    rng = np.random.default_rng([RESAMPLING_SEED, RANDOM.index(name)])
    return Circuit(graph, rng.random(graph.n_edges).astype(np.float32))


def curves(found: pd.DataFrame, draws: int) -> dict[tuple[str, str], Array]:
    """Faithfulness of every circuit of :func:`evaluated` by size, whole and resampled.

    Returns:
        (circuit, ranking) -> faithfulness ``[1 + draws, n_fraction]``: of all examples, then of
        bootstrap draws of them, the same ones for every circuit. ``random`` is the mean over the
        random rankings.
    """
    examples = np.sort(found.example.unique())
    first = found.drop_duplicates("example").set_index("example").loc[examples]
    full, empty = first["full"].to_numpy(), first["empty"].to_numpy()
    equal = np.full((1, len(examples)), 1 / len(examples))
    weights = np.concatenate([equal, resample(len(examples), draws, RESAMPLING_SEED)])
    result = {}
    for (circuit, by), rows in found.groupby(["circuit", "by"], sort=False):
        values = rows.pivot(index="fraction", columns="example", values="value")[examples]
        drawn = faithfulness(values.to_numpy(), full, empty, weights)
        result[str(circuit), str(by)] = drawn
    chance = [result.pop((name, "signed")) for name in RANDOM]
    return result | {("random", "signed"): np.mean(chance, axis=0)}


def area(drawn: Array, measure: str) -> Array:
    """CPR, the area below f, or CMD, the area between f and 1, ``[draws]``.

    Over the fractions of edges by the trapezoid rule, as in the MIB benchmark.
    """
    heights = drawn if measure == "cpr" else np.abs(1 - drawn)
    return np.asarray(np.trapezoid(heights, FRACTIONS, axis=-1))


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """Faithfulness of all circuits in all models.

    Returns:
        ``curves``: ``task, model, circuit, by, fraction, count, faithfulness, low, high, correct,
        n``.
        ``areas``: ``task, model, circuit, measure, value, low, high, n``; measure ``cpr`` (signed
        ranking) or ``cmd`` (absolute ranking, own circuits only).
        ``losses``: what another circuit's CPR lacks of that of the model's own, over the same
        examples: ``task, model, circuit, loss, low, high, n``.
        ``kept``: of what the CPR of a model's own circuit has above random edges', the share that
        another circuit keeps: ``task, model, circuit, kept, low, high, n``.
        ``excess``: the ARM's circuit's loss in the MDM minus its loss in the control: ``task,
        excess, low, high, n``; empty where the pair has no control.
    """
    parts: dict[str, list[pd.DataFrame]]
    parts = {name: [] for name in ("curves", "areas", "losses", "kept")}
    excess = []
    for task in studied_tasks(study):
        lost: dict[tuple[str, str], Array] = {}
        for model in study.pair.roles:
            found = evaluated(study, task, model)
            drawn = curves(found, study.budget.bootstrap)
            about = {"task": task, "model": model, "n": found.example.nunique()}
            parts["curves"].append(_curve_rows(found, drawn).assign(**about))
            areas = {
                (circuit, measure): area(values, measure)
                for (circuit, by), values in drawn.items()
                for measure, ranking in RANKING_OF.items()
                if by == ranking
            }
            parts["areas"].append(_rows(areas, "value", ("circuit", "measure")).assign(**about))
            lost |= {
                (model, circuit): areas[model, "cpr"] - values
                for (circuit, measure), values in areas.items()
                if measure == "cpr" and circuit != model
            }
        n = found.example.nunique()
        parts["losses"].append(_rows(lost, "loss", ("model", "circuit")).assign(task=task, n=n))
        kept = {
            (model, circuit): 1 - loss / lost[model, "random"]
            for (model, circuit), loss in lost.items()
            if circuit != "random"
        }
        parts["kept"].append(_rows(kept, "kept", ("model", "circuit")).assign(task=task, n=n))
        if ("continued", "arm") in lost:
            beyond = {("arm",): lost["mdm", "arm"] - lost["continued", "arm"]}
            excess.append(_rows(beyond, "excess", ("circuit",)).assign(task=task, n=n))
    joined = {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}
    columns = ["circuit", "excess", "low", "high", "task", "n"]
    none = pd.DataFrame(columns=columns)
    return joined | {"excess": pd.concat(excess, ignore_index=True) if excess else none}


def smallest(table: pd.DataFrame) -> pd.DataFrame:
    """The smallest own circuit of each model and task that is :data:`FAITHFUL`, or the largest.

    Args:
        table: ``curves`` of :func:`tables`.
    """
    own = table[(table.by == "signed") & (table.circuit == table.model)]
    rows = []
    for _, curve in own.groupby(["task", "model"], sort=False):
        curve = curve.sort_values("fraction")
        enough = curve[curve.faithfulness >= FAITHFUL]
        rows.append(enough.iloc[0] if len(enough) else curve.iloc[-1])
    return pd.DataFrame(rows).reset_index(drop=True)


def _rows(values: Mapping[Any, Array], name: str, ends: tuple[str, ...]) -> pd.DataFrame:
    """One row per key with value and percentile interval of ``[1 + draws]``."""
    rows = []
    for key, drawn in values.items():
        low, high = np.quantile(drawn[1:], [0.025, 0.975])
        rows.append({**dict(zip(ends, key, strict=True)), name: drawn[0], "low": low, "high": high})
    return pd.DataFrame(rows)


def _curve_rows(found: pd.DataFrame, drawn: Mapping[tuple[str, str], Array]) -> pd.DataFrame:
    sizes = found.drop_duplicates("fraction").sort_values("fraction")
    correct = found.assign(circuit=found.circuit.str.replace(r"-\d+$", "", regex=True))
    correct = correct.groupby(["circuit", "by", "fraction"]).correct.mean()
    frames = []
    for (circuit, by), values in drawn.items():
        low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
        frames.append(
            pd.DataFrame(
                {
                    "circuit": circuit,
                    "by": by,
                    "fraction": sizes.fraction.to_numpy(),
                    "count": sizes["count"].to_numpy(),
                    "faithfulness": values[0],
                    "low": low,
                    "high": high,
                    "correct": correct.loc[circuit, by].to_numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
