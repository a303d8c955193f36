"""Sentences with numbers: written from tables, for any pair and any outcome.

Every function takes a table of this package and gives Markdown. Nothing here is true of one pair
only: where a claim of the paper doesn't show, the sentence says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechshift_lib.analyses.study import Study
from mechshift_lib.plots.theme import label

#: A model counts as able to do a task from here on (the level that training aims at).
ABLE = 0.95
#: The paper's share of components that denoising steps have in common.
STABLE = 0.9


def percent(value: float) -> str:
    """``0.953`` -> ``95.3 %``."""
    return f"{100 * value:.1f} %"


def interval(row: pd.Series, name: str, form: str = ".2f") -> str:
    """``0.62 [0.55, 0.70]``."""
    return f"{row[name]:{form}} [{row.low:{form}}, {row.high:{form}}]"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def bullets(lines: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)


def about(study: Study) -> str:
    """What this page is about: pair, tasks, examples, seeds."""
    pair, budget = study.pair, study.budget
    tasks = listed([label(task) for task in pair.tasks])
    seeds = f"{len(pair.seeds)} training seeds" if len(pair.seeds) > 1 else "one training seed"
    left_out = [label(t) for t in ("ioi", "greater-than", "countdown", "infilling")]
    left_out = [name for name in left_out if name not in [label(t) for t in pair.tasks]]
    extra = f" The pair has no {listed(left_out)}." if left_out else ""
    return (
        f"**{pair.title}.** {pair.description.strip()} Tasks: {tasks}; "
        f"{budget.behaviour_examples} held-out examples each; {seeds}.{extra}"
    )


def accuracy(table: pd.DataFrame) -> str:
    """Who can do which task, from :func:`behaviour.accuracy_table`."""
    first = table[table.seed == table.seed.min()]
    lines = []
    for task, rows in first.groupby("task", sort=False):
        by_role = rows.set_index("role")
        parts = [
            f"{label(role)} {percent(row.accuracy)} [{percent(row.low)}, {percent(row.high)}]"
            for role, row in by_role.iterrows()
        ]
        arm, mdm = by_role.loc["arm"], by_role.loc["mdm"]
        if mdm.low > arm.high:
            verdict = "the MDM is better than the ARM"
        elif mdm.high < arm.low:
            verdict = "the MDM is worse than the ARM"
        else:
            verdict = "the intervals of ARM and MDM overlap"
        lines.append(f"**{label(task)}**: {', '.join(parts)}; {verdict}.")
    weak = [
        f"{label(row.task)} ({label(row.role)})"
        for row in first.itertuples()
        if row.accuracy < ABLE and row.role in ("arm", "mdm")
    ]
    tail = (
        f"Below {ABLE:.0%}: {listed(weak)}. There, differences between circuits may come "
        "with differences of ability, and the pool of examples that both solve matters most."
        if weak
        else f"ARM and MDM reach {ABLE:.0%} on every task."
    )
    return f"{bullets(lines)}\n\n{tail}"


def orders(table: pd.DataFrame) -> str:
    """Does the reveal order matter, from :func:`behaviour.order_table`."""
    if table.empty:
        return "Every answer of this pair's tasks is one token, so there is one reveal order only."
    first = table[table.seed == table.seed.min()]
    lines = []
    for task, rows in first.groupby("task", sort=False):
        best, worst = rows.loc[rows.accuracy.idxmax()], rows.loc[rows.accuracy.idxmin()]
        apart = best.low > worst.high
        lines.append(
            f"**{label(task)}**: from {percent(worst.accuracy)} ({label(worst.order)}) to "
            f"{percent(best.accuracy)} ({label(best.order)}); the two intervals "
            f"{'do not overlap' if apart else 'overlap'}."
        )
    return bullets(lines)


def metric(table: pd.DataFrame) -> str:
    """Does corrupting the prompt take the metric down, from :func:`behaviour.metric_table`."""
    weak = table[table.above < ABLE]
    if weak.empty:
        return (
            f"The metric is larger on the clean than on the corrupted prompt for at least "
            f"{percent(table.above.min())} of the examples of every task and model: the "
            "corruption removes what the answer depends on, so there is an effect for a circuit "
            "to carry."
        )
    parts = [
        f"{label(row.task)}, {label(row.role)} ({percent(row.above)})" for row in weak.itertuples()
    ]
    return (
        f"The metric is larger on the clean than on the corrupted prompt for fewer than {ABLE:.0%} "
        f"of the examples in: {'; '.join(parts)}. A circuit found there explains little."
    )


def pool(table: pd.DataFrame, kind: str) -> str:
    """Which examples circuits are taken over, from :func:`behaviour.pool_table`."""
    if kind == "all":
        return (
            "**Circuits on these pages are taken over examples whether they are solved or not** "
            "(`pool = 'all'`): they describe what the models do, which need not be the task."
        )
    lines = []
    for row in table.itertuples():
        control = (
            ""
            if np.isnan(row.continued)
            else f"; the control solves {percent(row.continued)} of these"
        )
        lines.append(
            f"**{label(row.task)}**: ARM and MDM both solve {percent(row.both)} "
            f"[{percent(row.low)}, {percent(row.high)}] of {row.n} examples; circuits use "
            f"{row.used}{control}."
        )
    return bullets(lines)


def strongest(table: pd.DataFrame, task: str) -> str:
    """The strongest edges of the two models, from :func:`circuits.strongest_table`."""
    n = len(table)
    shared = len(set(table["arm edge"]) & set(table["mdm edge"]))
    same = table["arm edge"].iloc[0] == table["mdm edge"].iloc[0]
    return (
        f"**{label(task)}**: of the {n} strongest edges of each model, {shared} are the same; the "
        f"strongest edge is `{table['arm edge'].iloc[0]}` in the ARM"
        + (" and in the MDM." if same else f" and `{table['mdm edge'].iloc[0]}` in the MDM.")
    )


def steps(table: pd.DataFrame) -> str:
    """Are components stable over steps (claim C5), from :func:`circuits.step_table`."""
    if table.empty:
        return "No answer of this pair has several scored tokens, so there are no steps to compare."
    lines = []
    for (task, circuit), rows in table.groupby(["task", "circuit"], sort=False):
        lines.append(
            f"**{label(task)}**, {label(circuit)}: consecutive steps share "
            f"{percent(rows.components.mean())} of their top {rows.k.iloc[0]} components (lowest "
            f"{percent(rows.components.min())}) and have an edge Jaccard of "
            f"{rows.edges.mean():.2f}; cosine of all scores {rows.cosine.mean():.2f}."
        )
    stable = bool((table.groupby(["task", "circuit"]).components.mean() > STABLE).all())
    k = int(table.k.iloc[0])
    verdict = (
        "As the paper reports, more than 90 % of the components stay from step to step."
        if stable
        else "The paper's “more than 90 % of the components shared between steps” (C5) is **not** "
        "met by this measure in every case."
    )
    return (
        f"{bullets(lines)}\n\n{verdict} The paper doesn't give its formula; with K = {k} one "
        f"component more or less is {percent(1 / k)}."
    )


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
            "every local task lies above every global one, but the intervals overlap. **C1 can't be "
            "told** at this number of examples."
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
    """Does the MDM's circuit lie earlier (claim C2), from ``shift`` of :func:`overlap.compare`."""
    sources = table[(table.end == "source") & (table.edges == table.edges.iloc[0])]
    lines, earlier = [], []
    for task, rows in sources.groupby("task", sort=False):
        by = rows.set_index("circuit")
        row = by.loc["mdm"]
        where = (
            "earlier" if row.high < 0 else "later" if row.low > 0 else "neither earlier nor later"
        )
        text = f"**{label(task)}** ({regimes[str(task)]}): MDM minus ARM {_signed(row)}, {where}"
        if "continued" in by.index:
            text += f"; continued minus ARM {_signed(by.loc['continued'])}"
        lines.append(text + ".")
        if row.high < 0 and regimes[str(task)] == "global":
            earlier.append(task)
    tasks_global = [t for t in sources.task.unique() if regimes[t] == "global"]
    if not tasks_global:
        verdict = "The pair has no global task, so C2 can't be told here."
    elif len(earlier) == len(tasks_global):
        verdict = (
            "On every global task the sources of the MDM's circuit lie earlier than the ARM's, "
            "intervals included: **the direction of C2 shows**; its size, beside the paper's 0.2 "
            "to 0.3, is in the figure."
        )
    elif earlier:
        verdict = (
            f"An earlier circuit shows on {listed([label(t) for t in earlier])} but not on every "
            "global task: **C2 is reproduced in part**."
        )
    else:
        verdict = (
            "On no global task do the sources of the MDM's circuit lie earlier beyond the "
            "interval: **C2 is not reproduced on this pair.**"
        )
    return f"{bullets(lines)}\n\n{verdict}"


