"""What the repository ships, as computing it for every seed takes longer than a book.

``data/scores/PAIR/seedS/TASK-CIRCUIT.safetensors`` holds what :mod:`mechshift_lib.analyses.scores`
measured: one row of half-precision scores a question, with what was asked of which weights. A file
is used only where all of that is what is asked now; the code that computed it is noted, not
compared: a test computes a sample of every pair's anew. Tables of trainings but the first lie in
``data/tables/PAIR/seedS.zip`` (:mod:`mechshift_lib.results.kept`); of the first, too, those of
pairs whose file says so, and those of :data:`mechshift_lib.analyses.study.FIRST_TOO`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mechshift_lib.analyses.study import Study
from mechshift_lib.errors import ResultError
from mechshift_lib.execution.pages import results_of
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.kept import about, keep
from mechshift_lib.results.provenance import provenance
from mechshift_lib.results.store import read_provenance

#: Kinds of stored results that are shipped: what models answer, and what takes long. What is made
#: of these in no time isn't.
TABLES = (
    "ablation",
    "answers",
    "attention",
    "between-seeds",
    "components",
    "cues",
    "dictionaries",
    "drawn",
    "errors",
    "explored",
    "faithfulness",
    "later",
    "layers",
    "lens-readings",
    "measures",
    "meeting",
    "metrics",
    "neurons",
    "overlap",
    "planning-cut",
    "planning-patched",
    "robustness",
    "robustness-ioi",
    "shift",
    "signals",
    "steps",
    "training",
    "trust",
    "trust-trainings",
)
_INTEGERS = ("example", "position", "step")


def path_of(study: Study, task: str, circuit: str, seed: int) -> Path:
    """Where the scores of a circuit are shipped."""
    folder = study.root / "data" / "scores" / study.pair.name / f"seed{seed}"
    return folder / f"{task}-{circuit}.safetensors"


def shipped(
    study: Study, task: str, circuit: str, seed: int, key: Mapping[str, Any]
) -> dict[str, pd.DataFrame] | None:
    """The shipped tables ``items, scores, graph``; None where there are none for this key.

    Raises:
        ResultError: the file is damaged.
    """
    path = path_of(study, task, circuit, seed)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
            if notes.get("about") != about(key):
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        graph = json.loads(notes["graph"])
        items = pd.DataFrame({name: arrays[name].astype(np.int64) for name in _INTEGERS})
        items["effect"] = arrays["effect"].astype(np.float64)
        scores = arrays["scores"].astype(np.float32)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ResultError(
            f"{path} is damaged: take it from the repository again, or delete it and its scores "
            "are computed."
        ) from error
    columns = [str(i) for i in range(len(scores))]
    return {
        "items": items,
        "scores": pd.DataFrame(scores.T, columns=columns),
        "graph": pd.DataFrame([graph]),
    }


def ship(
    study: Study,
    task: str,
    circuit: str,
    seed: int,
    key: Mapping[str, Any],
    frames: Mapping[str, pd.DataFrame],
) -> Path:
    """Write the tables of a circuit to where :func:`shipped` finds them; returns the file."""
    path = path_of(study, task, circuit, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    items = frames["items"]
    arrays = {name: items[name].to_numpy(dtype=np.int32) for name in _INTEGERS}
    arrays["effect"] = items.effect.to_numpy(dtype=np.float32)
    arrays["scores"] = np.ascontiguousarray(frames["scores"].to_numpy().T.astype(np.float16))
    notes = {
        "about": about(key),
        "graph": json.dumps(frames["graph"].iloc[0].to_dict(), default=int),
        "made": json.dumps(provenance(kind="shipped scores", code=key["code"]), sort_keys=True),
    }
    write_atomic(path, lambda temporary: save_file(arrays, temporary, metadata=notes))
    return path


def ship_tables(study: Study, seed: int, pages: Iterable[Path]) -> int:
    """Keep what executed pages used of a training in its archive; returns the number of results.

    Only what the pair ships of the training (:meth:`Study.ships`). A training that the pages don't
    use keeps the archive that it has.

    Args:
        study: whose store has the results.
        seed: the training.
        pages: executed chapters of the pair.

    Raises:
        ResultError: a result that a page used is gone.
    """
    used = {name for page in pages for name in results_of(page)}
    folders = []
    for name in sorted(used):
        kind = name.split("/")[0]
        if kind in TABLES and study.ships(seed, kind):
            key = read_provenance(study.store.root / name)["key"]
            if key["pair"] == study.pair.name and seed == key["seed"][0]:
                folders.append(study.store.root / name)
    if folders:
        keep(study.tables(seed), folders)
    return len(folders)
