"""Words of the chapter on plans: where the MDM reads, and what cuts and patches cost."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.planning import CUTS, NAMES

SHARE, EFFECT, LOST = (fmt.span(name, ".1f", 100) for name in ("share", "effect", "lost"))
COST = {"tokens lost (points)": LOST, "fall of the metric": fmt.span("fell", prefix="fell_")}
SHARES = (
    "Of the MDM's summed |attribution|, {mdm/waiting} is read at masks that wait ({n} examples a "
    "task; where a task's answer is one token, no mask waits)."
)
PATCHED = (
    "Of what corruption takes, patching the masks that wait takes at most {largest}: each the"
    " largest over the layers, so without an interval ({n} examples)."
)
CUT = (
    "In percentage points of teacher-forced tokens, cutting attention to the masks that wait "
    "costs the MDM {waiting}, cutting it to as many tokens of the prompt {control} ({n} "
    "examples)."
)
NONE = fmt.Finding("Every answer of this pair's tasks is one token, so no mask waits.")


def shares(table: pd.DataFrame) -> fmt.Finding:
    """Of all attribution the share that is read at each place; a place without tokens has none."""
    rows = table.assign(share=table.share.where(table.positions.ne(0)))
    names = {place: f"{name} (%)" for place, name in NAMES.items()}
    shown = fmt.grid(rows, ["task", "model"], "place", SHARE, names)
    return fmt.told(SHARES, rows.dropna(subset="share"), ["model", "place"], SHARE, shown, " %")


def patched(table: pd.DataFrame) -> fmt.Finding:
    """What the waiting masks' residual stream carries, layer by layer, in % of the gap."""
    if table.empty:
        return NONE

    def text(row: pd.Series) -> str:
        return f"{fmt.number(row.effect, '.1f', 100)} % (layer {row.layer})"

    shown = fmt.grid(table, ["layer"], "task", EFFECT)
    top = table.loc[table.groupby("task", sort=False).effect.idxmax()].assign(what="largest")
    return fmt.told(PATCHED, top, ["what"], text, shown)


def cuts(table: pd.DataFrame) -> fmt.Finding:
    """What is lost when nobody may look at some positions."""
    if table.empty:
        return NONE

    def text(row: pd.Series) -> str:
        return "nothing to cut" if pd.isna(row.lost) else COST[row.cost](row)

    rows = pd.concat([table.assign(cost=cost) for cost in COST])
    names = CUTS | {"excess": "waiting minus prompt"}
    shown = fmt.grid(rows, ["task", "cost"], "kind", text, names)
    return fmt.told(CUT, table, ["kind"], LOST, shown)
