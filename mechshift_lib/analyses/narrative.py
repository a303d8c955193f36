"""What every page begins with."""

from __future__ import annotations

from collections.abc import Sequence

from mechshift_lib.analyses.study import Study
from mechshift_lib.plots.theme import label


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def about(study: Study) -> str:
    """What this page is about: pair, tasks, examples, seeds."""
    pair, budget = study.pair, study.budget
    tasks = listed([label(task) for task in pair.tasks])
    seeds = f"{len(pair.seeds)} training seeds" if len(pair.seeds) > 1 else "one training seed"
    left_out = [label(t) for t in ("ioi", "greater-than", "countdown", "infilling")]
    left_out = [name for name in left_out if name not in [label(t) for t in pair.tasks]]
    extra = f" The pair has no {listed(left_out)}." if left_out else ""
    return (
        f"**{pair.title}.** {pair.description.strip()} Tasks: {tasks}; "
        f"{budget.behaviour_examples} held-out examples each; {seeds}.{extra}"
    )
