"""Does the MDM's global task hang on early structures? Targeted ablations with controls (C6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.faithfulness import held_out
from mechshift_lib.analyses.scores import scores, scores_key, studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.evaluation.node_sets import ablate_nodes
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.controls import (
    THIRDS,
    matched_sets,
    same_mass,
    strongest,
    third_of,
)
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, component_scores, top_edges
from mechshift_lib.comparison.proportions import mean_interval
from mechshift_lib.config import Role
from mechshift_lib.errors import CircuitError

ROOMS = (
    "circuits",
    "comparison/controls",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/circuits",
    "analyses/faithfulness",
    "analyses/ablation",
)
#: Heads that are ablated at once.
HEADS = 3
#: The paper's ablation first; the others have fewer random sets.
ABLATIONS = ("zero", "mean", "resample")
#: What the early heads are held against: others like them, and the strongest elsewhere.
CONTROLS = ("random", "middle", "late")

Array = NDArray[np.float64]


def component_masses(study: Study, task: str) -> pd.DataFrame:
    """Heads of the MDM's circuit at the reference budget.

    Returns:
        One row per head: ``component, layer, third, score`` (units of the metric).
    """
    found = scores(study, task, "mdm")
    count = max(1, round(REFERENCE_FRACTION * len(found.edges)))
    values = component_scores(found.edges, found.mean, top_edges(found.mean, count))
    frame = pd.DataFrame(
        {
            "component": found.edges.components,
            "layer": found.edges.component_layer,
            "third": third_of(found.edges.component_layer, found.graph.n_layers),
            "score": values,
        }
    )
    return frame[found.edges.component_head >= 0].reset_index(drop=True)


def chosen_sets(study: Study, task: str) -> pd.DataFrame:
    """The sets of heads that are ablated.

    ``early`` are the heads of the first third with the largest |score| in the MDM's circuit;
    ``middle`` and ``late`` the same of the other thirds; ``middle-mass`` and ``late-mass`` have as
    much summed |score| as ``early``, or all heads of their third; ``random`` are drawn like
    ``early``: as many heads in each layer, or in a small model in each third.

    Returns:
        One row per set: ``kind, draw, nodes`` (joined by ``+``), ``heads``, ``mass`` (share of the
        heads' summed |score|), ``by_layer`` (of random sets: matched by layer), ``shared``
        (how many of its heads are among ``early``).
    """
    heads = component_masses(study, task)
    values = heads.score.to_numpy()
    whole = np.abs(values).sum()
    in_third = [(heads.third == i).to_numpy() for i in range(3)]
    there = {name: x for name, x in zip(THIRDS, in_third, strict=True) if x.any()}
    # One head of the first third is left over, or there would be no other set like the chosen one.
    k = max(1, min(HEADS, int(in_third[0].sum()) - 1, *(int(x.sum()) for x in there.values())))
    early = strongest(values, in_third[0], k)
    mass = float(np.abs(values[early]).sum())
    layers = heads.layer.to_numpy()
    n_layers = int(scores(study, task, "mdm").graph.n_layers)
    random = matched_sets(
        early,
        layers,
        n_layers,
        np.ones(len(heads), dtype=bool),
        study.budget.ablation_draws,
        RESAMPLING_SEED,
    )
    sets = {("early", 0): early}
    for name, among in there.items():
        if name == THIRDS[0]:
            continue
        sets[name, 0] = strongest(values, among, k)
        sets[f"{name}-mass", 0] = same_mass(values, among, mass)
    sets |= {("random", i): one for i, one in enumerate(random.sets)}
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "draw": draw,
                "nodes": "+".join(heads.component[one]),
                "heads": len(one),
                "mass": float(np.abs(values[one]).sum()) / whole if whole else 0.0,
                "by_layer": random.by_layer,
                "shared": len(set(one) & set(early)),
            }
            for (kind, draw), one in sets.items()
        ]
    )


def sharing(sets: pd.DataFrame) -> pd.DataFrame:
    """How far the random sets are others than the early one, which they stand beside.

    Args:
        sets: ``sets`` of :func:`tables`.

    Returns:
        ``task, kind`` (early), ``nodes, mass, n`` (number of random sets), ``sharing`` (those that
        have at least one of the early heads).
    """
    random = sets[sets.kind == "random"]
    counts = random.assign(sharing=random.shared > 0).groupby("task", sort=False).sharing
    counts = counts.agg(n="size", sharing="sum").reset_index()
    return sets[sets.kind == "early"][["task", "kind", "nodes", "mass"]].merge(counts, on="task")


def ablated(study: Study, task: str, model: Role) -> pd.DataFrame:
    """What a model still does without each set of heads.

    Read as circuits are evaluated: an ARM teacher-forced, an MDM left to right, one token a step,
    on solved examples that no circuit was found on.

    Returns:
        One row per ablation, set and example: ``ablation, kind, draw, example, value`` (metric),
        ``correct`` (share of answer tokens that are still ranked first). ``kind`` ``none`` is the
        whole model.
    """
    sets = chosen_sets(study, task)
    chosen = held_out(study, task)[: study.budget.ablation_examples]
    metric = study.task(task).metric
    key = study.key(model, study.seed, task, ROOMS) | {
        "metric": metric,
        "circuit": study.store.folder("circuits", scores_key(study, task, "mdm", study.seed)).name,
        "sets": sets.nodes.tolist(),
        "evaluated_on": chosen,
    }

    def compute() -> dict[str, pd.DataFrame]:
        loaded, examples = study.model(model, study.seed), study.examples(task, study.seed)
        items = [item for i in chosen for item in loaded.readout.items(examples[i], i)]
        whole = pd.DataFrame([{"kind": "none", "draw": 0, "nodes": ""}])
        frames = []
        for ablation in ABLATIONS:
            fewer = study.budget.ablation_draws // (1 if ablation == ABLATIONS[0] else 2)
            run = pd.concat([whole, sets[(sets.kind != "random") | (sets.draw < fewer)]])
            found = ablate_nodes(
                loaded,
                items,
                [nodes.split("+") if nodes else [] for nodes in run.nodes],
                metric=metric,
                ablation=ablation,
            )
            row, example = (index.ravel() for index in np.indices(found.values.shape))
            frames.append(
                pd.DataFrame(
                    {
                        "ablation": ablation,
                        "kind": run.kind.to_numpy()[row],
                        "draw": run.draw.to_numpy()[row],
                        "example": found.examples[example],
                        "value": found.values.ravel(),
                        "correct": found.correct.ravel(),
                    }
                )
            )
        return {"ablated": pd.concat(frames, ignore_index=True)}

    return study.frames("ablation", key, compute)["ablated"]


def losses(found: pd.DataFrame, draws: int) -> dict[tuple[str, str], Array]:
    """Accuracy lost by each kind of set, whole and resampled.

    Args:
        found: as :func:`ablated`.
        draws: bootstrap draws of the examples, the same ones for every kind and ablation.

    Returns:
        (ablation, kind) -> ``[1 + draws, n_set]``: of all examples, then of bootstrap samples; one
        column for each random set.

    Raises:
        CircuitError: an ablation lacks the whole model.
    """
    examples = np.sort(found.example.unique())
    equal = np.full((1, len(examples)), 1 / len(examples))
    weights = np.concatenate([equal, resample(len(examples), draws, RESAMPLING_SEED)])
    result = {}
    for ablation, rows in found.groupby("ablation", sort=False):
        grid = rows.pivot(index=["kind", "draw"], columns="example", values="correct")[examples]
        if ("none", 0) not in grid.index:
            raise CircuitError(f"The {ablation} ablation lacks the run of the whole model.")
        lost = grid.loc[[("none", 0)]].to_numpy() - grid.to_numpy()
        drawn = weights @ lost.T
        kinds = grid.index.get_level_values("kind")
        for kind in dict.fromkeys(kinds):
            if kind != "none":
                result[str(ablation), str(kind)] = drawn[:, kinds == kind]
    return result


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """Accuracy lost without early heads and without their controls.

    Returns:
        ``sets``: :func:`chosen_sets` with ``task``.
        ``losses``: ``task, model, ablation, kind, lost, low, high, n``: accuracy lost, a mean over
        examples (and over random sets), with its bootstrap interval; for ``random`` also ``least``
        and ``most``, the middle 95 % of the sets, and ``sets``, their number.
        ``contrasts``: ``task, model, ablation, against, more, low, high, n, p``: how much more
        accuracy the early heads cost than each control; ``p`` is the share of random sets that cost
        at least as much, the chosen set counted.
    """
    sets, lost, contrasts = [], [], []
    for task in studied_tasks(study):
        sets.append(chosen_sets(study, task).assign(task=task))
        for model in study.pair.roles:
            found = ablated(study, task, model)
            drawn = losses(found, study.budget.bootstrap)
            n = found.example.nunique()
            whole = found[found.kind == "none"].groupby("ablation").correct.mean()
            for (ablation, kind), values in drawn.items():
                about = {"task": task, "model": model, "ablation": ablation, "n": n}
                row: dict[str, Any] = {**about, "kind": kind, "sets": values.shape[1]}
                able = float(whole[ablation])
                row |= _spread(values.mean(1), "lost", n, (able - 1, able))
                low, high = np.quantile(values[0], [0.025, 0.975])
                lost.append(row | {"least": low, "most": high})
                if kind in CONTROLS:
                    early = drawn[ablation, "early"][:, 0]
                    more = _spread(early - values.mean(1), "more", n, (-1, 1))
                    one = {**about, "against": kind, **more}
                    as_bad = 1 + int((values[0] >= early[0]).sum())
                    p = as_bad / (1 + values.shape[1]) if kind == "random" else np.nan
                    contrasts.append(one | {"p": p})
    return {
        "sets": pd.concat(sets, ignore_index=True),
        "losses": pd.DataFrame(lost),
        "contrasts": pd.DataFrame(contrasts),
    }


def _spread(drawn: Array, name: str, n: int, bounds: tuple[float, float]) -> dict[str, float]:
    low, high = mean_interval(drawn, n, bounds)
    return {name: float(drawn[0]), "low": low, "high": high}
