"""Words of the chapter on place and meaning."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

NONE = fmt.Finding(
    "ARM and MDM of this pair solve too few examples of any task in common for their components "
    "to be compared."
)
DEPTH = (
    "Half of the circuit lies before {circuit/arm} of the depth in the ARM, before {circuit/mdm} "
    "in the MDM and before {circuit/continued} in the control (n = {n} examples). Where the other "
    "instruments pass their half is in the table, in % of the depth, with the range over trainings."
)
FEATURES = (
    "Of the features that a crosscoder finds in the stream of the middle layer, {mdm} are shared "
    "by ARM and MDM, {matched} by ARM and the MDM as far as the control, {continued} by ARM and "
    "control (whole texts, {trainings})."
)
PLACE = (
    "Of the places that the ARM's heads and MLPs have in the circuit, the MDM keeps {mdm}, the "
    "control {continued} (first answer token; means over {trainings}; {n})."
)
MEANING = (
    "What a component writes at the same question has a cosine with what it wrote in the ARM of "
    "{mdm} in the MDM and {continued} in the control; with what the MDM's other components "
    "write, of {others} (first answer token, weighed by place; means over {trainings}; {n})."
)
NAMES = {"circuit": "circuit", "writing": "writing", "lens": "lens", "probe": "probe"}
PERCENT = fmt.value("depth", ".0f", 100)


def depth(table: pd.DataFrame) -> fmt.Finding:
    """At which depth the instruments pass their half.

    Args:
        table: of :func:`mechshift_lib.analyses.meeting.halves`.
    """

    def text(row: pd.Series) -> str:
        mean, *ends = (fmt.number(row[x], ".0f", 100) for x in ("depth", "least", "most"))
        return mean if row.seeds == 1 else f"{mean} ({ends[0]} to {ends[1]})"

    shown = fmt.grid(table, ["task", "model"], "instrument", text, NAMES)
    by, n = ["instrument", "model"], count_text(table.n[table.instrument == "circuit"])
    return fmt.told(DEPTH, table, by, PERCENT, shown, unit=" %", n=n)


def features(table: pd.DataFrame) -> fmt.Finding:
    """How many features of the middle layer's stream two models share.

    Args:
        table: of :func:`mechshift_lib.analyses.feature_tables.whose`.
    """
    first = table[table.start == 0]
    parts = {
        model: f"{fmt.number(first[first.name == f'arm-{model}'].shared.mean(), '.0f', 100)} %"
        for model in ("mdm", "matched", "continued")
    }
    return fmt.Finding(FEATURES.format(**parts, trainings=fmt.trainings(first.seed.nunique())))


def place(table: pd.DataFrame, first: str) -> fmt.Finding:
    """How much of the places is kept.

    Args:
        table: of :func:`mechshift_lib.analyses.meeting.kept`.
        first: the part of the answer that is spoken of.
    """
    return fmt.Finding(_said(PLACE, table, first, "place", ".0f", 100, " %"))


def meaning(table: pd.DataFrame, over: pd.DataFrame, first: str) -> fmt.Finding:
    """How much of the meanings is kept; differences over trainings below."""
    columns = {
        "difference [95 % over trainings]": fmt.span("difference", "+.2f"),
        "trainings": fmt.value("n", "d"),
    }
    rows = over.assign(
        what=over.reading,
        compared=[f"{label(r.model)} − {label(r.base)}" for r in over.itertuples()],
    )
    shown = fmt.lines(rows, ["task", "part", "what", "compared"], columns)
    return fmt.Finding(_said(MEANING, table, first, "meaning", ".2f"), shown)


def _said(
    template: str,
    table: pd.DataFrame,
    part: str,
    column: str,
    form: str,
    scale: float = 1,
    unit: str = "",
) -> str:
    here = table[table.part == part]
    others = here[here.model == "mdm"].assign(model="others", **{column: here.others})
    means = (
        pd.concat([here, others])
        .groupby(["task", "model"], sort=False, as_index=False)
        .agg(value=(column, "mean"), n=("n", "min"))
    )
    text = fmt.value("value", form, scale)
    trainings = fmt.trainings(table.seed.nunique())
    return fmt.told(template, means, ["model"], text, unit=unit, trainings=trainings).said
