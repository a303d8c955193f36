"""Re-analysis of what the paper published: no model needed.

Kong, Lee, Jo, arXiv 2601.14758 (v1). Tables 3 and 4 list the 30 strongest edges of each model on
IOI and Countdown, by rank and without scores, so every edge weighs the same here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mechshift_lib.comparison.edges import Edges, parse_edges
from mechshift_lib.comparison.overlap import expected_jaccard
from mechshift_lib.config import ROOT
from mechshift_lib.errors import ResultError


@dataclass(frozen=True)
class PublishedPair:
    """An ARM and its MDM as the paper names them, with the shape of their graph."""

    series: str
    arm: str
    mdm: str
    n_layers: int
    n_edges: int


PAIRS = (
    PublishedPair("Qwen series", "qwen2.5-7b", "dream-7b", 28, 935_747),
    PublishedPair("LLaMA series", "llama2-7b", "diffullama-7b", 32, 1_592_881),
)
TASKS = ("ioi", "countdown")
TABLES = ("overlap", "top_edges", "component_logits", "explanations")


def read_table(name: str, root: Path = ROOT) -> pd.DataFrame:
    """One of the paper's published tables, ``data/paper/<name>.csv``.

    Raises:
        ResultError: there is no such table.
    """
    path = root / "data" / "paper" / f"{name}.csv"
    if name not in TABLES or not path.is_file():
        raise ResultError(f"No published table {name!r}: choose one of {', '.join(TABLES)}.")
    return pd.read_csv(path)


def top_edges_of(table: pd.DataFrame, task: str, model: str, n_layers: int) -> Edges:
    """The published edges of one model on one task, strongest first."""
    rows = table[(table.task == task) & (table.model == model)].sort_values("rank")
    if rows.empty:
        raise ResultError(f"The paper lists no edges of {model!r} on {task!r}.")
    return parse_edges(rows.edge.tolist(), n_layers)


def top_edge_overlap(table: pd.DataFrame) -> pd.DataFrame:
    """Jaccard index of the published edges of ARM and MDM, and its chance level.

    Returns:
        One row per task and series: ``task, series, n_arm, n_mdm, shared, jaccard, chance``.
    """
    rows = []
    for task in TASKS:
        for pair in PAIRS:
            arm = set(top_edges_of(table, task, pair.arm, pair.n_layers).names)
            mdm = set(top_edges_of(table, task, pair.mdm, pair.n_layers).names)
            rows.append(
                {
                    "task": task,
                    "series": pair.series,
                    "n_arm": len(arm),
                    "n_mdm": len(mdm),
                    "shared": len(arm & mdm),
                    "jaccard": len(arm & mdm) / len(arm | mdm),
                    "chance": expected_jaccard(pair.n_edges, len(arm), len(mdm)),
                }
            )
    return pd.DataFrame(rows)


def overlap_table(overlap: pd.DataFrame, top_edges: pd.DataFrame) -> pd.DataFrame:
    """Published overlaps beside those of the top 30.

    Args:
        overlap: the published table ``overlap``.
        top_edges: the published table ``top_edges``.

    Returns:
        One row per task and series: ``task, series, top1000, components100`` (published), ``top30,
        shared30, chance30`` (computed here).
    """
    series = {pair.arm: pair.series for pair in PAIRS}
    ours = top_edge_overlap(top_edges).set_index(["task", "series"])
    rows = []
    for row in overlap.itertuples():
        found = ours.loc[(row.task, series[row.arm])]
        rows.append(
            {
                "task": row.task,
                "series": series[row.arm],
                "top1000": row.edge_jaccard_top1000,
                "components100": row.component_overlap_top100,
                "top30": found.jaccard,
                "shared30": int(found.shared),
                "chance30": found.chance,
            }
        )
    return pd.DataFrame(rows)


def top_edge_depth(table: pd.DataFrame) -> pd.DataFrame:
    """Mean depth of the published edges' ends, with and without the edges from the embedding.

    Depth is layer / number of layers; ``input`` counts 0 and ``logits`` 1. Edges from ``input``
    have no layer of their own: ``without_input`` shows how much of a shift is theirs.

    Returns:
        One row per task, series and role: ``task, series, role, model, n, from_input,
        source_depth, without_input, reader_depth``.
    """
    rows = []
    for task in TASKS:
        for pair in PAIRS:
            for role, model in (("arm", pair.arm), ("mdm", pair.mdm)):
                edges = top_edges_of(table, task, model, pair.n_layers)
                inner = edges.source >= 0
                rows.append(
                    {
                        "task": task,
                        "series": pair.series,
                        "role": role,
                        "model": model,
                        "n": len(edges),
                        "from_input": int(np.sum(~inner)),
                        "source_depth": float(edges.source_depth.mean()),
                        "without_input": float(edges.source_depth[inner].mean()),
                        "reader_depth": float(edges.reader_depth.mean()),
                    }
                )
    return pd.DataFrame(rows)


def top_edge_layers(table: pd.DataFrame) -> pd.DataFrame:
    """Depth of every published edge's ends, for figures.

    Returns:
        One row per edge: ``task, series, role, edge, source_depth, reader_depth, from_input``.
    """
    frames = []
    for task in TASKS:
        for pair in PAIRS:
            for role, model in (("arm", pair.arm), ("mdm", pair.mdm)):
                edges = top_edges_of(table, task, model, pair.n_layers)
                frames.append(
                    pd.DataFrame(
                        {
                            "task": task,
                            "series": pair.series,
                            "role": role,
                            "edge": edges.names,
                            "source_depth": edges.source_depth,
                            "reader_depth": edges.reader_depth,
                            "from_input": edges.source < 0,
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)
