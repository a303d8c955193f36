"""Do circuits do their model's work, and does one model's circuit do another's?

Every training gives its numbers; what is concluded is over trainings, and held against margins
that are named here.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mechshift_lib.analyses.behaviour import pool, solved
from mechshift_lib.analyses.scores import CIRCUITS, scores, scores_key, studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.evaluation.curve import FRACTIONS, Curve
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curves
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.results.kept import about_address

ROOMS = (
    "circuits",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/faithfulness",
)
MODELS = ("arm", "mdm", "continued", "matched")
#: A circuit counts as doing the task from this faithfulness on. A judgement.
FAITHFUL = 0.85
#: The smallest loss of CPR that matters, a twentieth of the task: as much of its unit as the claims
#: about circuits have for a margin. A judgement; smaller losses come with other examples.
MATTERS = 0.05
#: Sizes that are evaluated: the MIB benchmark's grid from half a percent on (below, circuits of
#: small models have a handful of edges).
SIZES = tuple(fraction for fraction in FRACTIONS if fraction >= 0.005)
#: Random circuits are evaluated from this size on, to keep the cost down.
RANDOM_FROM = 0.05
#: Random rankings; every example meets one of them.
RANDOM = 4


def unseen(study: Study, task: str, seed: int) -> list[int]:
    """Examples that ARM and MDM solve and no circuit was found on; where fewer than 4 are left,
    those that circuits were found on.
    """
    found_on = pool(study, task, seed)
    rest = solved(study, task, seed)[len(found_on) :]
    return rest if len(rest) >= 4 else found_on


def held_out(study: Study, task: str, seed: int) -> list[int]:
    """Examples that circuits are evaluated on, as many as the budget says."""
    return unseen(study, task, seed)[: study.budget.faithfulness_examples]


def trainings(study: Study, task: str) -> list[int]:
    """Seeds whose ARM and MDM are there and solve at least 2 examples of a task in common."""
    there = [s for s in study.pair.seeds if study.has("arm", s) and study.has("mdm", s)]
    return [seed for seed in there if len(pool(study, task, seed)) >= 2]


def separate(study: Study) -> bool:
    """Is every circuit evaluated on other examples than it was found on?"""
    return all(
        not set(held_out(study, task, seed)) & set(pool(study, task, seed))
        for task in studied_tasks(study)
        for seed in trainings(study, task)
    )


def rankings(study: Study, model: str, seed: int) -> list[str]:
    """Whose circuits are evaluated inside a model: its own and the ARM's, in the ARM the MDM's."""
    other = "mdm" if model == "arm" else "arm"
    return [name for name in (model, other) if study.has(CIRCUITS[name], seed)]


def evaluated(study: Study, task: str, model: str, seed: int) -> pd.DataFrame:
    """Metric of a model that keeps a circuit only, for every circuit, size and example.

    All other edges carry the corrupted run's signal (resample ablation). Edges are ranked by signed
    score.

    Returns:
        One row per circuit, size and example: ``circuit, fraction, count, example, value, correct,
        full, empty``; ``correct`` is the share of answer tokens still ranked first, ``full`` and
        ``empty`` are the metric of the whole model and without any edge. The circuit ``random`` is
        one of several rankings, another one for every example.
    """
    metric, chosen = study.task(task).metric, held_out(study, task, seed)
    wanted = rankings(study, model, seed)
    keys = {name: scores_key(study, task, name, seed) for name in wanted}
    key = study.key(model, seed, task, ROOMS) | {
        "metric": metric,
        "circuits": {name: about_address("circuits", k) for name, k in keys.items()},
        "fractions": list(SIZES),
        "evaluated_on": chosen,
    }

    def compute() -> dict[str, pd.DataFrame]:
        found = {name: scores(study, task, name, seed) for name in wanted}
        loaded, examples = study.model(model, seed), study.examples(task, seed)
        graph = found[model].graph
        items = {i: loaded.readout.items(examples[i], i) for i in chosen}
        options = {"metric": metric, "batch_size": study.budget.batch_size}
        own = faithfulness_curves(
            loaded,
            [item for one in items.values() for item in one],
            [Circuit(graph, s.mean.astype(np.float32)) for s in found.values()],
            fractions=SIZES,
            **options,  # type: ignore[arg-type]
        )
        frames = [_rows_of(name, curve) for name, curve in zip(wanted, own, strict=True)]
        larger = [fraction for fraction in SIZES if fraction >= RANDOM_FROM]
        for number in range(min(RANDOM, len(chosen))):
            mine = [item for i in chosen[number::RANDOM] for item in items[i]]
            ranking = random_ranking(graph, number)
            (curve,) = faithfulness_curves(
                loaded,
                mine,
                [ranking],
                fractions=larger,
                **options,  # type: ignore[arg-type]
            )
            frames.append(_rows_of("random", curve))
        return {"evaluated": pd.concat(frames, ignore_index=True)}

    return study.frames("faithfulness", key, compute)["evaluated"]


def _rows_of(circuit: str, curve: Curve) -> pd.DataFrame:
    """One row per size and example."""
    size, example = (index.ravel() for index in np.indices(curve.values.shape))
    return pd.DataFrame(
        {
            "circuit": circuit,
            "fraction": curve.fractions[size],
            "count": curve.n_edges[size],
            "example": curve.examples[example],
            "value": curve.values.ravel(),
            "correct": curve.correct.ravel(),
            "full": curve.full[example],
            "empty": curve.empty[example],
        }
    )


def random_ranking(graph: Graph, number: int) -> Circuit:
    """A random ranking, the same in every model, task and training."""
    rng = np.random.default_rng([RESAMPLING_SEED, number])
    return Circuit(graph, rng.random(graph.n_edges).astype(np.float32))
