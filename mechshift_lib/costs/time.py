"""About how long a chapter takes: measured on the pairs that ship, and carried to other sizes.

``data/benchmarks/chapters.json`` holds seconds per model, task and example of chapters that were
executed on one core, and of attribution alone (``benchmarks/fit_chapters.py`` takes them from
provenances). Between sizes, time grows as a power of the number of parameters: at the least the one
that was fitted where a chapter was measured on two sizes (elsewhere the lowest of those), at the
most 1, in proportion. An MDM is asked once a token of the answer, which is one at the least and
:data:`READS` at the most. What another processor changes isn't held in these bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mechshift_lib.config import ROOT, Budget
from mechshift_lib.documents.files import read_json
from mechshift_lib.errors import ResultError

#: Tokens of the longest answer of the tasks, Countdown's.
READS = 5
#: Chapter -> the field of a budget that says how many examples it takes.
DRIVER = {
    "behaviour": "behaviour_examples",
    "circuits": "circuit_examples",
    "overlap": "circuit_examples",
    "patching": "patching_examples",
    "faithfulness": "faithfulness_examples",
    "ablation": "ablation_examples",
    "planning": "planning_examples",
    "lens": "lens_examples",
    "components": "circuit_examples",
    "neurons": "neuron_texts",
    "attention": "circuit_examples",
    "dictionaries": "dictionary_examples",
    "meeting": "dictionary_examples",
    "cues": "cue_examples",
    "robustness": "robustness_examples",
}


@dataclass(frozen=True)
class Cost:
    """A chapter as it was measured on one pair.

    Attributes:
        chapter: its name.
        parameters: of the pair's ARM.
        seconds: for one model, one task and one example, on one core.
    """

    chapter: str
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Span:
    """The least and the most that something may take.

    Attributes:
        least: seconds.
        most: seconds.
    """

    least: float
    most: float

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)


#: What a page takes beside what it computes: its kernel starts, results are read, figures drawn.
PAGE = Span(10, 40)


def read_costs(root: Path = ROOT) -> list[Cost]:
    """The chapters that were measured.

    Raises:
        ResultError: the table is missing or damaged.
    """
    path = root / "data" / "benchmarks" / "chapters.json"
    try:
        rows = read_json(path, "Measured costs", ResultError)["rows"]
        return [Cost(x["chapter"], int(x["parameters"]), float(x["seconds"])) for x in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(f"{path} is damaged: take it from the repository again.") from error


def powers(costs: Sequence[Cost]) -> dict[str, float]:
    """Chapter -> the power of the parameters with which its time grows, where it is known.

    By least squares on logarithms, over pairs that differ in size at least twofold.
    """
    found = {}
    for chapter in {cost.chapter for cost in costs}:
        own = [cost for cost in costs if cost.chapter == chapter]
        x = [math.log(cost.parameters) for cost in own]
        y = [math.log(cost.seconds) for cost in own]
        if max(x) - min(x) < math.log(2):
            continue
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        spread = sum((a - mean_x) ** 2 for a in x)
        found[chapter] = (
            sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
        )
    return found


def span(
    chapter: str, parameters: int, budget: Budget, roles: int, tasks: int, costs: Sequence[Cost]
) -> Span | None:
    """About how long a chapter takes on one core; ``None`` where it was never measured.

    Args:
        chapter: its name.
        parameters: of the ARM.
        budget: how much it does.
        roles: models of the pair.
        tasks: tasks of the pair.
        costs: what was measured.
    """
    own = [cost for cost in costs if cost.chapter == chapter]
    exact = chapter == "circuits" and budget.estimator == "exact"
    if not own or chapter not in DRIVER or exact:
        return None
    fitted = powers(costs)
    tried = [fitted.get(chapter, min(fitted.values())), 1.0]
    work, reads = roles * tasks * getattr(budget, DRIVER[chapter]), 1
    if chapter == "circuits":
        # Measured a single read; gradients at each step, and the two ends.
        work, reads = work * (budget.ig_steps + 2), READS
    each = [
        cost.seconds * work * (parameters / cost.parameters) ** power
        for cost in own
        for power in tried
    ]
    return Span(min(each), max(each) * reads)


def in_words(found: Span) -> str:
    """A span for reading: ``"3 to 20 minutes"``."""
    for unit, seconds in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)):
        if found.most >= 2 * seconds or unit == "seconds":
            least, most = found.least / seconds, found.most / seconds
            return f"{_rounded(least)} to {_rounded(most)} {unit}"
    raise AssertionError("seconds fit any span")


def _rounded(number: float) -> str:
    """Two figures are more than is known."""
    return f"{number:.0f}" if number >= 9.5 else f"{number:.1g}"
