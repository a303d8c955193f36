"""Every claim of the paper on every pair: contrasts of what the chapters measured, to be judged.

Nothing is decided here: :mod:`mechshift_lib.comparison.verdicts` does. This module knows which
numbers a claim is about, and what must be there before it can be asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from mechshift_lib.analyses import ablation, circuits, scores, shift
from mechshift_lib.analyses.study import Study
from mechshift_lib.comparison.claims import CLAIMS, Claim, margin
from mechshift_lib.comparison.over_seeds import FEWEST
from mechshift_lib.comparison.verdicts import (
    Contrast,
    Unit,
    Verdict,
    absent,
    inapplicable,
    judge,
    unmeasured,
)
from mechshift_lib.errors import ConfigError
from mechshift_lib.plots.theme import label
from mechshift_lib.tasks import TASKS

#: Share of components that must stay (C5).
STABLE = 0.9
#: Claims that no chapter measures, and what is missing.
NOT_YET: dict[Claim, str] = {
    "C3": "what each component writes isn't classified in this book",
    "C4": "no neuron is explained in this book",
    "C7": "depth isn't measured again under other prompts, circuit sizes and steps",
}
#: Claim -> the chapter that measures it.
CHAPTERS: dict[Claim, str] = {
    "C1": "overlap",
    "C2": "overlap",
    "C5": "circuits",
    "C6": "ablation",
}
#: What a pair without a control lacks.
NO_CONTROL = "the continued ARM (the pair has none)"
NO_MATCHED = "the MDM when it was as far from the ARM as the continued one (the pair has none)"


def of(study: Study, claim: Claim) -> list[Verdict]:
    """One claim on a pair: a verdict, or one for each task that the claim is about."""
    if claim in NOT_YET:
        return [unmeasured(claim, study.pair.name, NOT_YET[claim])]
    measure, wanted = _ASKED[claim]
    lacking = [label(task) for task in wanted if task not in study.pair.tasks]
    if lacking:
        return [inapplicable(claim, study.pair.name, f"the pair has no {' and no '.join(lacking)}")]
    page = CHAPTERS[claim]
    if page not in study.pair.analyses:
        return [unmeasured(claim, study.pair.name, f"the pair has no chapter {page}")]
    try:
        solved = scores.studied_tasks(study)
    except ConfigError:
        solved = []
    unsolved = [label(task) for task in wanted or study.pair.tasks if task not in solved]
    if unsolved and (wanted or not solved):
        why = f"ARM and MDM don't both solve {' or '.join(unsolved)}"
        return [inapplicable(claim, study.pair.name, why, "behaviour")]
    return measure(study)


def judged(study: Study) -> list[Verdict]:
    """All claims on a pair, in order."""
    return [verdict for claim in CLAIMS for verdict in of(study, claim)]


def of_all(studies: Sequence[Study]) -> list[Verdict]:
    """:func:`judged` of several pairs, claim by claim."""
    found = [verdict for study in studies for verdict in judged(study)]
    return sorted(found, key=lambda verdict: CLAIMS.index(verdict.claim))


def _overlap(study: Study) -> list[Verdict]:
    """C1: likeness on IOI minus that on Countdown, beyond the control's, and no further away."""
    tasks = (shift.LOCAL, shift.GLOBAL)
    if not shift.trainings(study, tasks):
        why = f"ARM and MDM solve fewer than {shift.FEWEST} examples of a task in common"
        return [inapplicable("C1", study.pair.name, why, "behaviour")]
    values = shift.differences(shift.likeness(study))
    found = _over_trainings(values, "Countdown", "the same difference")
    measure = "cosine of ARM and MDM without noise, IOI minus Countdown"
    return [_judge(study, "C1", found, measure, "cosine")]


