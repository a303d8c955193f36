"""Every claim of the paper on every pair: contrasts of what the chapters measured, to be judged.

Nothing is decided here: :mod:`mechshift_lib.comparison.verdicts` does. This module knows which
numbers a claim is about, and what must be there before it can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from mechshift_lib.analyses import (
    ablation,
    components,
    neuron_tables,
    neurons,
    robustness,
    scores,
    shift,
    steps,
)
from mechshift_lib.analyses.study import Study
from mechshift_lib.comparison.claims import CLAIMS, Claim, margin
from mechshift_lib.comparison.over_seeds import FEWEST, contrast_over_seeds
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
#: Claim -> the chapter that measures it.
CHAPTERS: dict[Claim, str] = {
    "C1": "overlap",
    "C2": "overlap",
    "C3": "components",
    "C4": "neurons",
    "C5": "circuits",
    "C6": "ablation",
    "C7": "robustness",
}
#: What a pair without a control lacks.
NO_CONTROL = "the continued ARM (the pair has none)"
NO_MATCHED = "the MDM when it was as far from the ARM as the continued one (the pair has none)"


def of(study: Study, claim: Claim) -> list[Verdict]:
    """One claim on a pair: a verdict, or one for each task that the claim is about."""
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
    return [*made, *_too_few(n)]


def _too_few(n: int) -> list[Contrast]:
    """What is missing where trainings are too few for intervals."""
    lacking = f"intervals over trainings ({n} of at least {FEWEST})"
    return [absent(lacking)] if n < FEWEST else []


def _components(study: Study) -> list[Verdict]:
    """C3: over how many more components and tokens the MDM spreads what it says, in both ways."""
    if not components.asked(study):
        why = f"ARM and MDM solve fewer than {shift.FEWEST} examples of every task in common"
        return [inapplicable("C3", study.pair.name, why, "behaviour")]
    table = components.spread(components.tables(study)["spread"])
    found: dict[str, Contrast] = {}
    for reading, said in components.READINGS.items():
        values, base = components.more(table, reading), f"the ARM ({said})"
        made = _over_trainings(values, base, f"the same ({said})")
        # What both readings lack is missing once.
        found |= {one.against: one for one in made}
    measure = "share of components and of tokens by which the MDM spreads further than the ARM"
    return [_judge(study, "C3", list(found.values()), measure, "components")]


def _neurons(study: Study) -> list[Verdict]:
    """C4: how many more explanations the MDM's coordinates have, and how much less they vary."""
    if not neurons.asked(study):
        why = f"ARM and MDM solve fewer than {shift.FEWEST} examples of every task in common"
        return [inapplicable("C4", study.pair.name, why, "behaviour")]
    table = neuron_tables.measured(neurons.tables(study))
    found: dict[str, Contrast] = {}
    for reading, (said, _) in neuron_tables.READINGS.items():
        values = neuron_tables.more(table, reading)
        if values["mdm"].isna().all():
            why = "too few coordinates of a model's stream are explained to count explanations"
            return [inapplicable("C4", study.pair.name, why, "neurons")]
        made = _over_trainings(values, f"the ARM ({said})", f"the same ({said})")
        # What both measures lack is missing once.
        found |= {one.against: one for one in made}
    measure = "logarithm of how many more explanations the MDM has, and of how much less they vary"
    return [_judge(study, "C4", list(found.values()), measure, "logarithm")]


def _steps(study: Study) -> list[Verdict]:
    """C5: what the MDM's circuit at one answer position keeps, and that beyond the ARM's change."""
    table = steps.tables(study)["trainings"]
    if table.empty:
        why = "no answer has several scored tokens in enough examples"
        return [inapplicable("C5", study.pair.name, why, "circuits")]
    made = []
    for task, part in table.groupby("task", sort=False):
        values = part.pivot(index="seed", columns="model", values="kept")
        values = values.reindex(columns=steps.MODELS)
        found = [
            contrast_over_seeds(list(values.mdm - STABLE), f"{100 * STABLE:g} %"),
            contrast_over_seeds(
                list(values.mdm - values.arm),
                "what the ARM's circuit keeps from one answer position to the next",
            ),
            *_too_few(len(values)),
        ]
        measure = "attribution to components that stays at a position as more is revealed"
        made.append(_judge(study, "C5", found, measure, "components", str(task)))
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
        base = f"random others, {said}"
        what = f"what they cost ({said}) beyond others"
        # What both ablations lack is missing once.
        found |= {one.against: one for one in _over_trainings(values, base, what)}
    measure = "accuracy that the MDM loses with its early heads beyond what it loses with others"
    return [_judge(study, "C6", list(found.values()), measure, "accuracy", shift.GLOBAL)]


def _robustness(study: Study) -> list[Verdict]:
    """C7: how much earlier the MDM lies with each choice of how it is measured."""
    if not robustness.asked(study):
        why = f"ARM and MDM solve fewer than {robustness.FEWEST} Countdown problems in common"
        return [inapplicable("C7", study.pair.name, why, "robustness")]
    depth = robustness.table(study, "depth")
    if not robustness.room(depth, margin("C7")):
        why = "the ARM's own sources lie too near to the embedding for a shift that would matter"
        return [inapplicable("C7", study.pair.name, why, "robustness", robustness.TASK)]
    found = robustness.earlier(depth)
    values = robustness.levels(found).groupby(["factor", "said"], sort=False).value
    base = "the continued ARM" if "beyond" in found else "the ARM"
    made = [contrast_over_seeds(list(x), f"{base}, with {said}") for (_, said), x in values]
    if "beyond" not in found:
        made.append(absent(NO_CONTROL))
    made += _too_few(found.seed.nunique())
    measure = "how much earlier than the ARM's the MDM's sources lie, the control's shift taken off"
    return [_judge(study, "C7", made, measure, "depth", robustness.TASK)]


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
    "C3": (_components, ()),
    "C4": (_neurons, ()),
    "C5": (_steps, ()),
    "C6": (_ablation, ("countdown",)),
    "C7": (_robustness, ("countdown",)),
}
