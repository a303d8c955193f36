"""The table of verdicts in words: claims down, pairs across."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.verdicts import SAID
from mechshift_lib.plots.theme import label

#: A sign for each verdict, so that a column can be read at a glance.
SIGNS = {"reproduced": "✓", "not reproduced": "✗", "undecided": "?"}


def _number(value: float) -> str:
    return f"{value + 0.0:+.2f}".replace("-0.00", "0.00").replace("+0.00", "0.00")


def _cell(rows: pd.DataFrame) -> str:
    parts = []
    for _, row in rows.iterrows():
        text = f"{SIGNS[row.verdict]} {row.verdict}"
        if isinstance(row.task, str) and len(rows) > 1:
            text = f"{label(row.task)}: {text}"
        if not math.isnan(row.effect):
            text += f" {_number(row.effect)}"
        if not math.isnan(row.low):
            text += f" [{_number(row.low)}, {_number(row.high)}]"
        parts.append(text)
    return "<br>".join(parts)


def grid(table: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """Claims down, pairs across, in Markdown: verdict, deciding effect, its interval.

    Args:
        table: of :func:`mechshift_lib.analyses.verdicts.table`.
        titles: pair -> title, in the order of the columns.
    """
    head = ["claim", *titles.values()]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for claim in table.claim.unique():
        cells = [f"**{claim}** {SAID[claim]}"]
        for pair in titles:
            cells.append(_cell(table[(table.claim == claim) & (table.pair == pair)]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(table: pd.DataFrame) -> str:
    """How many verdicts of each kind there are."""
    counts = table.verdict.value_counts()
    parts = [f"{int(counts.get(kind, 0))} {kind}" for kind in SIGNS]
    return f"Of {len(table)} verdicts, {listed(parts)}."


def details(table: pd.DataFrame) -> pd.DataFrame:
    """The table as the page shows it: one row a verdict."""
    found = table.assign(task=[label(x) if isinstance(x, str) else "all" for x in table.task])
    return found[
        ["claim", "pair", "task", "verdict", "measure", "effect", "low", "high", "yardstick", "n"]
    ]
