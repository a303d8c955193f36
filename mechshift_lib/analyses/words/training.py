"""Words of how a pair's models were trained."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.plots.theme import label

MISSING = "–"
#: Column of :func:`training.training_table` -> its heading and the form of its numbers.
COLUMNS = {
    "steps": ("steps", ",.0f"),
    "tokens": ("tokens", ",.0f"),
    "peak": ("highest rate", ".2g"),
    "end": ("last rate", ".2g"),
    "third": ("loss, third quarter", ".2f"),
    "last": ("loss, last quarter", ".2f"),
    "moved": ("‖Δθ‖", ".1f"),
    "share": ("‖Δθ‖ / ‖θ‖", ".1%"),
}


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table of trainings as text, a row a model and seed."""
    rows = []
    for _, row in table.iterrows():
        numbers = {
            heading: MISSING if pd.isna(row[name]) else f"{row[name]:{form}}".replace("%", " %")
            for name, (heading, form) in COLUMNS.items()
        }
        rows.append({"model": label(row.role), "seed": str(row.seed)} | numbers)
    return pd.DataFrame(rows)


def moved(table: pd.DataFrame) -> str:
    """How far MDM and control are from the ARM, from the nearest training to the furthest."""
    known = table[table.moved.notna()].sort_values("moved").groupby("role", sort=False).moved
    parts = [
        f"{label(str(role))} {' to '.join(dict.fromkeys(f'{x:.1f}' for x in moved.iloc[[0, -1]]))}"
        for role, moved in known
    ]
    if not parts:
        return "How far these models lie from their ARM isn't known: they have other tensors."
    return (
        f"Distance from the ARM, ‖Δθ‖, the norm of the change of all weights: {listed(parts)}. A "
        "control of the same tokens need not have gone as far."
    )
