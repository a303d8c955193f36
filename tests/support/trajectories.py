"""Trajectories made up by hand: what is measured is given, so what is found is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mechshift_lib.analyses import Study
from mechshift_lib.analyses.scores import edges_of
from mechshift_lib.analyses.trajectory_files import DIAL, write
from mechshift_lib.analyses.trajectory_points import (
    READS,
    Amount,
    Measured,
    folder_of,
    weights_hash,
)
from mechshift_lib.circuits.graph.graph import Graph

#: Steps of the checkpoints, and how far each stands between start and end.
STEPS = (0, 10, 20, 40)
WAYS = (0.0, 0.25, 0.5, 1.0)


def read_names(tasks: Sequence[str]) -> list[str]:
    """Reads that are kept of a pair with these tasks, such as ``countdown/4``, in order."""
    return [f"{task}/{at}" for task, places in READS.items() if task in tasks for at in places]


def circuit_between(start: np.ndarray, end: np.ndarray, way: float) -> np.ndarray:
    """Scores at a share of the angle between two orthogonal circuits of equal size."""
    angle = way * np.pi / 2
    return np.cos(angle) * start + np.sin(angle) * end


def make_trajectory(study: Study, seed: int, *, circuit: float = 1.0, noise: float = 0.0) -> Path:
    """Write a trajectory of a pair's models below its root.

    The MDM's accuracies go from 0 to 1 and its cue from 0.9 to 0.1 in step; its circuits turn from
    the ARM's, from the embedding alone, to deeper ones, ``way ** circuit`` of the way. The control
    stays as it is, and ends half as far away.
    """
    pair, graph = study.pair, Graph.for_model(study.model("arm", seed))
    rng = np.random.default_rng(seed)
    reads = read_names(pair.tasks)
    deep = edges_of(graph).source_depth > 0
    start, end = (~deep).astype(float), deep.astype(float)
    end *= np.linalg.norm(start) / np.linalg.norm(end)
    weights = {r: weights_hash(folder_of(study, pair.model(r, seed))) for r in pair.roles}
    made = []

    def add(model: str, step: int, way: float, hashed: str) -> None:
        moved = model == "mdm"
        mean = circuit_between(start, end, way**circuit if moved else 0.0)
        scores = mean + noise * rng.normal(size=(len(reads), 4, graph.n_edges))
        row = {
            "model": model,
            "step": step,
            "displacement": (2.0 if moved else 1.0) * way,
            "listed": 0.9 - (0.8 * way if moved else 0.0),
            "targeted": 0.05,
            "cues": 7,
            "examples": 20,
        }
        row |= {f"accuracy/{task}": way if moved else 1.0 for task in pair.tasks}
        row |= {f"effect/{name}": 1.0 for name in reads} | {"weights": hashed}
        made.append(Measured(row, scores.astype(np.float32), graph))

    add("arm", 0, 0.0, weights["arm"])
    for model in (role for role in ("mdm", "continued") if role in pair.roles):
        for step, way in zip(STEPS, WAYS, strict=True):
            if step or model == "mdm":
                last = step == STEPS[-1]
                hashed = weights[model] if last else weights["arm"] if not step else f"{step:016x}"
                add(model, step, way, hashed)
    return write(study, seed, made, Amount(), study.root)


#: Share of the angle away from the ARM's circuit at which each variant of the MDM ends.
ENDS = {"mdm-causal": 0.3, "mdm-answers": 0.5}


def make_dial(study: Study, seed: int, *, noise: float = 0.0, arm: str = "") -> Path:
    """Write the checkpoints of the MDM's variants, as :func:`make_trajectory` does the others'.

    At the last step but one (``STEPS[-2]``, the last here) circuits are :data:`ENDS` of a quarter
    circle from the ARM's, cue and accuracies as far below 1.

    Args:
        study: the study.
        seed: the training.
        noise: of the scores.
        arm: hash of the ARM's weights (default: the pair's).
    """
    pair, graph = study.pair, Graph.for_model(study.model("arm", seed))
    rng = np.random.default_rng(seed)
    reads = read_names(pair.tasks)
    deep = edges_of(graph).source_depth > 0
    start, end = (~deep).astype(float), deep.astype(float)
    end *= np.linalg.norm(start) / np.linalg.norm(end)
    made = []
    places = [("arm", 0, 0.0)]
    for model, way in ENDS.items():
        places += [(model, step, way * step / STEPS[-2]) for step in STEPS[1:-1]]
    for model, step, way in places:
        mean = circuit_between(start, end, way)
        scores = mean + noise * rng.normal(size=(len(reads), 4, graph.n_edges))
        row = {"model": model, "step": step, "displacement": 10 * way}
        row |= {"listed": 1 - way, "targeted": 0.0, "cues": 7, "examples": 20}
        row |= {f"accuracy/{task}": 1 - way for task in pair.tasks}
        hashed = arm or weights_hash(folder_of(study, pair.model("arm", seed)))
        row |= {f"effect/{name}": 1.0 for name in reads}
        row |= {"weights": f"{model}-{step}" if step else hashed}
        made.append(Measured(row, scores.astype(np.float32), graph))
    return write(study, seed, made, Amount(), study.root, DIAL)
