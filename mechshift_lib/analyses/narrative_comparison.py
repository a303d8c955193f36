"""Sentences about comparisons of circuits, written from tables, for any pair and any outcome."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.narrative import bullets, interval, listed, whole
from mechshift_lib.comparison import published
from mechshift_lib.comparison.overlap import PAPER_EDGES, PAPER_FRACTION, REFERENCE_FRACTION
from mechshift_lib.plots.theme import label

#: Comparisons of the table of overlaps, as they stand beside each other.
YARDSTICKS = ("arm-mdm", "arm-continued", "arm-halves", "mdm-halves", "arm-mdm-halves")
#: A bootstrap bias of an overlap from which on a sentence says so.
NOTICEABLE = 0.01


def budgets(table: pd.DataFrame) -> str:
    """Which circuit sizes are compared, and how they relate to the paper's."""
    rows = table.drop_duplicates("count").sort_values("count")
    n_edges = round(rows["count"].iloc[-1] / rows.fraction.iloc[-1])
    fraction, labels = PAPER_FRACTION * n_edges, set(rows.label)
    text = (
        f"The sizes run from {rows['count'].iloc[0]:,} to {rows['count'].iloc[-1]:,} of this "
        f"model's {n_edges:,} edges. The paper's circuit, the top {PAPER_EDGES:,} of 935,747 "
        f"edges, is {100 * PAPER_FRACTION:.2f} % of its graph: as a fraction that is "
        f"{fraction:.1f} edges here"
    )
    text += "" if "paper's fraction" in labels else ", too few to compare sets"
    text += ", and as a count "
    text += (
        f"{100 * PAPER_EDGES / n_edges:.1f} % of the graph; both are among the sizes."
        if "paper's count" in labels
        else "most or all of the graph, which would overlap whatever the circuits are."
    )
    return text + f" Figures at one size take the top {whole(REFERENCE_FRACTION)}."


def overlaps(table: pd.DataFrame) -> pd.DataFrame:
    """Edge overlaps at one size, a row a task: ARM ↔ MDM with its yardsticks beside it, as text.

    Args:
        table: edge overlaps at one budget.
    """
    rows = []
    for task, part in table.groupby("task", sort=False):
        by = part.set_index("comparison")
        main = by.loc["arm-mdm"]
        shown = {
            label(str(name)): interval(row, "jaccard")
            for name, row in by.iterrows()
            if name in YARDSTICKS
        }
        rows.append(
            {"task": label(str(task))}
            | shown
            | {"chance": f"{main.chance:.3f}", "n": f"{int(main.n)}"}
        )
    return pd.DataFrame(rows)


def robustness(table: pd.DataFrame) -> str:
    """Does the order of ARM ↔ MDM and ARM ↔ continued depend on the budget?"""
    main = table[table.comparison == "arm-mdm"].set_index(["task", "count"]).jaccard
    control = table[table.comparison == "arm-continued"].set_index(["task", "count"]).jaccard
    if control.empty:
        return "This pair has no continued-training control."
    lower = (main < control).groupby("task", sort=False)
    lines = [
        f"**{label(str(task))}**: ARM ↔ MDM is below ARM ↔ continued at {int(below.sum())} of "
        f"{len(below)} budgets."
        for task, below in lower
    ]
    return bullets(lines)


def components(table: pd.DataFrame) -> str:
    """Overlap of components, from ``components`` of :func:`overlap.compare`."""
    lines = []
    for task, rows in table.groupby("task", sort=False):
        row = rows.set_index("comparison").loc["arm-mdm"]
        lines.append(
            f"**{label(task)}**: ARM and MDM share {interval(row, 'share')} of their top "
            f"{int(row.k)} components (Jaccard {row.jaccard:.2f}; random sets "
            f"{row.chance:.2f})."
        )
    return bullets(lines)


def heads(table: pd.DataFrame) -> str:
    """Where heads come and go, from ``heads`` of :func:`overlap.compare`."""
    lines = []
    middle = (table.layer.max() + 1) / 2
    for task, rows in table.groupby("task", sort=False):
        gain = rows.mdm_only - rows.arm_only
        early, late = gain[rows.layer < middle].sum(), gain[rows.layer >= middle].sum()
        lines.append(
            f"**{label(task)}**: {int(rows.shared.sum())} heads used by both, "
            f"{int(rows.arm_only.sum())} by the ARM only, {int(rows.mdm_only.sum())} by the MDM "
            f"only; MDM minus ARM {int(early):+d} in the first half of the layers and "
            f"{int(late):+d} in the second."
        )
    return bullets(lines)


