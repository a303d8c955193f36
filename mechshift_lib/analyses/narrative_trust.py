"""Sentences about attribution beside exact patching, written from tables, for any outcome."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.narrative import bullets, listed, whole
from mechshift_lib.analyses.trust import EXACT, HALVES, SUBJECTS, USED, measures
from mechshift_lib.plots.theme import label

#: Formats of the table of :func:`means`.
FORMATS = {label(name): "{:.2f}" for name in measures()}
#: Depths that differ by less than this share of a model count as one.
SAME_DEPTH = 0.02


def setting(table: pd.DataFrame, n_edges: int) -> str:
    """What was compared: edges, examples, models."""
    n = int(table.n.max())
    return (
        f"All {n_edges:,} edges, each patched alone, on {n} examples a task; the estimates are "
        "averaged over the same examples. *Untrained* is the ARM's architecture with random "
        "weights, asked the same questions."
    )


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Agreement averaged over tasks: one row per model and estimate, one column a measure."""
    wide = table.pivot_table(
        index=["subject", "estimate"], columns="measure", values="value", sort=False
    ).reset_index()
    order = {name: i for i, name in enumerate(SUBJECTS)}
    wide = wide.sort_values("subject", key=lambda s: s.map(order), kind="stable")
    wide.columns.name = None
    wide.insert(0, "model", wide.pop("subject").map(label))
    wide["estimate"] = wide.estimate.map(label)
    return wide.rename(columns={name: label(name) for name in wide.columns})


def gradients(table: pd.DataFrame) -> str:
    """Does integration raise Pearson and lower Spearman, on trained models and untrained ones?"""
    mean = table.groupby(["subject", "estimate", "measure"], sort=False).value.mean()
    lines = []
    for subject in table.subject.unique():
        parts = []
        for measure in ("pearson", "spearman", "recall-0.05"):
            before, after = mean[subject, "eap", measure], mean[subject, USED, measure]
            parts.append(f"{label(measure)} {before:.2f} → {after:.2f}")
        lines.append(f"**{label(subject)}**: {', '.join(parts)}.")
    trained = [s for s in table.subject.unique() if s != "untrained"]
    change = {
        measure: [mean[s, USED, measure] - mean[s, "eap", measure] for s in trained]
        for measure in ("pearson", "spearman")
    }
    up, down = min(change["pearson"]) > 0, max(change["spearman"]) < 0
    if up and down:
        verdict = (
            "On trained models too, integration finds the strong edges better (Pearson) and ranks "
            "all edges worse (Spearman)."
        )
    elif up and min(change["spearman"]) >= 0:
        verdict = "On these trained models integration is better by both correlations."
    elif up:
        verdict = (
            "On these trained models integration raises Pearson in both; Spearman goes both ways."
        )
    else:
        verdict = "On these trained models integration does **not** raise Pearson in both."
    return f"From {label('eap')} to {label(USED)}:\n\n{bullets(lines)}\n\n{verdict}"


def best(table: pd.DataFrame) -> str:
    """Which estimate agrees best, and whether its error is beyond the noise of the examples."""
    trained = table[table.subject != "untrained"]
    mean = trained.groupby(["measure", "estimate"], sort=False).value.mean()
    parts = []
    for measure in ("pearson", "spearman", "recall-0.05"):
        ranked = mean[measure].drop(HALVES).sort_values(ascending=False)
        parts.append(
            f"{label(measure)}: {label(str(ranked.index[0]))} ({ranked.iloc[0]:.2f}), last "
            f"{label(str(ranked.index[-1]))} ({ranked.iloc[-1]:.2f})"
        )
    used, halves = mean["recall-0.05"][USED], mean["recall-0.05"][HALVES]
    n = int(table.n.max())
    noise = (
        "is **no worse than the noise of the examples**"
        if used >= halves
        else "costs **more than the noise of the examples**"
    )
    return (
        f"Best over tasks and trained models. {'; '.join(parts)}. By the recall of the top 5 %, "
        f"the error of {label(USED)} ({used:.2f}) {noise}: exact scores of one half of {n} "
        f"examples recall {halves:.2f} of the other half's."
    )


def consequences(table: pd.DataFrame) -> str:
    """What would have been concluded from exact patching instead of the estimate that is used."""
    lines, jaccards, depths = [], [], []
    for task, rows in table.groupby("task", sort=False):
        by = rows.set_index("estimate")
        exact, used = by.loc[EXACT], by.loc[USED]
        jaccards.append(used.jaccard - exact.jaccard)
        depths.append(used["shift"] - exact["shift"])
        lines.append(
            f"**{label(str(task))}**: ARM ↔ MDM {used.jaccard:.2f} by {label(USED)}, "
            f"{exact.jaccard:.2f} by exact patching; source depth MDM minus ARM "
            f"{used['shift']:+.3f} and {exact['shift']:+.3f}; the estimated circuits have a "
            f"Jaccard index of {used.arm:.2f} (ARM) and {used.mdm:.2f} (MDM) with the exact ones."
        )
    low, high = min(jaccards), max(jaccards)
    way = (
        "overstates the overlap on every task"
        if low > 0
        else "understates the overlap on every task"
        if high < 0
        else "errs in both directions"
    )
    by_task = table.pivot(index="task", columns="estimate", values="jaccard")
    same = [a for a in by_task.index if by_task[EXACT].rank()[a] == by_task[USED].rank()[a]]
    order = (
        "The order of the tasks is the same."
        if len(same) == len(by_task)
        else "The order of the tasks is **not** the same."
    )
    apart = [
        label(str(t))
        for t, d in zip(table.task.unique(), depths, strict=True)
        if abs(d) > SAME_DEPTH
    ]
    depth = (
        f"The shift of depth differs by more than {whole(SAME_DEPTH)} of the model on "
        f"{listed(apart)}."
        if apart
        else f"The shift of depth differs by no more than {whole(SAME_DEPTH)} of the model."
    )
    return (
        f"{bullets(lines)}\n\nAs a measure of overlap, {label(USED)} {way} ({low:+.2f} to "
        f"{high:+.2f}). {order} {depth}"
    )
