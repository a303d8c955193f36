"""Trajectories that the repository ships in place of their checkpoints.

``data/trajectories/PAIR/seedS.csv`` has a row for each point of a training: behaviour, cue and
displacement, as :func:`mechshift_lib.analyses.trajectory_points.measure` gives them.
``seedS.safetensors`` beside it has the scores of all edges at each, in half precision, and where
both come from; of models with too many edges for that it has what follows from them
(:mod:`mechshift_lib.analyses.trajectory_curves`). ``dial-seedS`` has the same of the MDM's variants
(:mod:`mechshift_lib.analyses.dial`). They are of the models that stand in data/models if the hashes
of the ends' weights say so (:func:`is_of`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mechshift_lib.analyses.study import EXAMPLES_SEED, Study
from mechshift_lib.analyses.trajectory_curves import CURVES, curves_of, rows_of
from mechshift_lib.analyses.trajectory_points import (
    OWN,
    ROOMS,
    Amount,
    Measured,
    folder_of,
    weights_hash,
)
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError, ResultError
from mechshift_lib.results import code_hash
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.tasks.countdown import number_name

#: Where trajectories lie, relative to the checkout.
FOLDER = Path("data") / "trajectories"
#: How names of files begin that are of the MDM's variants.
DIAL = "dial-"
#: Bytes of a training's scores above which only what follows from them is kept.
LARGEST = 8 * 2**20


@dataclass(frozen=True)
class Trajectory:
    """What was measured of all points of one training.

    Attributes:
        seed: the training.
        table: one row a point (see :func:`trajectory_points.measure`).
        reads: names of the reads, such as ``countdown/4``, ``[n_read]``.
        scores: ``[n_point, n_read, n_group, n_edges]``, in units of the metric; no edge where they
            aren't kept.
        graph: the models' graph.
        notes: recipe, code, amounts: where it comes from.
        kept: what is kept in place of scores, as :meth:`curves` gives it.
    """

    seed: int
    table: pd.DataFrame
    reads: tuple[str, ...]
    scores: NDArray[np.float32]
    graph: Graph
    notes: dict[str, Any]
    kept: Mapping[str, NDArray[np.float64]] | None = None

    def of(self, model: str) -> NDArray[np.intp]:
        """Rows of one model's training in the order of steps; the control's begin at the ARM."""
        return rows_of(self.table, model)

    @property
    def places(self) -> tuple[str, ...]:
        """What each read is of, such as ``countdown/last number``."""
        return place_names(self.reads)

    def curves(self) -> Mapping[str, NDArray[np.float64]]:
        """Where every point's circuit stands: name -> ``[n_point, n_read]`` (:data:`CURVES`)."""
        if self.kept is not None:
            return self.kept
        return curves_of(self.table, self.scores, self.graph)


def place_names(reads: Sequence[str]) -> tuple[str, ...]:
    """Reads by what stands there: ``countdown/4`` -> ``countdown/last number``, if it is the last.

    Args:
        reads: task and answer position of each, the positions of a task in order.
    """
    tasks = [name.partition("/")[0] for name in reads]
    found = []
    for i, task in enumerate(tasks):
        number, n = tasks[:i].count(task), tasks.count(task)
        found.append(f"{task}/{'the answer' if n == 1 else number_name(number, n)}")
    return tuple(found)


def path_of(pair: str, seed: int, root: Path = ROOT, prefix: str = "") -> Path:
    """The file of scores of a training; the table is beside it. ``prefix``: "" or :data:`DIAL`."""
    return root / FOLDER / pair / f"{prefix}seed{seed}.safetensors"


def write(
    study: Study,
    seed: int,
    measured: Sequence[Measured],
    amount: Amount,
    root: Path = ROOT,
    prefix: str = "",
) -> Path:
    """Write the files of a training; returns that of the scores.

    Args:
        study: whose pair and recipe it is.
        seed: the training.
        measured: all its points.
        amount: how much was measured of each.
        root: the checkout that they are written to.
        prefix: as for :func:`path_of`.
    """
    path = path_of(study.pair.name, seed, root, prefix)
    table = pd.DataFrame([one.row for one in measured])
    notes = {
        "pair": study.pair.name,
        "seed": [seed, EXAMPLES_SEED],
        "recipe": study.pair.training,
        "amount": asdict(amount),
        "reads": [x.removeprefix("effect/") for x in table.columns if x.startswith("effect/")],
        "graph": asdict(measured[0].graph),
        "code": code_hash(*ROOMS, *OWN),
        "points": _points(table),
    }
    scores = np.stack([one.scores for one in measured])
    tensors = {"scores": scores.astype(np.float16)}
    if tensors["scores"].nbytes > LARGEST:
        found = curves_of(table, scores, measured[0].graph)
        tensors = {name: values.astype(np.float32) for name, values in found.items()}
    content = save(tensors, metadata={"about": json.dumps(notes, sort_keys=True)})
    write_atomic(path.with_suffix(".csv"), table.to_csv(index=False, float_format="%.6g"))
    return write_atomic(path, content)


def _points(table: pd.DataFrame) -> list[str]:
    return [f"{row.model}/{row.step}/{row.weights}" for row in table.itertuples()]


def read(pair: str, seed: int, root: Path = ROOT, prefix: str = "") -> Trajectory | None:
    """A shipped trajectory; None where there is none.

    Raises:
        ResultError: a file is missing or damaged, or the two aren't of the same points.
    """
    path = path_of(pair, seed, root, prefix)
    table_path = path.with_suffix(".csv")
    if not path.is_file() and not table_path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            notes = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = table_path.read_text(encoding="utf-8")
        table = pd.read_csv(io.StringIO(text), dtype={"weights": str})
        reads = tuple(notes["reads"])
        kept = None
        if "scores" in tensors:
            scores = tensors["scores"].astype(np.float32)
        else:
            kept = {name: tensors[name].astype(np.float64) for name in CURVES}
            if any(one.shape != (len(table), len(reads)) for one in kept.values()):
                raise ValueError("table and curves are of different points")
            scores = np.zeros((len(table), len(reads), notes["amount"]["groups"], 0), np.float32)
        if _points(table) != notes["points"] or len(scores) != len(table):
            raise ValueError("table and scores are of different points")
        graph = Graph(**notes["graph"])
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError, TypeError) as error:
        raise ResultError(
            f"The trajectory {path} is damaged ({error}): take it and {table_path.name} from the "
            "repository again."
        ) from error
    return Trajectory(seed, table, reads, scores, graph, notes, kept)


def is_of(found: Trajectory, study: Study) -> bool:
    """Whether its ends are the models that the pair has now."""
    try:
        ends = {
            role: weights_hash(folder_of(study, study.pair.model(role, found.seed)))
            for role in study.pair.roles
        }
    except ConfigError:  # models of another kind
        return False
    last = {str(role): part.weights.iloc[-1] for role, part in found.table.groupby("model")}
    return all(last.get(role) == ends[role] for role in ends)
