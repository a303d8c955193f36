"""Seconds per chapter, from the provenances of the tables that ship: for ``run --dry-run``.

Each shipped result says how long it took, for which model, task and number of examples. Their sum
over a training, divided by models, tasks and examples, is what a chapter costs there. Attribution,
whose scores ship without times, is taken from ``data/benchmarks/attribution.json``.
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from measuring import SHAPES, build, options, write

from mechshift_lib.book.models import shape
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.costs.time import DRIVER

#: Kind of a stored result -> the chapter that makes it.
CHAPTER = {
    "ablation": "ablation",
    "answers": "behaviour",
    "attention": "attention",
    "components": "components",
    "cues": "cues",
    "dictionaries": "dictionaries",
    "faithfulness": "faithfulness",
    "lens-readings": "lens",
    "meeting": "meeting",
    "neurons": "neurons",
    "overlap": "overlap",
    "planning-cut": "planning",
    "planning-patched": "planning",
    "robustness": "robustness",
    "signals": "cues",
}


def measured(root: Path = ROOT) -> list[dict[str, Any]]:
    """One row a pair and chapter: ``chapter, pair, parameters, seconds, results``.

    ``seconds`` is for one model, task and example, over all trainings that ship.
    """
    rows = []
    for folder in sorted((root / "data" / "tables").iterdir()):
        pair = load_pair(folder.name, root)
        budget, size = pair.budget("book"), shape(pair, root)["parameters"]
        spent: dict[str, float] = defaultdict(float)
        asked: dict[str, set[tuple[int, str, str]]] = defaultdict(set)
        counts: dict[str, int] = defaultdict(int)
        for path in sorted(folder.glob("seed*.zip")):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    kind = CHAPTER.get(name.split("/")[0])
                    if kind is None or not name.endswith("/provenance.json"):
                        continue
                    record = json.loads(archive.read(name))
                    spent[kind] += record["wall_seconds"]
                    counts[kind] += 1
                    key = record["key"]
                    asked[kind].add((key["seed"][0], str(key["role"]), str(key["task"])))
        for chapter, seconds in sorted(spent.items()):
            # A result of all models or all tasks is asked for once.
            trainings = len({seed for seed, _, _ in asked[chapter]})
            work = trainings * len(pair.roles) * len(pair.tasks) * getattr(budget, DRIVER[chapter])
            rows.append(
                {
                    "chapter": chapter,
                    "pair": pair.name,
                    "parameters": size,
                    "seconds": seconds / work,
                    "results": counts[chapter],
                }
            )
    return rows


def attribution(root: Path = ROOT) -> list[dict[str, Any]]:
    """Rows of chapter ``circuits``: seconds for one example and gradient step."""
    told = json.loads((root / "data" / "benchmarks" / "attribution.json").read_text("utf-8"))
    steps = told["settings"]["steps"] + 2
    rows = []
    for row in told["rows"]:
        with torch.device("meta"):
            model = build(SHAPES[row["shape"]])
        rows.append(
            {
                "chapter": "circuits",
                "pair": row["shape"],
                "parameters": sum(p.numel() for p in model.parameters()),
                "seconds": row["seconds"] / told["settings"]["batch"] / steps,
                "results": 1,
            }
        )
    return rows


if __name__ == "__main__":
    chosen = options(__doc__)
    write(chosen.out, "chapters", measured() + attribution(), threads=1)
