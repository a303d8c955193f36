"""Words of the chapter on attention: what heads look at, and how far they are from the ARM's."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.attention import PROMPT, READS
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

NONE = fmt.Finding(
    "ARM and MDM of this pair solve too few examples of any task in common for their attention to "
    "be compared."
)
CLASSES = (
    "Over the prompt, {mdm_right} of an MDM head's attention goes to the right, where an ARM can't "
    "look (alike at all that it may see, it would be {even_right}). Where answers are read, MASKs "
    "get {mdm_mask}, and what decides the answer {mdm_decisive} in the MDM, {arm_decisive} in the "
    "ARM and {continued_decisive} in the control (means over heads, tasks and {trainings}; n = {n} "
    "examples a task)."
)
GRID = (
    "The head that looks most at the previous token gives it {arm_previous} of its attention in "
    "the ARM and {mdm_previous} in the MDM; the one that looks most at an earlier copy, "
    "{arm_duplicate} and {mdm_duplicate}; at what followed such a copy, {arm_induction} and "
    "{mdm_induction} (training {seed}, over the prompt; n = {n} examples a task)."
)
MOVED = (
    "To make the ARM's heads into the MDM's, {mdm} of the attention of a read has to be moved; "
    "into the control's, {continued}. Two heads of one layer of the ARM are {between} apart (means "
    "over heads and {trainings}; {n})."
)
KEPT = (
    "Of the MDM's heads, {mdm} still look where the head that they were made from looks, more than "
    "where any other of its layer does; of the control's, {continued} (on what both may look at; "
    "by chance {chance}; means over {trainings}, {n})."
)
TURNED = (
    "The head that has turned most is {head}, on {task}: {whole} of its attention is elsewhere "
    "(in the control {control}). The ARM's looks at: {arm}; the MDM's: {mdm} (training {seed}, "
    "n = {n} examples)."
)
WAITING = (
    "Where the first answer token is read, the MDM's heads give the MASKs {first} of their "
    "attention; where the last is read, {last} (means over heads and {trainings}; {n} examples at "
    "a position)."
)
NO_STEPS = fmt.Finding("No task of this pair has an answer of several tokens that is read twice.")
#: Queries in the tables.
QUERIES = {READS: "reads", PROMPT: "prompt"}
DISTANCE = {
    "whole": "over all keys",
    "shared": "over keys that both may look at",
    "classes": "over classes of keys",
}
POINTS = fmt.span("difference", "+.1f", 100)
PERCENT = fmt.value("value", ".0f", 100)


def classes(table: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """What gets how much attention; differences below.

    Args:
        table: of :func:`mechshift_lib.analyses.attention_tables.over_heads`.
        over: rows of :func:`mechshift_lib.analyses.attention_tables.changes`.
    """
    at = table.groupby(["queries", "looked", "model"])[["mass", "uniform"]].mean()

    def percent(queries: str, looked: str, model: str, column: str = "mass") -> str:
        key = (queries, looked, model)
        return _percent(at[column][key]) if key in at.index else fmt.MISSING

    parts = {"even_right": percent(PROMPT, "right", "mdm", "uniform")}
    parts["mdm_mask"] = percent(READS, "mask", "mdm")
    parts["mdm_right"] = percent(PROMPT, "right", "mdm")
    for model in ("arm", "mdm", "continued"):
        parts[f"{model}_decisive"] = percent(READS, "decisive", model)
    said = CLASSES.format(trainings=_trainings(table), n=count_text(table.n), **parts)
    return fmt.Finding(said, _more(over))


def _more(over: pd.DataFrame) -> pd.DataFrame:
    """Differences of classes in points: a column for each two models."""
    compared = [f"{label(r.model)} − {label(r.base)}" for r in over.itertuples()]
    queries = over.queries.map(QUERIES)
    rows = over.assign(compared=compared, queries=queries)
    names = {"queries": "at", "looked": "attention to"}
    return fmt.grid(rows, ["queries", "looked"], "compared", POINTS, names)


def grid(table: pd.DataFrame, seed: int) -> fmt.Finding:
    """The strongest head of each kind, in one training."""
    own = table[table.queries == PROMPT]
    most = own.groupby(["model", "looked"]).mass.max()
    parts = {
        f"{model}_{name}": _percent(most.get((model, name), float("nan")))
        for model in ("arm", "mdm")
        for name in ("previous", "duplicate", "induction")
    }
    return fmt.Finding(GRID.format(seed=seed, n=count_text(table.n), **parts))


def moved(table: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """How far heads are from the ARM's, beside two heads of a layer; over trainings below."""
    means = table.groupby(["task", "model"], sort=False, as_index=False)
    values = means.agg(value=("whole", "mean"), between=("between", "mean"), n=("n", "min"))
    apart = values[values.model == "mdm"].assign(value=values.between, model="between")
    rows = over.assign(
        what=over.distance.map(DISTANCE),
        compared=[f"{label(r.model)} − {label(r.base)}" for r in over.itertuples()],
    )
    names = {"what": "attention that has to be moved, points [95 % over trainings]"}
    shown = fmt.grid(rows, ["task", "what"], "compared", POINTS, names) if len(rows) else None
    return fmt.told(
        MOVED,
        pd.concat([values, apart]),
        ["model"],
        PERCENT,
        shown,
        unit=" %",
        trainings=_trainings(table),
    )


