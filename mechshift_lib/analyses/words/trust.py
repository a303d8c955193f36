"""Words of the chapter on trust: what attribution estimates beside what patching measures."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.trust import EXACT, USED
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

AGREEMENT = (
    "Of the MDM's truly strongest 5 % of edges {used} finds a share of {mdm/eap-ig-5}, and exact "
    "patching of {half} examples finds {mdm/exact-halves} of those of {half} others ({n} examples "
    "a task{few})."
)
CONSEQUENCES = (
    "By {used} the overlap of ARM and MDM is off by {eap-ig-5} (above 0: overstated), where exact "
    "patching gives {exact}; the shift of the sources' depth is off by up to {depth} % of the "
    "depth, on {where} ({n} examples a task{few})."
)
INTERVALS = "; intervals are of 95 %, from resampling them"
FEW = ", too few for intervals"


def _few(rows: pd.DataFrame) -> str:
    """What is said of intervals."""
    return FEW if rows.low.isna().all() else INTERVALS


def setting(table: pd.DataFrame, n_edges: int) -> str:
    """What was compared: edges, examples, models."""
    return (
        f"All {n_edges:,} edges, each patched alone, on {count_text(table.n)} examples a task, one "
        "answer token at a time and put together as circuits are; the estimates are of the same. "
        "*Untrained* is the ARM's architecture with random weights, asked the same questions."
    )


def agreement(table: pd.DataFrame) -> fmt.Finding:
    """Every estimate's agreement with exact patching, task by task."""
    shown = fmt.grid(table, ["task", "subject", "estimate"], "measure", fmt.span("value"))
    rows = table[(table.measure == "recall-0.05") & (table.subject == "mdm")]
    half, few = int(rows.n.max()) // 2, _few(rows[rows.estimate == USED])
    by, text = ["subject", "estimate"], fmt.span("value")
    return fmt.told(AGREEMENT, rows, by, text, shown, used=label(USED), half=half, few=few)


def consequences(table: pd.DataFrame) -> fmt.Finding:
    """What the comparison of ARM and MDM is by each estimate and by exact patching."""
    texts = {
        "Jaccard, ARM ↔ MDM": fmt.span("jaccard"),
        "minus exact": fmt.span("error", "+.2f", prefix="error_"),
        "of random sets": fmt.value("chance"),
    }
    texts |= {"source depth, MDM − ARM": fmt.value("shift", "+.3f")}
    texts |= {f"Jaccard with exact circuit, {label(m)}": fmt.value(m) for m in ("arm", "mdm")}
    rows = table[table.estimate.isin([USED, EXACT])]
    shown = fmt.lines(table, ["task", "estimate"], texts)

    def text(row: pd.Series) -> str:
        return texts["Jaccard, ARM ↔ MDM" if row.estimate == EXACT else "minus exact"](row)

    shifts = rows.pivot(index="task", columns="estimate", values="shift")
    off = shifts[USED] - shifts[EXACT]
    where = off.abs().idxmax()
    parts = {"used": label(USED), "few": _few(rows), "where": label(where)}
    parts["depth"] = fmt.number(off[where], "+.0f", 100)
    return fmt.told(CONSEQUENCES, rows, ["estimate"], text, shown, **parts)
