"""Words of what stays of a circuit from step to step."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.steps import STATES

KEPT = (
    "Of the attribution that two halves of the examples share, the MDM's circuit at one and the "
    "same answer position keeps {mdm} as more is revealed, the ARM's from one position to the next "
    "{arm} (means over {trainings}, {n} each)."
)
NONE = fmt.Finding(
    "No answer of this pair has several scored tokens, so there are no steps to compare."
)


def steps(trainings: pd.DataFrame) -> fmt.Finding:
    """What stays, over trainings; each training below."""
    if trainings.empty:
        return NONE
    means = trainings.groupby(["task", "model"], sort=False, as_index=False).agg(
        kept=("kept", "mean"), n=("n", "min")
    )
    seeds = trainings.seed.nunique()
    return fmt.told(
        KEPT,
        means,
        ["model"],
        fmt.value("kept", ".0f", 100),
        by_training(trainings),
        " %",
        trainings=f"{seeds} training{'s' if seeds != 1 else ''}",
    )


def by_training(trainings: pd.DataFrame) -> pd.DataFrame:
    """Each training's mean with its interval over examples."""
    rows = trainings.assign(training=[str(seed) for seed in trainings.seed])
    return fmt.grid(rows, ["task", "model"], "training", fmt.span("kept", ".0f", 100))


def comparisons(rows: pd.DataFrame) -> pd.DataFrame:
    """Every comparison, a mean over trainings."""
    by = ["task", "model", "position", "from", "to"]
    means = rows.groupby(by, sort=False, as_index=False).mean(numeric_only=True)
    means["what"] = [
        f"token {int(row.position) + 1}: {STATES[row['from']]} → {STATES[row.to]}"
        if row.model == "mdm"
        else f"token {int(row['from']) + 1} → {int(row.to) + 1}"
        for _, row in means.iterrows()
    ]
    k = int(rows.k.iloc[0])
    texts = {
        "kept (%)": fmt.value("kept", ".0f", 100),
        "cosine without noise": fmt.value("cosine"),
        f"top {k} components in both (%)": fmt.value("top", ".0f", 100),
        "n": fmt.value("n", ".0f"),
    }
    return fmt.lines(means, ["task", "model", "what"], texts)
