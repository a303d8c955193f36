"""Sentences about comparisons of circuits, written from tables, for any pair and any outcome."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.narrative import bullets, interval, listed, whole
from mechshift_lib.comparison import published
from mechshift_lib.comparison.overlap import PAPER_EDGES, PAPER_FRACTION, REFERENCE_FRACTION
from mechshift_lib.plots.theme import label

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


def overlap(table: pd.DataFrame) -> str:
    """ARM ↔ MDM beside its yardsticks at the reference budget, one line a task."""
    lines = []
    for task, rows in table.groupby("task", sort=False):
        by = rows.set_index("comparison")
        main = by.loc["arm-mdm"]
        text = f"**{label(task)}**: ARM ↔ MDM {interval(main, 'jaccard')}"
        verdicts = [f"chance is {main.chance:.3f}"]
        if "arm-continued" in by.index:
            control = by.loc["arm-continued"]
            text += f", ARM ↔ continued {interval(control, 'jaccard')}"
            verdicts.append(_beside(main, control, "continued autoregressive training"))
        noise = by.loc[["arm-halves", "mdm-halves"]]
        cross = by.loc["arm-mdm-halves"]
        floor = noise.loc[noise.jaccard.idxmin()]
        text += (
            f"; with half of the examples each, ARM ↔ ARM {noise.jaccard.iloc[0]:.2f}, MDM ↔ MDM "
            f"{noise.jaccard.iloc[1]:.2f}, ARM ↔ MDM {cross.jaccard:.2f}"
        )
        verdicts.append(_beside(cross, floor, "the noise of the estimate"))
        lines.append(f"{text}; {'; '.join(verdicts)}.")
    return bullets(lines)


def _beside(row: pd.Series, yardstick: pd.Series, name: str) -> str:
    if row.high < yardstick.low:
        return f"below {name}"
    if row.low > yardstick.high:
        return f"above {name}"
    return f"not told apart from {name}"


def locality(table: pd.DataFrame, regimes: dict[str, str]) -> str:
    """Is the overlap of local tasks above that of global tasks (claim C1)?

    Args:
        table: edge overlaps at one budget.
        regimes: task -> ``local`` or ``global``.
    """
    rows = table[table.comparison == "arm-mdm"].assign(regime=lambda t: t.task.map(regimes))
    local, other = rows[rows.regime == "local"], rows[rows.regime == "global"]
    if local.empty or other.empty:
        return "This pair has tasks of one regime only, so C1 can't be told here."
    text = (
        f"C1 says that local tasks ({listed([label(t) for t in local.task])}) keep more of their "
        f"circuit than global ones ({listed([label(t) for t in other.task])}). Here the local "
        f"tasks' overlaps run from {local.jaccard.min():.2f} to {local.jaccard.max():.2f} and the "
        f"global ones' from {other.jaccard.min():.2f} to {other.jaccard.max():.2f}: "
    )
    if local.low.min() > other.high.max():
        return (
            text + "every local task lies above every global one, intervals included. **C1 shows.**"
        )
    if local.jaccard.min() > other.jaccard.max():
        return text + (
            "every local task lies above every global one, but the intervals overlap. **C1 can't "
            "be told** at this number of examples."
        )
    return text + "the two don't separate. **C1 is not reproduced on this pair.**"


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


def shift(table: pd.DataFrame, regimes: dict[str, str]) -> str:
    """Does the MDM's circuit lie earlier (claim C2), from ``shift`` of :func:`overlap.compare`.

    It counts as earlier only if it is earlier than the ARM's and, where there is a control, earlier
    than the control's, intervals included: else training of any kind could have done it.
    """
    sources = table[(table.end == "source") & (table.edges == table.edges.iloc[0])]
    lines: list[str] = []
    shown: list[str] = []
    not_beyond: list[str] = []
    for task, rows in sources.groupby("task", sort=False):
        by = rows.set_index(["circuit", "base"])
        row = by.loc[("mdm", "arm")]
        where = (
            "earlier" if row.high < 0 else "later" if row.low > 0 else "neither earlier nor later"
        )
        text = f"**{label(task)}** ({regimes[str(task)]}): MDM minus ARM {_signed(row)}, {where}"
        beyond = True
        if ("mdm", "continued") in by.index:
            against = by.loc[("mdm", "continued")]
            beyond = against.high < 0
            text += f"; continued minus ARM {_signed(by.loc[('continued', 'arm')])}"
            text += f"; MDM minus continued {_signed(against)}"
        lines.append(text + ".")
        if row.high < 0 and regimes[str(task)] == "global":
            (shown if beyond else not_beyond).append(str(task))
    tasks_global = [t for t in sources.task.unique() if regimes[t] == "global"]
    if not tasks_global:
        return f"{bullets(lines)}\n\nThe pair has no global task, so C2 can't be told here."
    if len(shown) == len(tasks_global):
        verdict = (
            "On every global task the sources of the MDM's circuit lie earlier than the ARM's and "
            "than the control's, intervals included: **the direction of C2 shows on this pair.**"
        )
    elif shown:
        verdict = (
            f"An earlier circuit shows on {listed([label(t) for t in shown])} but not on every "
            "global task: **C2 is reproduced in part**."
        )
    else:
        verdict = (
            "On no global task do the sources of the MDM's circuit lie earlier beyond the "
            "intervals of ARM and control: **C2 is not reproduced on this pair.**"
        )
    if not_beyond:
        verdict += (
            f" On {listed([label(t) for t in not_beyond])} the circuit does lie earlier than the "
            "ARM's, but no earlier than continued autoregressive training moves it."
        )
    return f"{bullets(lines)}\n\n{verdict} {_published_shifts()}"


def _published_shifts() -> str:
    depth = published.top_edge_depth(published.read_table("top_edges"))
    rows = depth[depth.task == "countdown"].pivot(
        index="series", columns="role", values="source_depth"
    )
    sizes = listed([f"{value:+.2f} ({series})" for series, value in (rows.mdm - rows.arm).items()])
    return f"The published top 30 edges of Countdown shift by {sizes}."


def _signed(row: pd.Series) -> str:
    return f"{row['shift']:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


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
    """Whether C1 holds for the published top 1,000 and top 30 edges.

    Args:
        table: :func:`mechshift_lib.comparison.published.overlap_table`.
    """
    by = table.set_index(["series", "task"])
    lines = []
    for series in table.series.unique():
        ioi, countdown = by.loc[(series, "ioi")], by.loc[(series, "countdown")]
        verdicts = [
            f"top {size}: {ioi[name]:.3f} on IOI, {countdown[name]:.3f} on Countdown, so C1 "
            + ("holds" if ioi[name] > countdown[name] else "is **reversed**")
            for size, name in (("1,000", "top1000"), ("30", "top30"))
        ]
        lines.append(f"**{series}**: {'; '.join(verdicts)}.")
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
