"""Words of the chapter on behaviour: who can do what, and what circuits are taken over."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label

ACCURACY = fmt.span("accuracy", ".1f", 100)
ABOVE = fmt.value("above", ".1f", 100)
BOTH = fmt.span("both", ".1f", 100)
ABLE = (
    "The ARM answers {arm} right and the MDM {mdm} (seed {seed}, {n} held-out examples a task, "
    "Wilson intervals)."
)
ORDERS = (
    "By its own confidence ({order}), the MDM answers {own} right; of the other orders, the one "
    "that changes most, {other} on {task}, changes that by {most} percentage points (seed {seed}, "
    "{n})."
)
ONE_ORDER = fmt.Finding(
    "Every answer of this pair's tasks is one token, so there is one order only."
)
FORMS = (
    "With the blank itself masked, and text on both sides, the MDM fills in {place} right; at the "
    "end of the repeated sentence, {end} (seed {seed}, the same {n})."
)
NO_FORMS = fmt.Finding("This pair has no infilling with a blank in place.")
METRIC = (
    "The metric is larger on the clean than on the corrupted prompt for {arm} in the ARM and {mdm} "
    "in the MDM ({n}); where it isn't, there is no effect for a circuit to carry."
)
POOL = "ARM and MDM both solve {both} ({n} examples a task); circuits are taken over these."
ALL = fmt.Finding(
    "**Circuits on these pages are taken over examples whether they are solved or not** "
    "(`pool = 'all'`): they describe what the models do, which need not be the task."
)


def accuracy(table: pd.DataFrame) -> fmt.Finding:
    """Accuracy of every model on every task, in percent."""
    first = _first(table)
    shown = fmt.grid(table, ["task", "seed"], "role", ACCURACY)
    return fmt.told(ABLE, first, ["role"], ACCURACY, shown, " %", seed=first.seed.iloc[0])


def orders(table: pd.DataFrame, own: str) -> fmt.Finding:
    """The MDM's accuracy under each reveal order; ``own`` is that of its confidence."""
    if table.empty:
        return ONE_ORDER
    first = _first(table)
    named = first.assign(kind=first.order.map({own: "own"}))
    shown = fmt.grid(table, ["order", "seed"], "task", ACCURACY)
    wide = first.pivot(index="task", columns="order", values="accuracy")
    changes = wide.drop(columns=own).sub(wide[own], axis=0).stack()
    task, other = changes.abs().idxmax()
    parts = {"seed": first.seed.iloc[0], "order": own, "other": label(other)}
    parts |= {"task": label(task), "most": fmt.number(changes[task, other], "+.1f", 100)}
    return fmt.told(ORDERS, named, ["kind"], ACCURACY, shown, " %", **parts)


def forms(table: pd.DataFrame) -> fmt.Finding:
    """The MDM's accuracy in infilling's two forms."""
    if table.empty:
        return NO_FORMS
    first = _first(table).set_index("form").accuracy
    shown = fmt.grid(table, ["seed"], "form", ACCURACY)
    said = FORMS.format(
        place=f"{100 * first['in place']:.1f} %",
        end=f"{100 * first['at the end']:.1f} %",
        seed=table.seed.min(),
        n=f"{int(table.n.min()):,} fillers",
    )
    return fmt.Finding(said, shown)


def metric(table: pd.DataFrame) -> fmt.Finding:
    """Examples whose metric falls with the corruption, in percent."""
    return fmt.told(METRIC, table, ["role"], ABOVE, fmt.grid(table, ["task"], "role", ABOVE), " %")


def pool(table: pd.DataFrame, kind: str) -> fmt.Finding:
    """The examples that circuits are taken over."""
    if kind == "all":
        return ALL
    columns = {
        "both solve (%)": BOTH,
        "of": fmt.value("n", ".0f"),
        "circuits use": fmt.value("used", ".0f"),
        "of both's, the control solves (%)": fmt.value("continued", ".1f", 100),
    }
    rows = table.assign(what="both")
    return fmt.told(POOL, rows, ["what"], BOTH, fmt.lines(table, ["task"], columns), " %")


def _first(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.seed == table.seed.min()]
