"""Sentences about the faithfulness of circuits, written from tables, for any pair and outcome."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mechshift_lib.analyses.narrative import bullets, listed, percent, whole
from mechshift_lib.plots.theme import label

#: A circuit counts as doing the task from this faithfulness on.
FAITHFUL = 0.85


def examples(counts: Mapping[str, int], separate: bool) -> str:
    """On how many examples circuits are evaluated, and on which.

    Args:
        counts: task -> number of examples.
        separate: are they other examples than circuits were found on?
    """
    lines = listed([f"{label(task)} {n}" for task, n in counts.items()])
    which = (
        "none of which the circuits were found on"
        if separate
        else "the same ones that the circuits were found on, which **flatters the circuits**"
    )
    return f"Circuits are evaluated on solved examples, {which}: {lines}."


def smallest(table: pd.DataFrame) -> str:
    """How small a circuit does its model's task, from ``curves`` of :func:`faithfulness.tables`."""
    own = table[(table.by == "signed") & (table.circuit == table.model)]
    lines = []
    for task, rows in own.groupby("task", sort=False):
        parts = []
        for model, curve in rows.groupby("model", sort=False):
            curve = curve.sort_values("fraction")
            enough = curve[curve.faithfulness >= FAITHFUL]
            row = enough.iloc[0] if len(enough) else curve.iloc[-1]
            parts.append(
                f"{label(str(model))} {_size(row.fraction)} of the edges ({int(row['count']):,}; "
                f"faithfulness {row.faithfulness:.2f}, right token first "
                f"{percent(row.correct)})"
            )
        lines.append(f"**{label(str(task))}**: {'; '.join(parts)}.")
    return (
        f"The smallest circuit of the grid that keeps at least {whole(FAITHFUL)} of what "
        f"corruption takes away:\n\n{bullets(lines)}"
    )


def _size(fraction: float) -> str:
    return f"{100 * fraction:g} %"


def distances(table: pd.DataFrame) -> str:
    """CPR and CMD of each model's own circuit."""
    own = table[table.circuit == table.model]
    lines = []
    for task, rows in own.groupby("task", sort=False):
        by = rows.set_index(["model", "measure"])
        parts = [
            f"{label(str(model))} CPR {_span(by.loc[(model, 'cpr')])}, CMD "
            f"{_span(by.loc[(model, 'cmd')])}"
            for model in rows.model.unique()
        ]
        lines.append(f"**{label(str(task))}**: {'; '.join(parts)}.")
    return bullets(lines)


def cross(losses: pd.DataFrame, kept: pd.DataFrame, excess: pd.DataFrame) -> str:
    """Does the ARM's circuit still carry the MDM's behaviour, beside the control?

    Args:
        losses: ``losses`` of :func:`faithfulness.tables`.
        kept: ``kept`` of the same.
        excess: ``excess`` of the same.
    """
    lines: list[str] = []
    serves: list[str] = []
    moved: list[str] = []
    beyond = excess.set_index("task") if len(excess) else excess
    share = kept.set_index(["task", "model", "circuit"]).kept
    for task, rows in losses.groupby("task", sort=False):
        by = rows.set_index(["model", "circuit"])
        text = (
            f"**{label(str(task))}**: inside the MDM the ARM's circuit loses "
            f"{_span(by.loc[('mdm', 'arm')], 'loss')} of CPR against the MDM's own, and random "
            f"edges {by.loc[('mdm', 'random')].loss:.2f}; inside the ARM the MDM's circuit loses "
            f"{_span(by.loc[('arm', 'mdm')], 'loss')}"
        )
        more = bool(by.loc[("mdm", "arm")].low > 0)
        if ("continued", "arm") in by.index:
            row = beyond.loc[task]
            text += (
                f". Inside the control the ARM's circuit loses "
                f"{_span(by.loc[('continued', 'arm')], 'loss')}; the MDM's loss beyond that is "
                f"{_span(row, 'excess')}"
            )
            more = bool(row.low > 0)
        lines.append(text + ".")
        (moved if more else serves).append(str(task))
    against = "the control's" if len(excess) else "zero"
    verdict = []
    if moved:
        shares = [share[task, "mdm", "arm"] for task in moved]
        span = sorted({whole(min(shares)), whole(max(shares))})
        verdict.append(
            f"On {listed([label(t) for t in moved])} the loss lies above {against}, interval "
            "included: **some of the work has moved to edges outside of the ARM's circuit.** Of "
            "what the MDM's own circuit has above random edges, the ARM's keeps "
            f"{' to '.join(span)}."
        )
    if serves:
        verdict.append(
            f"On {listed([label(t) for t in serves])} no loss beyond {against} can be told: "
            "**the ARM's circuit serves the MDM too.**"
        )
    return f"{bullets(lines)}\n\n{' '.join(verdict)}"


def chance(table: pd.DataFrame) -> str:
    """How far random edges of the same number get."""
    rows = table[(table.measure == "cpr") & (table.circuit == "random")]
    own = table[(table.measure == "cpr") & (table.circuit == table.model)]
    gap = own.set_index(["task", "model"]).value - rows.set_index(["task", "model"]).value
    lowest = gap.idxmin()
    return (
        f"Random edges, as many of them, have a CPR between {rows.value.min():.2f} and "
        f"{rows.value.max():.2f}; a model's own circuit has {np.min(gap):.2f} to {np.max(gap):.2f} "
        f"more (least: {label(lowest[0])}, {label(lowest[1])})."
    )


def _span(row: pd.Series, name: str = "value") -> str:
    return f"{row[name]:z.2f} [{row.low:z.2f}, {row.high:z.2f}]"
