"""Words of the chapter on components: what each writes, and how few carry the answer."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.components import OWN, RANDOM
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

NONE = fmt.Finding(
    "ARM and MDM of this pair solve too few examples of any task in common for their components "
    "to be compared."
)
TOTALS = (
    "In logits, the answer is ahead of the distractor by {arm} in the ARM and by {mdm} in the MDM "
    "(means over {trainings}, n = {n} examples at a position). What all components add, summed, "
    "is nowhere further than {gap} logits from what the model itself says."
)
GRID = (
    "Of all that heads and MLPs write along answer − distractor, the strongest writes {arm} "
    "in the ARM and {mdm} in the MDM (training {seed}, n = {n} examples at a position)."
)
CARRIED = (
    "Of all heads and MLPs, effectively {arm} carry the answer in the ARM and {mdm} in the MDM; "
    "had they written as much in random directions, the MDM's would be {random} (means over "
    "{trainings}; {n})."
)
TOKENS = (
    "Of the vocabulary, what a component writes falls on effectively {arm} in the ARM and {mdm} in "
    "the MDM; random directions of the MDM's stream on {random} (means over {trainings}; {n})."
)
LENS = (
    "The largest mean logit that a head or MLP adds is {arm} in the ARM and {mdm} in the MDM "
    "(training {seed}, n = {n} examples at a position)."
)
#: Column of a measure -> what heads it, and how it is written; the second form doesn't depend on
#: the number of components.
MEASURES: dict[str, tuple[str, str, str]] = {
    "participation": ("participation ratio (share of all)", ".1f", ".2f"),
    "entropy": ("entropy, nats (of its largest)", ".2f", ".2f"),
    "gini": ("Gini (free of their number)", ".2f", ".2f"),
    "top1": ("share of top 1 (beyond even)", ".2f", ".2f"),
    "top5": ("share of top 5 (beyond even)", ".2f", ".2f"),
    "top10": ("share of top 10 (beyond even)", ".2f", ".2f"),
}
READ = {"participation_free": "carry the answer", "tokens": "tokens written to"}
POINTS = fmt.span("difference", "+.1f", 100)


def totals(table: pd.DataFrame, check: pd.DataFrame) -> fmt.Finding:
    """What each kind of component adds to the difference of logits; that it sums is said."""
    texts = {
        "answer − distractor": fmt.value("total", "+.2f"),
        "heads": fmt.value("head", "+.2f"),
        "MLPs": fmt.value("mlp", "+.2f"),
        "embedding": fmt.value("input", "+.2f"),
        "biases": fmt.value("bias", "+.2f"),
    }
    shown = fmt.lines(table, ["task", "model"], texts)
    parts = {"trainings": _trainings(check), "gap": f"{check.gap.max():.0e}"}
    parts["n"] = count_text(table.n)
    return fmt.told(TOTALS, table, ["model"], fmt.value("total", ".1f"), shown, **parts)


def grid(table: pd.DataFrame, seed: int) -> fmt.Finding:
    """How much of all the strongest component holds, in one training."""
    sized = table.assign(size=table.share.abs())
    by = sized.groupby(["task", "model"], sort=False, as_index=False)
    most = by.agg(share=("size", "max"), n=("n", "min"))
    text = fmt.value("share", ".0f", 100)
    return fmt.told(GRID, most, ["model"], text, unit=" %", seed=seed, n=count_text(most.n))


def carried(table: pd.DataFrame) -> fmt.Finding:
    """Over how many components the answer is spread; all measures below."""
    return fmt.Finding(_spread(CARRIED, table, "participation_free"), _measures(table))


def tokens(table: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """Over how many tokens a component's writing is spread; differences over trainings below."""
    rows = over.assign(
        what=over.reading.map(READ),
        compared=[
            "between two ARMs" if r.model == r.base else f"{label(r.model)} − {label(r.base)}"
            for r in over.itertuples()
        ],
    )
    columns = {"points [95 % over trainings]": POINTS, "trainings": fmt.value("n", "d")}
    return fmt.Finding(
        _spread(TOKENS, table, "tokens"), fmt.lines(rows, ["task", "what", "compared"], columns)
    )


def _spread(template: str, table: pd.DataFrame, reading: str) -> str:
    """A sentence on one reading; ``random`` are the MDM's sizes in random directions."""
    mdm = (table.model == "mdm") & (table.directions == RANDOM)
    named = pd.concat([table[table.directions == OWN], table[mdm].assign(model=RANDOM)])
    means = named.groupby(["task", "model"], sort=False, as_index=False).agg(
        value=(reading, "mean"), n=("n", "min")
    )
    text = fmt.value("value", ".0f", 100)
    parts = {"trainings": _trainings(table)}
    return fmt.told(template, means, ["model"], text, unit=" %", **parts).said


def _measures(table: pd.DataFrame) -> pd.DataFrame:
    """Every measure in both forms, means over trainings; random directions beside each model's."""
    names = [name for measure in MEASURES for name in (measure, f"{measure}_free")]
    means = table.groupby(["task", "model", "directions"], sort=False, as_index=False)[names].mean()
    texts = {head: _both(name, *forms) for name, (head, *forms) in MEASURES.items()}
    return fmt.lines(means, ["task", "model", "directions"], texts)


def _both(name: str, form: str, free: str) -> fmt.Text:
    """``12.3 (0.41)``: a measure, and its form that the number of components doesn't matter to."""

    def text(row: pd.Series) -> str:
        return f"{fmt.number(row[name], form)} ({fmt.number(row[f'{name}_free'], free)})"

    return text


def lens(table: pd.DataFrame, seed: int, n: pd.Series) -> fmt.Finding:
    """The components with the largest mean logits, in the columns of the published table.

    Args:
        table: of :func:`mechshift_lib.analyses.components.strongest`.
        seed: the training.
        n: examples of each task.
    """
    most = table.groupby(["task", "model"], sort=False, as_index=False).first()
    found = most.assign(n=int(n.min()))
    text = fmt.value("logit", ".1f")
    said = fmt.told(LENS, found, ["model"], text, seed=seed, n=count_text(n)).said
    texts: Mapping[str, fmt.Text] = {
        "component": lambda row: row.component,
        "mean logit": fmt.value("logit", ".2f"),
        "top tokens": lambda row: row.tokens,
        "role": lambda row: row.role,
        "in standard deviations": fmt.value("scaled", ".1f"),
    }
    return fmt.Finding(said, fmt.lines(table, ["task", "model"], texts))


def published(table: pd.DataFrame) -> pd.DataFrame:
    """The published rows, in the same columns."""
    texts: Mapping[str, fmt.Text] = {
        "component": lambda row: row.component,
        "mean logit": fmt.value("mean_logit", ".2f"),
        "top tokens": lambda row: row.top_tokens,
        "role": lambda row: row.role,
    }
    return fmt.lines(table, ["task", "model"], texts)


def _trainings(table: pd.DataFrame) -> str:
    return fmt.trainings(table.seed.nunique())
