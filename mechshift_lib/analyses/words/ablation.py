"""Words of the targeted ablations: which heads are taken away, and what that costs."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.ablation import ABLATIONS
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.ablation import KINDS

LOST, MORE = fmt.span("lost", ".1f", 100), fmt.span("more", ".1f", 100)
SETS = "Of the random sets, {early} share at least one head with the early ones."
LOSSES = (
    "In percentage points of teacher-forced tokens, the MDM loses {early} without its early "
    "heads and {random} without random ones ({n} examples a task)."
)
CONTRASTS = (
    "In percentage points of teacher-forced tokens, zeroing the MDM's early heads costs "
    "{random} more than zeroing random ones ({n} examples a task)."
)


def sets(table: pd.DataFrame) -> fmt.Finding:
    """How far the random sets are others than the early one (:func:`ablation.sharing`)."""
    texts = {"early heads": lambda row: row.nodes.replace("+", ", ")}
    texts |= {"their share of all heads' attribution (%)": fmt.value("mass", ".0f", 100)}
    texts |= {"random sets": fmt.value("n", "d"), "with an early head": fmt.value("sharing", "d")}
    shown = fmt.lines(table, ["task"], texts)
    return fmt.told(SETS, table, ["kind"], lambda row: f"{row.sharing} of {row.n}", shown)


def losses(table: pd.DataFrame) -> fmt.Finding:
    """Accuracy lost by zeroing each set of heads."""
    rows = _ordered(table[table.ablation == ABLATIONS[0]], "kind")
    shown = fmt.grid(rows, ["task", "model"], "kind", LOST, KINDS)
    return fmt.told(LOSSES, rows[rows.model == "mdm"], ["kind"], LOST, shown)


def contrasts(table: pd.DataFrame) -> fmt.Finding:
    """What the MDM's early heads cost beyond each control; how many random sets cost as much."""
    mdm = _ordered(table[table.model == "mdm"], "against")
    zero = mdm[mdm.ablation == ABLATIONS[0]]
    shown = fmt.grid(mdm, ["task", "against"], "ablation", MORE)
    shown["random sets that cost as much (zero, %)"] = [fmt.number(p, ".0f", 100) for p in zero.p]
    return fmt.told(CONTRASTS, zero, ["against"], MORE, shown)


def _ordered(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    order = [*rows.task.unique(), *KINDS]
    return rows.sort_values(["task", column], key=lambda x: x.map(order.index), kind="stable")
