"""Sentences about where the plan is kept, written from tables, for any pair and outcome."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.narrative import bullets, listed, whole
from mechshift_lib.plots.theme import label


def _share(row: pd.Series) -> str:
    return f"{100 * row.share:.0f} % [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def shares(table: pd.DataFrame) -> str:
    """Of all attribution the share that is read at the masks still to be filled."""
    lines = []
    for task, rows in table.groupby("task", sort=False):
        mdm = rows[rows.model == "mdm"].set_index("place")
        waiting = mdm.loc["waiting"]
        if waiting.positions == 0:
            lines.append(f"**{label(str(task))}**: the answer is one token, so none is waiting.")
            continue
        parts = [f"{_share(mdm.loc[place])} at {_WHERE[place]}" for place in _WHERE]
        lines.append(f"**{label(str(task))}** (n = {int(waiting.n)}): {listed(parts)}.")
    return (
        "Where the MDM's edges read, as shares of their summed |attribution|; in an ARM nothing "
        f"can be read at tokens that don't stand yet:\n\n{bullets(lines)}"
    )


_WHERE = {
    "waiting": "masks that wait",
    "own": "the mask being filled",
    "revealed": "revealed tokens",
    "prompt": "the prompt",
}


def _points(row: pd.Series) -> str:
    values = [0.0 if abs(100 * x) < 0.05 else 100 * x for x in (row.lost, row.low, row.high)]
    return f"{values[0]:.1f} [{values[1]:.1f}, {values[2]:.1f}]"


def plan(cuts: pd.DataFrame, patched: pd.DataFrame) -> str:
    """Does the MDM need what stands at masks still to be filled?

    It does if cutting attention to them costs accuracy, interval above 0.
    """
    if not len(cuts):
        return (
            "No task of this pair has an answer of several tokens that are filled one by one, so "
            "there is nothing to wait for."
        )
    needed: list[str] = []
    idle: list[str] = []
    traces: list[str] = []
    lines: list[str] = []
    for task, rows in cuts.groupby("task", sort=False):
        by = rows.set_index("kind")
        exact = patched[patched.task == task].sort_values("effect").iloc[-1]
        lines.append(
            f"**{label(str(task))}**: cutting attention to the waiting masks costs "
            f"{_points(by.loc['waiting'])} percentage points of accuracy, to as many random "
            f"positions of the prompt {_points(by.loc['control'])} and to the revealed tokens "
            f"{_points(by.loc['revealed'])} (n = {int(by.n['waiting'])}). Patching the waiting "
            f"masks' residual stream costs at most {whole(exact.effect + 0.0)} "
            f"[{whole(exact.low + 0.0)}, {whole(exact.high + 0.0)}] of what corruption costs, at "
            f"layer {int(exact.layer)}."
        )
        if exact.low > 0:
            traces.append(label(str(task)))
        (needed if by.low["waiting"] > 0 else idle).append(label(str(task)))
    said = []
    if needed:
        said.append(
            f"On {listed(needed)} **the MDM reads something from masks that it fills later**, "
            "which no ARM can."
        )
    if idle:
        said.append(
            f"On {listed(idle)} no accuracy is lost: **whatever stands in the masks still to be "
            "filled isn't needed.**"
        )
    if traces:
        said.append(f"Patching finds a trace of the prompt there on {listed(traces)}.")
    return f"{bullets(lines)}\n\n{' '.join(said)}"
