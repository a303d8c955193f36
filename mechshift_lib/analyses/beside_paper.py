"""The paper's numbers beside those that were measured on a pair, quantity by quantity.

Only what the paper published is in it: overlap of ARM and MDM among the strongest edges and
components, and where the sources of the 30 edges that it printed lie. Sizes of circuits are matched
as shares of all edges, since pairs differ in how many they have.
"""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses import overlap
from mechshift_lib.analyses.study import Study
from mechshift_lib.comparison import published
from mechshift_lib.comparison.published import PublishedPair

#: Edges of the paper's circuits.
PUBLISHED_COUNT = 1000


def series_of(pair: str) -> list[PublishedPair]:
    """The paper's pairs that a pair is held against: itself where it is one of them, else both."""
    own = [one for one in published.PAIRS if pair.startswith(f"{one.arm}-")]
    return own or list(published.PAIRS)


def beside_paper(study: Study) -> pd.DataFrame:
    """Published and measured values of a pair's first training.

    Returns:
        One row per task, series and quantity: ``quantity, task, series, published, measured, low,
        high, size``; ``size`` says how many edges or components were measured over, and the bounds
        are 95 % over examples. A quantity of a task that the pair has not is left out.
    """
    tables = overlap.comparison_tables(study)
    overlaps, edges = (published.read_table(name, study.root) for name in ("overlap", "top_edges"))
    told = published.overlap_table(overlaps, edges).set_index(["task", "series"])
    depth = published.top_edge_depth(edges).set_index(["task", "series", "role"])
    rows = []
    for task in published.TASKS:
        own = {name: table[table.task == task] for name, table in tables.items()}
        if task not in study.pair.tasks or own["edges"].empty:
            continue
        for series in series_of(study.pair.name):
            at = (task, series.series)
            share = PUBLISHED_COUNT / series.n_edges
            found = [
                ("overlap of edges", told.loc[at].top1000, _edges(own["edges"], share)),
                (
                    "overlap of components",
                    told.loc[at].components100,
                    _pick(own["components"], "share", "k", comparison="arm-mdm"),
                ),
            ]
            for role in ("arm", "mdm"):
                picked = _pick(
                    own["depth"], "depth", "count", circuit=role, end="source", edges=overlap.TOP
                )
                said = depth.loc[(*at, role)].source_depth
                found.append((f"depth of sources, {role.upper()}", said, picked))
            rows += [
                {
                    "quantity": quantity,
                    "task": task,
                    "series": series.series,
                    "published": float(value),
                    **measured,
                }
                for quantity, value, measured in found
            ]
    return pd.DataFrame(rows)


def _edges(table: pd.DataFrame, share: float) -> dict[str, float]:
    """Overlap of ARM and MDM at the measured size that is nearest to a share of all edges."""
    own = table[table.comparison == "arm-mdm"]
    nearest = own.iloc[[(own.fraction - share).abs().argmin()]]
    return _pick(nearest, "jaccard", "count")


def _pick(table: pd.DataFrame, value: str, size: str, **where: str) -> dict[str, float]:
    """The one row where columns have these values."""
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    row = table.iloc[0]
    return {
        "measured": float(row[value]),
        "low": float(row.low),
        "high": float(row.high),
        "size": int(row[size]),
    }
