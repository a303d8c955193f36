"""Sentences about activation patching, written from tables, for any pair and any outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mechshift_lib.analyses.narrative import bullets, listed, whole
from mechshift_lib.plots.theme import label

#: A head that restores at least this share of the gap alone is named.
STRONG = 0.1
#: Most heads that a sentence names.
NAMED = 5


def examples(counts: Mapping[str, int], asked: int) -> str:
    """How many examples are patched, and why not more.

    Args:
        counts: task -> examples of one wording.
        asked: how many the budget asks for.
    """
    lines = [f"{label(task)} {n}" for task, n in counts.items()]
    return (
        "Positions can be averaged only over prompts that are worded alike, so each task's "
        f"examples are of its most frequent wording, at most {asked}: {', '.join(lines)}."
    )


def positions(table: pd.DataFrame, task: str) -> str:
    """Where the residual stream restores most at the start, the middle and the end."""
    table = table[table.site == "resid"]
    last = int(table.layer.max())
    parts = []
    for role in ("arm", "mdm"):
        rows = table[table.role == role]
        steps = []
        for layer in sorted({0, last // 2, last}):
            at = rows[rows.layer == layer]
            top = at.loc[at.effect.idxmax()]
            where = "the end" if layer == last else f"layer {layer}"
            steps.append(f"{whole(top.effect)} by “{top.token}” at {where}")
        parts.append(f"{label(role)}: {', '.join(steps)}")
    return f"**{label(task)}**, the most that one position restores. {'; '.join(parts)}."


def sublayers(table: pd.DataFrame, task: str) -> str:
    """Which attention and MLP outputs restore most."""
    parts = []
    for role in ("arm", "mdm"):
        tops = []
        for site in ("attn", "mlp"):
            rows = table[(table.role == role) & (table.site == site)]
            top = rows.loc[rows.effect.idxmax()]
            tops.append(
                f"by the {label(site)} of layer {int(top.layer)} at “{top.token}” "
                f"({whole(top.effect)})"
            )
        parts.append(f"in the {label(role)} {listed(tops)}")
    return f"**{label(task)}**: most is restored {'; '.join(parts)}."


def heads(table: pd.DataFrame, task: str) -> str:
    """Which single heads carry the answer, and whether they are needed."""
    parts = []
    for role in table.role.unique():
        rows = table[table.role == role].pivot(
            index=["layer", "head"], columns="direction", values="effect"
        )
        strong = rows[rows.denoise >= STRONG].sort_values("denoise", ascending=False)
        named = [
            f"`a{layer}.h{head}` {whole(row.denoise)} (noised {whole(row.noise)})"
            for (layer, head), row in strong.head(NAMED).iterrows()
        ]
        more = f" and {len(strong) - NAMED} more" if len(strong) > NAMED else ""
        none = f"no head alone restores {whole(STRONG)}"
        parts.append(f"{label(role)}: {', '.join(named) + more if named else none}")
    return f"**{label(task)}**. {'; '.join(parts)}."


def steps(several: Sequence[str]) -> str:
    """Which tasks have several scored steps."""
    if not several:
        return "No answer of this pair has several scored tokens, so there are no steps to compare."
    return f"Tasks whose answers have several scored tokens: {listed([label(t) for t in several])}."


def agreement(table: pd.DataFrame) -> str:
    """Do the same heads carry the answer, from :func:`patching.head_agreement`."""
    lines = []
    for task, rows in table.groupby("task", sort=False):
        by = rows.set_index("comparison")
        main = by.loc["arm-mdm"]
        text = f"**{label(str(task))}**: {label('arm-mdm')} {_span(main, 'correlation')}"
        if "arm-continued" in by.index:
            control = by.loc["arm-continued"]
            verdict = (
                "lower than the control's"
                if main.high < control.low
                else "higher than the control's"
                if main.low > control.high
                else "not told apart from the control's"
            )
            text += f", {label('arm-continued')} {_span(control, 'correlation')}; {verdict}"
        lines.append(text + ".")
    return bullets(lines)


def arrival(table: pd.DataFrame, regimes: Mapping[str, str]) -> str:
    """When what decides the answer arrives (a test of claim C2 that needs no circuit).

    Args:
        table: ``depth`` of :func:`patching.arrival_table`.
        regimes: task -> ``local`` or ``global``.
    """
    lines: list[str] = []
    earlier: list[str] = []
    tested: list[str] = []
    for task, rows in table.groupby("task", sort=False):
        by = rows.set_index(["role", "base"])
        own = [f"{label(r.role)} {r.depth:.2f}" for r in rows[rows.base == ""].itertuples()]
        shift = by.loc[("mdm", "arm")]
        text = (
            f"**{label(str(task))}** ({regimes[str(task)]}): {', '.join(own)}; MDM minus ARM "
            f"{_signed(shift)}"
        )
        beyond = True
        if ("mdm", "continued") in by.index:
            against = by.loc[("mdm", "continued")]
            beyond = bool(against.high < 0)
            text += f", MDM minus continued {_signed(against)}"
        lines.append(text + ".")
        if regimes[str(task)] == "global":
            tested.append(str(task))
            if shift.high < 0 and beyond:
                earlier.append(str(task))
    if not tested:
        verdict = "The pair has no global task, so this says nothing about C2."
    elif len(earlier) == len(tested):
        verdict = (
            "On every global task it arrives earlier in the MDM than in the ARM and in the "
            "control, intervals included: **patching agrees with the direction of C2.**"
        )
    elif earlier:
        verdict = (
            f"It arrives earlier in the MDM on {listed([label(t) for t in earlier])}, not on every "
            "global task: **patching agrees with C2 in part.**"
        )
    else:
        verdict = (
            "On no global task does it arrive earlier in the MDM beyond the intervals of ARM and "
            "control: **patching doesn't show C2 on this pair.**"
        )
    return (
        "At what depth (0: embedding, 1: final norm) what decides the answer has arrived where it "
        f"is read:\n\n{bullets(lines)}\n\n{verdict}"
    )


def _span(row: pd.Series, name: str) -> str:
    return f"{row[name]:.2f} [{row.low:.2f}, {row.high:.2f}]"


def _signed(row: pd.Series) -> str:
    return f"{row.depth:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"
