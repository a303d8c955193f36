"""Words of the paper's own numbers, asked again."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label

OVERLAP = (
    "IOI against Countdown: among the published top 1,000 edges {thousand}; among the top 30 that "
    "are printed {thirty}."
)
DEPTH = (
    "Mean source depth of the printed edges, ARM → MDM: {whole}; without the edges from the "
    "embedding: {without}."
)
#: Columns of the published tables -> what heads them.
HEADS = {
    "top1000": "Jaccard, top 1,000 edges (published)",
    "components100": "overlap, top 100 components (published)",
    "top30": "Jaccard, top 30 edges",
    "shared30": "shared of them",
    "chance30": "by chance",
    "role": "kind",
    "n": "edges",
    "from_input": "from the embedding",
    "source_depth": "source depth",
    "without_input": "without those from the embedding",
    "reader_depth": "reader depth",
    "mean_logit": "mean logit",
    "top_tokens": "top tokens",
    "family": "model",
    "unique_explanatory_components": "unique explanatory components",
}
#: The same for components: what a component writes is called its role there.
COMPONENTS = HEADS | {"role": "what it writes"}


def overlap(table: pd.DataFrame) -> str:
    """Overlaps of both tasks, of the published and of the printed edges."""

    def against(name: str) -> str:
        wide = table.pivot(index="series", columns="task", values=name)
        parts = [f"{r.ioi:.3f} and {r.countdown:.3f} ({s})" for s, r in wide.iterrows()]
        return fmt.listed(parts)

    return OVERLAP.format(thousand=against("top1000"), thirty=against("top30"))


def depth(table: pd.DataFrame) -> str:
    """Depths of the printed edges' sources, with and without those from the embedding."""

    def change(name: str) -> str:
        wide = table.pivot(index=["task", "series"], columns="role", values=name)
        parts = [
            f"{r.arm:.2f} → {r.mdm:.2f} ({label(task)}, {series})"
            for (task, series), r in wide.iterrows()
        ]
        return fmt.listed(parts)

    return DEPTH.format(whole=change("source_depth"), without=change("without_input"))