def _depth(study: Study) -> list[Verdict]:
    """C2: how much earlier the MDM's sources lie, than the ARM's and than the control's."""
    made = []
    for task in study.pair.tasks:
        if TASKS[task].regime != "global" or not shift.trainings(study, [task]):
            continue
        table = shift.depths(study)
        if not shift.room(table, task, margin("C2")):
            why = (
                "the ARM's own sources lie too near to the embedding for a shift that would matter"
            )
            made.append(inapplicable("C2", study.pair.name, why, "overlap", task))
            continue
        found = _over_trainings(shift.earlier(table, task), "the ARM", "how much earlier")
        measure = "mean depth of sources but the embedding by which the MDM lies earlier"
        made.append(_judge(study, "C2", found, measure, "depth", task))
    why = "ARM and MDM don't both solve a global task"
    return made or [inapplicable("C2", study.pair.name, why, "behaviour")]


def _over_trainings(values: pd.DataFrame, base: str, what: str) -> list[Contrast]:
    """The three contrasts of a claim over trainings, and what is missing.

    Args:
        values: one number a training and circuit.
        base: what the MDM's number is held against, in words.
        what: what the control's number is, in words.
    """
    found = shift.over_trainings(values)
    # What is as far as the control can't be without one.
    matched = NO_MATCHED if "mdm-continued" in found else NO_CONTROL
    against = {
        "mdm": (base, ""),
        "mdm-continued": (f"{what} of the continued ARM", NO_CONTROL),
        "matched-continued": (f"{what} of the continued ARM, the MDM no further away", matched),
    }
    made = [
        replace(found[name], against=said) if name in found else absent(lacking)
        for name, (said, lacking) in against.items()
    ]
    n = min((contrast.n for contrast in found.values()), default=0)
    if n < FEWEST:
        made.append(absent(f"intervals over trainings ({n} of at least {FEWEST})"))
    return made


def _steps(study: Study) -> list[Verdict]:
    """C5: a step's circuit has no interval, so the share of components is told, not decided."""
    rows = circuits.step_table(study)
    rows = rows[rows.circuit == "mdm"]
    if not len(rows):
        why = "every answer has one denoising step only"
        return [inapplicable("C5", study.pair.name, why, "circuits")]
    made = []
    for task, part in rows.groupby("task", sort=False):
        share = float(part.components.mean()) - STABLE
        found = Contrast(
            f"{STABLE:.0%} (a step's circuit has no interval)".replace("%", " %"),
            share,
            math.nan,
            math.nan,
            int(part.n.min()),
        )
        measure = "share of the top components that consecutive steps have in common, minus 90 %"
        made.append(_judge(study, "C5", [found], measure, "components", str(task)))
    return made


def _ablation(study: Study) -> list[Verdict]:
    """C6: what early heads cost the MDM beyond other early heads, zeroed and set to their mean."""
    more = ablation.tables(study)["more"]
    if more.empty:
        why = f"ARM and MDM solve fewer than {shift.FEWEST} examples of Countdown in common"
        return [inapplicable("C6", study.pair.name, why, "behaviour")]
    found: dict[str, Contrast] = {}
    for kind, said in (("zero", "zeroed"), ("mean", "set to their mean")):
        values = ablation.in_trainings(more, shift.GLOBAL, kind, "random")
        base, what = (f"{x}, {said}" for x in ("random others", "what they cost beyond others"))
        # What both ablations lack is missing once.
        found |= {one.against: one for one in _over_trainings(values, base, what)}
    measure = "accuracy that the MDM loses with its early heads beyond what it loses with others"
    return [_judge(study, "C6", list(found.values()), measure, "accuracy", shift.GLOBAL)]


def _judge(
    study: Study,
    claim: Claim,
    contrasts: Sequence[Contrast],
    measure: str,
    unit: Unit,
    task: str | None = None,
) -> Verdict:
    page = CHAPTERS[claim]
    return judge(
        claim, study.pair.name, contrasts, measure=measure, unit=unit, page=page, task=task
    )


#: Claim -> what measures it, and the tasks that both models must solve before it can be asked.
_ASKED: dict[Claim, tuple[Callable[[Study], list[Verdict]], tuple[str, ...]]] = {
    "C1": (_overlap, ("ioi", "countdown")),
    "C2": (_depth, ()),
    "C5": (_steps, ()),
    "C6": (_ablation, ("countdown",)),
}
