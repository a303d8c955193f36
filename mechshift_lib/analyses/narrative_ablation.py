"""Sentences about targeted ablations, written from tables, for any pair and outcome."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.ablation import ABLATIONS, CONTROLS, RARE
from mechshift_lib.analyses.narrative import bullets, listed, whole
from mechshift_lib.plots.theme import label


def chosen(sets: pd.DataFrame) -> str:
    """Which heads are ablated, and what they are held against."""
    lines = []
    for task, rows in sets.groupby("task", sort=False):
        by = rows[rows.kind != "random"].set_index("kind")
        random = rows[rows.kind == "random"]
        early = ", ".join(f"`{x}`" for x in by.nodes["early"].split("+"))
        others = [
            f"as many {third} heads have {100 * by.mass[third]:.0f} %"
            for third in ("middle", "late")
            if third in by.index
        ]
        how = "layer" if bool(random.by_layer.all()) else "third of the model"
        lines.append(
            f"**{label(str(task))}**: {early} ({100 * by.mass['early']:.0f} % of the heads' "
            f"attribution; {listed(others)}); {len(random)} random sets with as many heads in each "
            f"{how}."
        )
    return bullets(lines)


def _row(table: pd.DataFrame, **wanted: str) -> pd.Series:
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.iloc[0]


def _span(row: pd.Series, name: str) -> str:
    """In percentage points of accuracy."""
    values = (100 * float(row[x]) + 0.0 for x in (name, "low", "high"))
    value, low, high = (0.0 if abs(x) < 0.05 else x for x in values)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def cost(losses: pd.DataFrame) -> str:
    """Accuracy lost by zeroing, task by task."""
    zero = losses[losses.ablation == ABLATIONS[0]]
    lines = []
    for task, rows in zero.groupby("task", sort=False):
        parts = []
        for model in rows.model.unique():
            one = rows[rows.model == model].set_index("kind")
            others = [
                f"{100 * one.lost[kind] + 0.0:.1f} without {kind} ones"
                for kind in CONTROLS
                if kind in one.index
            ]
            parts.append(
                f"{label(str(model))} {_span(one.loc['early'], 'lost')} without the early heads, "
                f"{listed(others)}"
            )
        lines.append(f"**{label(str(task))}**: {'; '.join(parts)}.")
    return f"Percentage points of accuracy lost when heads are zeroed:\n\n{bullets(lines)}"


def verdict(contrasts: pd.DataFrame, task: str = "countdown") -> str:
    """Claim C6 on this pair, by the rule of the methods page.

    It is reproduced if zeroing the early heads costs the MDM more on the task than each control,
    every interval above 0, and more than all but :data:`RARE` of the random sets; not reproduced if
    one interval lies below 0.
    """
    mdm = contrasts[(contrasts.model == "mdm") & (contrasts.ablation == ABLATIONS[0])]
    here = mdm[mdm.task == task]
    if not len(here):
        return f"This pair has no circuits of {label(task)}, so C6 can't be asked of it."
    by = here.set_index("against")
    rows = by.loc[[kind for kind in CONTROLS if kind in by.index]]
    parts = [f"{_span(row, 'more')} more than {_NAMES[str(kind)]}" for kind, row in rows.iterrows()]
    p = float(rows.p["random"])
    text = (
        f"On {label(task)}, zeroing the MDM's early heads costs it {listed(parts)} (percentage "
        f"points, n = {int(rows.n.iloc[0])}); of the random sets, the chosen one counted, "
        f"{whole(p)} cost at least as much. "
    )
    if (rows.high < 0).any():
        said = "C6 is not reproduced on this pair"
    elif (rows.low > 0).all() and p <= RARE:
        said = "C6 is reproduced on this pair"
    elif (rows.low > 0).all():
        said = (
            "C6 is undecided on this pair: the early heads cost more than the others on average, "
            "but too many random sets cost as much"
        )
    else:
        said = "C6 is undecided on this pair"
    return f"{text}**{said}.**{_others(contrasts, task)}"


_NAMES = {
    "random": "random heads of the same part of the model",
    "middle": "as many middle heads",
    "late": "as many late ones",
}


def _others(contrasts: pd.DataFrame, task: str) -> str:
    """Is it special to the MDM, and to zeroing?"""
    here = contrasts[(contrasts.task == task) & (contrasts.against == "random")]
    zero = here[here.ablation == ABLATIONS[0]].set_index("model")
    texts = [f"{label(m)} {_span(zero.loc[m], 'more')}" for m in zero.index if m != "mdm"]
    other = here[(here.model == "mdm") & (here.ablation != ABLATIONS[0])]
    kinds = [f"{row.ablation} {_span(row, 'more')}" for _, row in other.iterrows()]
    return (
        f" The same heads against random ones in the other models: {listed(texts)}. In the MDM by "
        f"other ablations: {listed(kinds)}."
    )
