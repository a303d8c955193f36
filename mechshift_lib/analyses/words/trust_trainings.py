"""Words of what EAP-IG would say of ARM and MDM, where exact patching says it, over trainings."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.trust import EXACT
from mechshift_lib.analyses.trust_trainings import BEYOND, CONTRAST, ESTIMATED, same_side
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label

NONE = (
    "This pair's circuits are found by EAP-IG in every training, or its models solve too little: "
    "there are no exact ones to set it beside."
)
FOUND = (
    "In the mean over {trainings}, {used} shifts the cosine of ARM and MDM by {mdm} (above 0: too "
    "alike{intervals})"
)
AGAINST = ", and what is left of it beyond the control's by {beyond}"
DECIDES = (
    " IOI's minus Countdown's, beyond the control's, is {exact} by exact patching and {estimate} "
    "by {used}; both have the same sign in {same} of {of} trainings."
)
#: What a reading is called, by its name.
READINGS = {
    "spearman": "Spearman correlation with exact scores",
    "cosine": "cosine with the ARM's circuit",
    "jaccard": "Jaccard index with the ARM's circuit",
    "earlier": "how much earlier than the ARM's",
    "agreement": "Jaccard index with the exact circuit",
}
CIRCUITS = {BEYOND: "MDM minus control"}
TASKS = {CONTRAST: "IOI minus Countdown"}


def finding(readings: pd.DataFrame, over: pd.DataFrame, used: str) -> fmt.Finding:
    """How far EAP-IG errs on how alike ARM and MDM are, and on the contrast that is judged.

    Args:
        readings: of :func:`trust_trainings.readings`.
        over: of :func:`trust_trainings.over_trainings`.
        used: what people read for the estimate.
    """
    cosines = over[over.reading == "cosine"]
    by_task = cosines[cosines.task != CONTRAST]
    said = {
        str(circuit): fmt.between([(_error(row), label(row.task)) for _, row in part.iterrows()])
        for circuit, part in by_task.groupby("circuit", sort=False)
    }
    template = FOUND + (AGAINST if BEYOND in said else "") + "."
    text = template.format(
        trainings=fmt.trainings(readings.seed.nunique()),
        used=used,
        intervals="" if by_task.low.isna().all() else "; 95 % intervals over trainings",
        **said,
    )
    judged = cosines[(cosines.task == CONTRAST) & (cosines.circuit == BEYOND)]
    for _, row in judged.iterrows():
        same, of = same_side(readings, "cosine", CONTRAST, BEYOND)
        text += DECIDES.format(
            exact=fmt.number(row[EXACT], "+.3f"),
            estimate=fmt.number(row[ESTIMATED], "+.3f"),
            used=used,
            same=same,
            of=of,
        )
    return fmt.Finding(text)


def _error(row: pd.Series) -> str:
    return fmt.span("error", "+.3f")(row)


def every(
    agreement: pd.DataFrame, agreements: pd.DataFrame, readings: pd.DataFrame, over: pd.DataFrame
) -> pd.DataFrame:
    """Everything in one table, a row a reading, with a column for each training.

    Args:
        agreement: of :func:`trust_trainings.tables`.
        agreements: of :func:`trust_trainings.agreements`.
        readings: of :func:`trust_trainings.readings`.
        over: of :func:`trust_trainings.over_trainings`.

    Returns:
        ``what, task, model``, means by both methods (of agreements there are none), ``mean`` (of
        the agreement, or of EAP-IG minus exact) with ``low, high``, ``trainings``, and it in each.
    """
    long = agreement.melt(["task", "seed", "circuit"], ["spearman", "jaccard"], "reading", "value")
    same = _wide(agreements.rename(columns={"value": "mean"}), long, "value")
    same["reading"] = same.reading.replace("jaccard", "agreement")
    off = _wide(over.rename(columns={"error": "mean"}), readings, "error")
    table = pd.concat([same, off], ignore_index=True)
    seeds = [name for name in table if str(name).startswith("training ")]
    table = table.assign(
        what=[READINGS[name] for name in table.reading],
        task=[TASKS.get(name, label(name)) for name in table.task],
        model=[CIRCUITS.get(name, label(name)) for name in table.circuit],
    ).rename(columns={EXACT: "exact", ESTIMATED: "by EAP-IG", "n": "trainings"})
    means = ["exact", "by EAP-IG", "mean", "low", "high", "trainings"]
    return table[["what", "task", "model", *means, *seeds]]


def _wide(over: pd.DataFrame, each: pd.DataFrame, value: str) -> pd.DataFrame:
    """Rows over trainings with the value of every training beside them."""
    index = ["reading", "task", "circuit"]
    wide = each.pivot_table(value, index, "seed")
    wide.columns = [f"training {seed}" for seed in wide.columns]
    return over.merge(wide.reset_index(), on=index, how="left")