def kept(table: pd.DataFrame) -> fmt.Finding:
    """How many heads are still nearest to where they came from.

    Args:
        table: of :func:`mechshift_lib.analyses.attention_tables.distances`.
    """
    means = table.groupby(["task", "model"], sort=False, as_index=False)
    values = means.agg(value=("kept", "mean"), n=("n", "min"))
    parts = {"trainings": _trainings(table), "chance": _percent(table.chance.mean())}
    return fmt.told(KEPT, values, ["model"], PERCENT, unit=" %", **parts)


def turned(table: pd.DataFrame, seed: int, rows: int) -> fmt.Finding:
    """The heads that are furthest from the ARM's, with what they look at before and after.

    Args:
        table: of :func:`mechshift_lib.analyses.attention_tables.turned`.
        seed: the training.
        rows: how many are listed.
    """
    most = table.iloc[0]
    said = TURNED.format(
        head=most["head"],
        task=label(most.task),
        whole=_percent(most.whole),
        control=_percent(most.control),
        arm=most.arm,
        mdm=most.mdm,
        seed=seed,
        n=most.n,
    )
    texts: Mapping[str, fmt.Text] = {
        "head": lambda row: row["head"],
        "moved, MDM": fmt.value("whole", ".0f", 100),
        "moved, control": fmt.value("control", ".0f", 100),
        "the ARM's looks at": lambda row: row.arm,
        "the ARM's token": lambda row: row.arm_token,
        "the MDM's looks at": lambda row: row.mdm,
        "the MDM's token": lambda row: row.mdm_token,
    }
    return fmt.Finding(said, fmt.lines(table.head(rows), ["task"], texts))


def waiting(table: pd.DataFrame) -> fmt.Finding:
    """Attention to MASKs at the first and at the last answer token that is read."""
    own = table[table.model == "mdm"]
    ends = {}
    for name, pick in (("first", "min"), ("last", "max")):
        at = own.position == own.groupby("task").position.transform(pick)
        each = own[at].groupby("task", sort=False, as_index=False)
        ends[name] = each.agg(mass=("mass", "mean"), n=("n", "min"))
    rows = pd.concat(found.assign(at=name) for name, found in ends.items())
    text, parts = fmt.value("mass", ".0f", 100), {"trainings": _trainings(table)}
    return fmt.told(WAITING, rows, ["at"], text, unit=" %", **parts)


def _percent(share: float) -> str:
    shown = fmt.number(share, ".0f", 100)
    return shown if shown == fmt.MISSING else f"{shown} %"


def _trainings(table: pd.DataFrame) -> str:
    return fmt.trainings(table.seed.nunique())
