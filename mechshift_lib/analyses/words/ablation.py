"""Words of the targeted ablations: which heads are taken away, and what that costs."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.ablation import ABLATIONS, CONTRASTS, KINDS
from mechshift_lib.plots.theme import count_text

SETS = (
    "Each model loses {k} heads at once; {random} random sets without any of the early heads stand "
    "beside them in each training."
)
SOLVED = (
    "Of the held-out examples the MDM still solves {early} with its early heads zeroed, and "
    "{random} with random others zeroed (means over {trainings}, {n} each)."
)
MORE = (
    "In percentage points of answers that are right, zeroing the MDM's early heads costs {mdm} "
    "more than zeroing random others (means over {trainings})."
)
NONE = fmt.Finding("ARM and MDM solve too few examples in common for heads to be taken away.")
POINTS = fmt.span("value", "+.0f", 100)


def sets(table: pd.DataFrame) -> fmt.Finding:
    """Which heads each model loses in each training."""
    if table.empty:
        return NONE
    texts = {
        "training": fmt.value("seed", "d"),
        "early heads": lambda row: row.early.replace("+", ", "),
        "their share of all heads' attribution (%)": fmt.value("mass", ".0f", 100),
        "later heads": lambda row: row.later.replace("+", ", "),
        "random sets": fmt.value("random", "d"),
    }
    k = count_text(table.early.str.count(r"\+") + 1)
    said = SETS.format(k=k, random=count_text(table.random))
    return fmt.Finding(said, fmt.lines(table, ["task", "model"], texts))


def losses(table: pd.DataFrame) -> fmt.Finding:
    """What the MDM still solves; the accuracies of all models in all trainings below."""
    if table.empty:
        return NONE
    zeroed = table[(table.ablation == "zero") & (table.model == "mdm")]
    means = zeroed.groupby(["task", "kind"], sort=False, as_index=False).agg(
        accuracy=("accuracy", "mean"), n=("n", "min")
    )
    rows = table.assign(
        without=[f"{KINDS.get(r.kind, r.kind)}, {r.ablation}" for r in table.itertuples()],
        training=[str(seed) for seed in table.seed],
    )
    rows["without"] = rows.without.replace("none, none", "nothing taken away")
    shown = fmt.grid(
        rows, ["task", "model", "training"], "without", fmt.span("accuracy", ".0f", 100)
    )
    text = fmt.value("accuracy", ".0f", 100)
    return fmt.told(
        SOLVED, means, ["kind"], text, shown, " %", trainings=fmt.trainings(table.seed.nunique())
    )


def contrasts(table: pd.DataFrame) -> fmt.Finding:
    """How much more the early heads cost than others, over trainings."""
    if table.empty:
        return NONE
    rows = table.assign(
        compared=[
            f"{' '.join(CONTRASTS[row.contrast].split())}, beyond {KINDS[row.against]}"
            for row in table.itertuples()
        ]
    )
    texts = {ABLATIONS[x]: x for x in ABLATIONS if x in set(table.ablation)}
    shown = fmt.grid(
        rows, ["task", "compared"], "ablation", POINTS, {x: name for name, x in texts.items()}
    )
    told = table[(table.against == "random") & (table.ablation == "zero")]
    text, n = fmt.value("value", "+.0f", 100), int(table.n.max())
    return fmt.told(MORE, told, ["contrast"], text, shown, trainings=fmt.trainings(n))
