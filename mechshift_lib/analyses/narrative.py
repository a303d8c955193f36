"""Sentences with numbers: written from tables, for any pair and any outcome.

Every function takes a table of this package and gives Markdown. Nothing here is true of one pair
only: where a claim of the paper doesn't show, the sentence says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.plots.theme import label

#: A model counts as able to do a task from here on (the level that training aims at).
ABLE = 0.95


def percent(value: float) -> str:
    """``0.953`` -> ``95.3 %``."""
    return f"{100 * value:.1f} %"


def whole(value: float) -> str:
    """``0.95`` -> ``95 %``."""
    return f"{100 * value:.0f} %"


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
        f"Below {whole(ABLE)}: {listed(weak)}. There, differences between circuits may come "
        "with differences of ability, and the pool of examples that both solve matters most."
        if weak
        else f"ARM and MDM reach {whole(ABLE)} on every task."
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
        if best.accuracy == worst.accuracy:
            lines.append(f"**{label(task)}**: {percent(best.accuracy)} under every order.")
            continue
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
        "The metric is larger on the clean than on the corrupted prompt for fewer than "
        f"{whole(ABLE)} of the examples in: {'; '.join(parts)}. "
        "A circuit found there explains little."
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


def graph(found: Graph, study: Study) -> str:
    """Size of the graph and how attribution was run."""
    budget = study.budget
    return (
        f"The graph has {found.n_layers} layers of {found.n_heads} heads ({found.n_kv_heads} "
        f"key/value heads; {found.kv} key and value edges) and {found.n_edges:,} edges. EAP-IG "
        f"with {budget.ig_steps} interpolation points; at most {budget.circuit_examples} examples "
        "a task."
    )


def diagram(table: pd.DataFrame, task: str) -> str:
    """How many of the drawn edges the models share, from :func:`circuits.diagram_table`."""
    shared = int((table.arm & table.mdm).sum())
    return (
        f"**{label(task)}**: {shared} of the {int(table.arm.sum())} strongest edges of the ARM are "
        f"among the {int(table.mdm.sum())} strongest of the MDM."
    )


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
    """What consecutive steps share, from :func:`circuits.step_table`."""
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
    k = int(table.k.iloc[0])
    return (
        f"{bullets(lines)}\n\nThe paper doesn't give its formula; with K = {k} one component more "
        f"or less is {percent(1 / k)}."
    )
