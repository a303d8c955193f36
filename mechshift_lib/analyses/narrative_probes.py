"""Sentences about probes, written from tables, for any pair and any outcome."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.narrative import bullets, listed, percent, whole
from mechshift_lib.plots.theme import label

#: A layer holds the answer from this share of the best layer's accuracy on.
ARRIVED = 0.9


def examples(table: pd.DataFrame) -> str:
    """How many examples the probes saw and how many they are measured on.

    Args:
        table: ``layer_table`` of :mod:`mechshift_lib.analyses.probe_tables`.
    """
    if table.empty:
        return "No label of this pair has two classes, so there is nothing to probe for."
    return (
        f"Every accuracy is over {int(table.n.max())} held-out examples a task, which no probe was "
        "fitted or chosen on, whether the models solve them or not; intervals are 95 % bootstrap "
        "intervals over these examples."
    )


def layers(table: pd.DataFrame) -> str:
    """Where the token that is read next becomes readable, beside control task and input."""
    lines = []
    for task, rows in table.groupby("task", sort=False):
        parts = []
        for model, one in rows.groupby("model", sort=False):
            by = one.set_index("layer")
            best = by.loc[by.accuracy.idxmax()]
            first = by.index[by.accuracy >= ARRIVED * best.accuracy].min()
            parts.append(
                f"{label(str(model))} {percent(best.accuracy)} [{percent(best.low)}, "
                f"{percent(best.high)}] at layer {best.name}, {whole(ARRIVED)} of that from "
                f"layer {first} on (selectivity {best.accuracy - best.control:z.2f}, shuffled "
                f"labels {percent(best.shuffled)})"
            )
        lines.append(
            f"**{label(str(task))}**: {'; '.join(parts)}. From the input alone: "
            f"{percent(rows.input.iloc[0])}."
        )
    return bullets(lines)


def plan(table: pd.DataFrame) -> str:
    """Are later answer tokens readable before they are written?

    Args:
        table: ``plan_table`` of :mod:`mechshift_lib.analyses.probe_tables`.
    """
    if table.empty:
        return "Every answer of this pair's tasks is one token, so there is nothing to plan."
    lines = []
    for task, rows in table.groupby("task", sort=False):
        by = rows.set_index("what")
        own = "mdm/own" in by.index
        text = (
            f"**{label(str(task))}**: later tokens are read where the next one is read with "
            f"{_span(by, 'arm/now')} in the ARM and {_span(by, 'mdm/now')} in the MDM"
            + (f", and at their own MASKs with {_span(by, 'mdm/own')}" if own else "")
            + f"; from the input alone with {_span(by, 'input')}. "
        )
        text += _compared(by)
        if own:
            text += " " + _beyond(by.loc["mdm/own - input"], "At its MASKs the MDM holds")
        lines.append(text)
    return bullets(lines)


def _compared(by: pd.DataFrame) -> str:
    row = by.loc["mdm/now - arm/now"]
    more, less = row.low > 0, row.high < 0
    control = None
    if "mdm/now - continued/now" in by.index:
        control = by.loc["mdm/now - continued/now"]
        more, less = more and control.low > 0, less and control.high < 0
    beside = "" if control is None else f", MDM minus continued {_difference(control)}"
    numbers = f"MDM minus ARM {_difference(row)}{beside}"
    if more:
        return f"**At the same position the MDM holds more of what comes later** ({numbers})."
    if less:
        return f"**At the same position the MDM holds less of what comes later** ({numbers})."
    return f"At the same position the models can't be told apart ({numbers})."


def _beyond(row: pd.Series, what: str) -> str:
    if row.low > 0:
        return f"{what} more than a linear look at the input gives ({_difference(row)})."
    if row.high < 0:
        return f"{what} less than a linear look at the input gives ({_difference(row)})."
    return f"{what} no more than a linear look at the input gives ({_difference(row)})."


def steps(table: pd.DataFrame) -> str:
    """Is the number of MASKs readable at the end of the prompt, and Countdown's target?

    Args:
        table: ``step_table`` of :mod:`mechshift_lib.analyses.probe_tables`.
    """
    lines = []
    for (task, name), rows in table.groupby(["task", "label"], sort=False):
        parts = []
        for model, one in rows.groupby("model", sort=False):
            best = one.loc[one.accuracy.idxmax()]
            verdict = "above" if best.low > best.shuffled else "not above"
            parts.append(
                f"{label(str(model))} {percent(best.accuracy)} [{percent(best.low)}, "
                f"{percent(best.high)}] at layer {best.layer} ({verdict} shuffled labels, "
                f"{percent(best.shuffled)})"
            )
        what = "the step" if name == "step" else "the quarter of the target number"
        lines.append(f"**{label(str(task))}**, {what}: {'; '.join(parts)}.")
    if "step" not in set(table.label):
        lines.append("Every answer is one token, so there is one step and no time to read.")
    return bullets(lines)


def amnesia(table: pd.DataFrame) -> str:
    """What taking the answer's directions out costs, beside those of shuffled labels."""
    if table.empty:
        return "No label of this pair has two classes, so there are no directions to take out."
    lines = []
    for task, rows in table.groupby("task", sort=False):
        parts = []
        for model, one in rows.groupby("model", sort=False):
            worst = one.loc[one.extra.idxmax()]
            used = one[one.extra_low > 0].layer.tolist()
            if not used:
                parts.append(f"{label(str(model))} nowhere beyond the control")
                continue
            parts.append(
                f"{label(str(model))} beyond the control at layer{'s' if len(used) > 1 else ''} "
                f"{listed([str(layer) for layer in used])} (most at layer {worst.layer}: from "
                f"{percent(worst.whole)} to {percent(worst.without)}, with the control's "
                f"{worst['rank']} directions to {percent(worst.control)})"
            )
        lines.append(f"**{label(str(task))}**: {'; '.join(parts)}.")
    return bullets(lines)


def _span(by: pd.DataFrame, name: str) -> str:
    row = by.loc[name]
    return f"{percent(row.value)} [{percent(row.low)}, {percent(row.high)}]"


def _difference(row: pd.Series) -> str:
    return f"{100 * row.value:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}] points"