def _signed(row: pd.Series) -> str:
    return f"{row['shift']:+.3f} [{row.low:+.3f}, {row.high:+.3f}]"


def bias(table: pd.DataFrame) -> str:
    """How far bootstrap draws of an overlap lie from the estimate."""
    rows = table[table.comparison.isin(["arm-mdm", "arm-continued"])]
    return (
        f"Bootstrap draws repeat examples, so their circuits are noisier than the estimate: here "
        f"their overlaps lie on average {rows.bias.mean():+.3f} from it (most: "
        f"{rows.bias.iloc[int(rows.bias.abs().argmax())]:+.3f}). The intervals shown have the "
        "draws' spread and are centred on the estimate; they correct nothing. By the same reason "
        "every overlap here understates the overlap that endless examples would give."
    )


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


def published(overlap_table: pd.DataFrame, depth: pd.DataFrame) -> str:
    """What the published top-30 edges say about C1 and C2.

    Args:
        overlap_table: ``task, series, top1000, top30``.
        depth: :func:`published.top_edge_depth`.
    """
    by = overlap_table.set_index(["series", "task"])
    lines = []
    for series in overlap_table.series.unique():
        ioi, countdown = by.loc[(series, "ioi")], by.loc[(series, "countdown")]
        holds = "holds" if ioi.top30 > countdown.top30 else "is reversed"
        lines.append(
            f"**{series}**: top 1,000 as published {ioi.top1000:.3f} (IOI) and "
            f"{countdown.top1000:.3f} (Countdown); top 30 {ioi.top30:.3f} and "
            f"{countdown.top30:.3f}: C1 {holds} there."
        )
    for (task, series), rows in depth.groupby(["task", "series"], sort=False):
        arm, mdm = (rows[rows.role == role].iloc[0] for role in ("arm", "mdm"))
        lines.append(
            f"**{label(task)}, {series}**: mean source depth {arm.source_depth:.2f} → "
            f"{mdm.source_depth:.2f}; without edges from the embedding ({arm.from_input} and "
            f"{mdm.from_input} of 30) {arm.without_input:.2f} → {mdm.without_input:.2f}."
        )
    return bullets(lines)
