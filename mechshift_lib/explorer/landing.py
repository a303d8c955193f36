"""What the landing page shows: one pair's circuits as they were measured, and what to hold by."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, top_edges
from mechshift_lib.config import ROOT
from mechshift_lib.explorer.sources import WHOLE, Circuits, final, reading
from mechshift_lib.plots.landing import circuit_svg
from mechshift_lib.plots.theme import label
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.workflow import default_pairs

#: Where it goes, relative to the checkout; the landing page includes it.
PAGE = Path("book") / "generated" / "landing.md"
#: The task that asks for a plan.
TASK = "countdown"
#: What stands there where no pair has circuits on that task.
NOTHING = "*No circuits of the planning task are stored yet: `mechshift book` computes them.*\n"


def write_landing(root: Path = ROOT, results: str = "results", out: Path | None = None) -> Path:
    """Write the panels of the first pair that has circuits on the planning task.

    Args:
        root: the checkout.
        results: folder of stored results, relative to it.
        out: the checkout whose landing page it is, by default the same.
    """
    found = _first(root, results)
    path = (out or root) / PAGE
    text = NOTHING if found is None else _page(*found)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)
    return path


def _first(root: Path, results: str) -> tuple[str, str, Circuits] | None:
    for name in default_pairs(root):
        study = reading(name, results, root)
        if TASK not in study.pair.tasks:
            continue
        for found in final(study, TASK, study.pair.seeds[0]):
            if found.read == WHOLE:
                return name, study.pair.title, found
    return None


def shared_by_halves(one: NDArray[np.floating], found: Circuits, count: int) -> float:
    """Mean number of edges that circuits of two halves of the examples share.

    Args:
        one: a circuit's scores by example, ``[n_example, n_edges]``.
        found: the circuits whose halves are taken.
        count: edges of a circuit.
    """
    return float(
        np.mean(
            [
                np.logical_and(*(top_edges(one[rows].mean(axis=0), count) for rows in split)).sum()
                for split in found.splits
            ]
        )
    )


def _page(name: str, title: str, found: Circuits) -> str:
    by_example = dict(zip(found.names, found.scores, strict=True))
    n_edges = found.graph.n_edges
    count = max(1, round(REFERENCE_FRACTION * n_edges))
    scores = {role: one.mean(axis=0) for role, one in by_example.items()}
    inside = {role: top_edges(one, count) for role, one in scores.items()}
    shared = inside["arm"] & inside["mdm"]
    halves = shared_by_halves(by_example["arm"], found, count)
    yardsticks = [f"two halves of the ARM's examples have {halves:.0f}"]
    if "continued" in inside:
        same = int((inside["arm"] & inside["continued"]).sum())
        yardsticks.insert(0, f"the ARM and the same ARM trained on without diffusion have {same}")
    chosen = {
        "pair": name,
        "task": TASK,
        "training": found.seed,
        "estimator": found.estimator,
        "k": count,
    }
    panels = "".join(
        circuit_svg(role, found.graph, scores[role], inside[role], shared)
        for role in ("arm", "mdm")
    )
    return (
        f'```{{raw}} html\n<div class="panels">\n{panels}</div>\n```\n\n'
        f"*Measured: the {count} strongest of {n_edges:,} edges of {title} on {label(TASK)} "
        f"(first training, {found.n} examples), layers upwards, heads round, MLPs square. "
        f"The {int(shared.sum())} edges of both models are pale. To hold beside that: "
        f"{', and '.join(yardsticks)} in common.*\n\n"
        f'```{{raw}} html\n<p><a href="explore.html#{escape(urlencode(chosen))}">Look at these '
        "circuits in the explorer</a>: every pair, task and training, at any size.</p>\n```\n"
    )