def depths(depth: pd.DataFrame, shift: pd.DataFrame, regimes: Mapping[str, str]) -> pd.DataFrame:
    """Source depths of the strongest edges and what lies between them, a row a task, as text.

    Args:
        depth: ``depth`` of :func:`overlap.compare`.
        shift: ``shift`` of the same.
        regimes: task -> ``local`` or ``global``.
    """
    rows = []
    for task in depth.task.unique():
        at = _sources(depth, task).set_index("circuit")
        by = _sources(shift, task).set_index(["circuit", "base"])
        pairs = {
            "MDM − ARM": ("mdm", "arm"),
            "continued − ARM": ("continued", "arm"),
            "MDM − continued": ("mdm", "continued"),
        }
        rows.append(
            {"task": label(task), "kind of task": regimes[task]}
            | {"ARM": interval(at.loc["arm"], "depth")}
            | {
                name: interval(by.loc[pair], "shift", "+.3f")
                for name, pair in pairs.items()
                if pair in by.index
            }
            | {"n": int(at.n["arm"])}
        )
    return pd.DataFrame(rows)


def _sources(table: pd.DataFrame, task: str) -> pd.DataFrame:
    strongest = table.edges == f"top {whole(REFERENCE_FRACTION)} of edges"
    return table[(table.task == task) & (table.end == "source") & strongest]


def published_shifts() -> str:
    """How far the published edges of Countdown lie apart in depth."""
    depth = published.top_edge_depth(published.read_table("top_edges"))
    rows = depth[depth.task == "countdown"].pivot(
        index="series", columns="role", values="source_depth"
    )
    sizes = listed([f"{value:+.2f} ({series})" for series, value in (rows.mdm - rows.arm).items()])
    return (
        f"The sources of the 30 published edges of Countdown lie {sizes} apart, MDM minus ARM. "
        "That mean weighs every edge the same, so the two sizes can't be compared."
    )


def bias(table: pd.DataFrame) -> str:
    """How far bootstrap draws of an overlap lie from the estimate."""
    rows = table[table.comparison.isin(["arm-mdm", "arm-continued"])]
    mean, most = rows.bias.mean(), rows.bias.iloc[int(rows.bias.abs().argmax())]
    text = (
        "Bootstrap draws repeat examples, so their circuits are noisier than the estimate's and "
        f"their overlaps may lie beside it: here {mean:+.3f} from it on average, {most:+.3f} at "
        "most. The intervals shown have the draws' spread and are centred on the estimate; they "
        "correct nothing. "
    )
    if mean < -NOTICEABLE:
        return text + (
            "By the same token the estimate itself is below what endless examples would give."
        )
    return text + "On average that is too little to matter." if abs(mean) <= NOTICEABLE else text


def seeds(table: pd.DataFrame) -> str:
    """What other seeds say, from :func:`overlap.seed_table`."""
    if table.empty:
        return "This pair has one training seed, so nothing can be said about others."
    lines = []
    for task, rows in table.groupby("task", sort=False):
        own = rows[rows.comparison == "arm-mdm"]
        values = listed([f"{row.jaccard:.2f} (seed {row.seed})" for row in own.itertuples()])
        text = f"**{label(task)}**: ARM ↔ MDM {values}"
        for name in ("arm-seeds", "mdm-seeds"):
            other = rows[rows.comparison == name]
            if len(other):
                text += f"; {label(name)} {other.jaccard.mean():.2f}"
        lines.append(text + f"; chance {rows.chance.iloc[0]:.3f}.")
    return bullets(lines)


def published_overlap(table: pd.DataFrame) -> str:
    """Which task the published top 1,000 and top 30 edges overlap more on.

    Args:
        table: :func:`mechshift_lib.comparison.published.overlap_table`.
    """
    by = table.set_index(["series", "task"])
    lines = []
    for series in table.series.unique():
        ioi, countdown = by.loc[(series, "ioi")], by.loc[(series, "countdown")]
        parts = [
            f"top {size}: {ioi[name]:.3f} on IOI, {countdown[name]:.3f} on Countdown"
            for size, name in (("1,000", "top1000"), ("30", "top30"))
        ]
        lines.append(f"**{series}**: {'; '.join(parts)}.")
    return bullets(lines)


def published_depth(table: pd.DataFrame) -> str:
    """Mean source depth of the published edges, with and without those from the embedding.

    Args:
        table: :func:`mechshift_lib.comparison.published.top_edge_depth`.
    """
    lines = []
    for (task, series), rows in table.groupby(["task", "series"], sort=False):
        arm, mdm = (rows[rows.role == role].iloc[0] for role in ("arm", "mdm"))
        lines.append(
            f"**{label(task)}, {series}**: mean source depth {arm.source_depth:.2f} in the ARM, "
            f"{mdm.source_depth:.2f} in the MDM; without the edges from the embedding "
            f"({arm.from_input} and {mdm.from_input} of {arm.n}) {arm.without_input:.2f} and "
            f"{mdm.without_input:.2f}."
        )
    return bullets(lines)
