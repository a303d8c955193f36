"""Every claim of the paper on every pair: what the other chapters measured, by one rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from mechshift_lib.analyses import ablation, circuits, overlap
from mechshift_lib.analyses.study import Study
from mechshift_lib.comparison.verdicts import (
    CLAIMS,
    Claim,
    Contrast,
    Verdict,
    difference,
    judge,
    untold,
    verdict_table,
)
from mechshift_lib.errors import ConfigError
from mechshift_lib.tasks import TASKS

#: What each claim says, in the words of this book.
SAID: dict[Claim, str] = {
    "C1": "ARM and MDM share more edges on IOI than on Countdown",
    "C2": "on global tasks the MDM's circuit lies earlier",
    "C3": "ARM components are specialised, MDM components diffuse",
    "C4": "fewer unique explanations in the ARM, of higher variance",
    "C5": "more than 90 % of the MDM's components stay from step to step",
    "C6": "ablating early structures hurts the MDM on Countdown more than controls do",
    "C7": "C2 holds under other prompts, budgets and steps",
}
#: Share of components that must stay (C5).
STABLE = 0.9


def judged(study: Study) -> list[Verdict]:
    """All claims on a pair, in order; a claim that the pair can't be asked says why."""
    name = study.pair.name
    if "overlap" not in study.pair.analyses:
        return [untold(claim, name, "the pair has no chapter of overlap", "") for claim in CLAIMS]
    try:
        circuits.studied_tasks(study)
    except ConfigError as error:  # no task that both models solve
        return [untold(claim, name, str(error), "behaviour") for claim in CLAIMS]
    return [
        *_overlap(study),
        *_depth(study),
        untold("C3", name, "component roles are not measured in this book yet", ""),
        untold("C4", name, "explanations are not measured in this book yet", ""),
        *_steps(study),
        *_ablation(study),
        untold("C7", name, "C2 is not yet asked again under other conditions", ""),
    ]


def table(studies: Sequence[Study]) -> pd.DataFrame:
    """:func:`judged` of several pairs as one table (see :class:`Verdict` for its columns)."""
    return verdict_table([verdict for study in studies for verdict in judged(study)])


def _overlap(study: Study) -> list[Verdict]:
    """C1: the overlap of IOI minus that of Countdown, and that beyond the control's."""
    name = study.pair.name
    tasks = circuits.studied_tasks(study)
    if not {"ioi", "countdown"} <= set(tasks):
        return [untold("C1", name, "the pair doesn't solve both IOI and Countdown", "overlap")]
    rows = overlap.at_reference(overlap.comparison_tables(study)["edges"])

    def contrast(comparison: str, against: str) -> Contrast:
        by = rows[rows.comparison == comparison].set_index("task")
        ends = [_contrast(by.loc[task], "jaccard", "") for task in ("ioi", "countdown")]
        return difference(ends[0], ends[1], against)

    found = [contrast("arm-mdm", "Countdown's overlap of ARM and MDM")]
    if "arm-continued" in set(rows.comparison):
        control = contrast("arm-continued", "")
        beyond = "the same difference between ARM and continued ARM"
        found.append(difference(found[0], control, beyond))
    measure = "Jaccard index of the top 5 % of edges, IOI minus Countdown"
    return [judge("C1", name, found, measure=measure, page="overlap")]


def _depth(study: Study) -> list[Verdict]:
    """C2: how much earlier the MDM's sources lie, than the ARM's and than the control's."""
    name = study.pair.name
    rows = overlap.comparison_tables(study)["shift"]
    rows = rows[(rows.circuit == "mdm") & (rows.end == "source") & (rows.edges == overlap.TOP)]
    made = []
    for task in circuits.studied_tasks(study):
        if TASKS[task].regime != "global":
            continue
        here = rows[rows.task == task]
        found = [
            Contrast(
                "the ARM" if row.base == "arm" else "the continued ARM",
                -float(row["shift"]),
                -float(row.high),
                -float(row.low),
                int(row.n),
            )
            for _, row in here.iterrows()
        ]
        measure = "depth of sources by which the MDM is earlier, layers / number of layers"
        made.append(judge("C2", name, found, measure=measure, page="overlap", task=task))
    return made or [untold("C2", name, "the pair solves no global task", "overlap")]


def _steps(study: Study) -> list[Verdict]:
    """C5: there are no intervals of a step's circuit, so it is told and not decided."""
    name = study.pair.name
    rows = circuits.step_table(study)
    rows = rows[rows.circuit == "mdm"]
    if not len(rows):
        return [untold("C5", name, "no answer of this pair has several scored steps", "circuits")]
    made = []
    for task, part in rows.groupby("task", sort=False):
        share, nan = float(part.components.mean()), float("nan")
        found = Contrast("90 % (no interval)", share - STABLE, nan, nan, int(part.n.min()))
        measure = "share of the top components in consecutive steps' circuits, above 90 %"
        made.append(judge("C5", name, [found], measure=measure, page="circuits", task=str(task)))
    return made


def _ablation(study: Study) -> list[Verdict]:
    """C6: accuracy that the MDM's early heads cost beyond each control."""
    name = study.pair.name
    if "ablation" not in study.pair.analyses:
        return [untold("C6", name, "the pair has no chapter of ablations", "")]
    if "countdown" not in circuits.studied_tasks(study):
        return [untold("C6", name, "the pair doesn't solve Countdown", "ablation")]
    rows = ablation.tables(study)["contrasts"]
    zero = rows[(rows.model == "mdm") & (rows.ablation == "zero") & (rows.task == "countdown")]
    found = [_contrast(row, "more", f"{row.against} heads") for _, row in zero.iterrows()]
    measure = "accuracy lost without the MDM's early heads beyond that of the control"
    verdict = judge("C6", name, found, measure=measure, page="ablation", task="countdown")
    rank = float(zero.set_index("against").p["random"])
    if verdict.verdict == "reproduced" and rank > ablation.RARE:
        why = f"random heads ({100 * rank:.0f} % of the random sets cost as much)"
        verdict = dataclasses.replace(verdict, verdict="undecided", yardstick=why)
    return [verdict]


def _contrast(row: pd.Series, name: str, against: str) -> Contrast:
    return Contrast(against, float(row[name]), float(row.low), float(row.high), int(row.n))
