"""Words of the chapter on trust: what attribution estimates beside what patching measures."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.trust import EXACT, USED
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

AGREEMENT = (
    "Of the MDM's truly strongest 5 % of edges {used} finds {mdm/eap-ig-5}, and exact patching of "
    "{half} examples finds {mdm/exact-halves} of those of {half} others ({n} examples a task, too "
    "few for intervals)."
)
CONSEQUENCES = (
    "The overlap of ARM and MDM is {eap-ig-5} by {used} and {exact} by exact patching ({n} "
    "examples a task, too few for intervals)."
)


def setting(table: pd.DataFrame, n_edges: int) -> str:
    """What was compared: edges, examples, models."""
    return (
        f"All {n_edges:,} edges, each patched alone, on {count_text(table.n)} examples a task; the "
        "estimates are means over the same. *Untrained* is the ARM's architecture with random "
        "weights, asked the same questions."
    )


def agreement(table: pd.DataFrame) -> fmt.Finding:
    """Every estimate's agreement with exact patching, a mean over tasks."""
    means = table.groupby(["subject", "estimate", "measure"], sort=False).value.mean().reset_index()
    shown = fmt.grid(means, ["subject", "estimate"], "measure", fmt.value("value"))
    recall = table[table.measure == "recall-0.05"]
    text, half = fmt.value("value"), int(table.n.max()) // 2
    by = ["subject", "estimate"]
    return fmt.told(AGREEMENT, recall, by, text, shown, used=label(USED), half=half)


def consequences(table: pd.DataFrame) -> fmt.Finding:
    """What the comparison of ARM and MDM is by each estimate and by exact patching."""
    texts = {"Jaccard, ARM ↔ MDM": fmt.value("jaccard"), "of random sets": fmt.value("chance")}
    texts |= {"source depth, MDM − ARM": fmt.value("shift", "+.3f")}
    texts |= {f"Jaccard with exact circuit, {label(m)}": fmt.value(m) for m in ("arm", "mdm")}
    rows = table[table.estimate.isin([USED, EXACT])]
    shown = fmt.lines(rows, ["task", "estimate"], texts)
    return fmt.told(CONSEQUENCES, rows, ["estimate"], fmt.value("jaccard"), shown, used=label(USED))
