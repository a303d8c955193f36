"""Key numbers of the tiny pairs over a few examples, and the file that holds them.

``python -m tests.support.golden`` measures them and writes the file. That is for a change that is
meant to change a number: say in its commit which, and why.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from mechshift_lib.analyses import Study, behaviour, lens, overlap, scores
from mechshift_lib.analyses.lens_tables import emergence
from mechshift_lib.config import ROOT, Budget

#: Of their first training.
PAIRS = ("tiny-qwen", "tiny-llama")
PATH = ROOT / "tests" / "golden" / "numbers.json"
BUDGET = Budget(
    behaviour_examples=12, circuit_examples=6, lens_examples=8, ig_steps=2, bootstrap=10
)
#: The task whose circuits are scored, and how many of a circuit's strongest edges are noted.
TASK, STRONGEST = "ioi", 3


def open_small(pair: str, results: Path) -> Study:
    """The pair's first training at :data:`BUDGET`; nothing that the repository ships is used."""
    study = Study.open(pair, results=str(results))
    changes = {"budgets": {"book": BUDGET}, "seeds": study.pair.seeds[:1]}
    small = study.pair.model_copy(update=changes)
    return replace(study, pair=small, device="cpu", shipped=False)


def measured(study: Study) -> Iterator[tuple[str, float]]:
    """Name and value of every key number of a pair, behaviour first."""
    for row in behaviour.accuracy_table(study).itertuples():
        yield f"right of {row.n}, {row.task}, {row.role}", float(row.right)
    yield from _circuits(study)
    for role in ("arm", "mdm"):
        yield from _lens(study, role)


def _circuits(study: Study) -> Iterator[tuple[str, float]]:
    for role in ("arm", "mdm"):
        found = scores.scores(study, TASK, role)
        for edge in np.argsort(-np.abs(found.mean))[:STRONGEST]:
            yield f"edge, {role}, {found.edges.names[edge]}", float(found.mean[edge])
    tables = overlap.compare(study, TASK)
    for row in overlap.at_reference(tables["edges"]).itertuples():
        yield f"overlap, {row.comparison}", float(row.jaccard)
    for row in tables["depth"].itertuples():
        yield f"depth, {row.circuit}, {row.end}, {row.edges}", float(row.depth)


def _lens(study: Study, role: str) -> Iterator[tuple[str, float]]:
    """Depths at which the logit lens has the answer, means over examples."""
    table = lens.readings(study, TASK, role, study.seed)
    table = table[(table.read == "logit") & (table.token == table.step)]
    table = table.sort_values(["example", "token", "layer"])
    shape = (-1, int(table.n_layers.iloc[0]) + 1)
    found = emergence(
        table["rank"].to_numpy().reshape(shape), table.probability.to_numpy().reshape(shape)
    )
    for name, values in found.items():
        yield f"logit lens, {role}, {name}", float(np.nanmean(values))


#: How far a number may be from the file's, by how its name begins. Other processors, libraries and
#: numbers of threads add in another order, which moves these scores by up to 2e-7 of the largest
#: (measured: one thread against two), and all else only where two values are that near to each
#: other. Each tolerance is so much of the number's smallest step, and far below a change of method.
TOLERANCES = {
    "right of": 1,  # one answer, whose two best tokens were as good as equal
    "edge": 1e-4,  # 500 times what was measured
    "overlap": 0.05,  # an edge or two at the border of the top 5 %, of 55
    "depth": 0.003,  # such an edge has the least weight of all that count
    "logit lens": 0.05,  # a layer more or less for two of eight tokens: 2/6/8
}


def deviations(found: dict[str, float], wanted: dict[str, float]) -> list[str]:
    """What is in only one of them, or further apart than :data:`TOLERANCES` allow."""
    wrong = [f"{name} is in one of them only" for name in sorted(set(found) ^ set(wanted))]
    for name in sorted(set(found) & set(wanted)):
        (allowed,) = (value for kind, value in TOLERANCES.items() if name.startswith(kind))
        if not abs(found[name] - wanted[name]) <= allowed:  # NaN is no number either
            wrong.append(f"{name}: {found[name]} instead of {wanted[name]}")
    return wrong


def numbers(results: Path) -> dict[str, dict[str, float]]:
    """All key numbers, ``{pair: {name: value}}``.

    Args:
        results: an empty folder for the tables that are computed.
    """
    return {pair: dict(measured(open_small(pair, results))) for pair in PAIRS}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(numbers(Path(folder)), indent=1)
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text + "\n", encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}")
