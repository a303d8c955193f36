"""Words of the chapter on activation patching: where the answer is, when it arrives, by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label

DEPTH, SHIFT, CORRELATION = (
    fmt.span("depth"),
    fmt.span("depth", "+.2f"),
    fmt.span("correlation"),
)
ARRIVAL = (
    "As a share of the depth, the answer arrives later than in the ARM by {mdm/arm} in the MDM, "
    "and by {continued/arm} in the control (negative: earlier; {n} examples a task)."
)
AGREEMENT = (
    "The effects of all heads correlate by {arm-mdm} between ARM and MDM, by {arm-continued} "
    "between ARM and control ({n} examples a task)."
)
HALFWAY = (
    "Halfway through the model the position that restores most is in the ARM {arm/resid}, in the "
    "MDM {mdm/resid} (each the largest of up to {cells}, so without an interval; {n} examples)."
)
WRITERS = (
    "In the MDM the attention output that restores most is {mdm/attn}, the MLP output {mdm/mlp} "
    "(each the largest of up to {cells}, so without an interval; {n} examples)."
)
HEADS = (
    "In the MDM the head that restores most alone is {mdm} (each the largest of {heads}, so "
    "without an interval; {n} examples)."
)


def examples(counts: Mapping[str, int], asked: int) -> str:
    """Task -> examples of one wording, and how many the budget asks for."""
    found = ", ".join(f"{label(task)} {n}" for task, n in counts.items())
    return (
        "Positions can be averaged only over prompts that are worded alike, so each task's "
        f"examples are of its most frequent wording, at most {asked}: {found}."
    )


def strongest(table: pd.DataFrame) -> fmt.Finding:
    """Which position restores most, from :func:`patching_tables.strongest`."""

    def text(row: pd.Series) -> str:
        where = "" if row.site == "resid" else f", layer {row.layer}"
        return f"“{row.token}”{where} ({fmt.number(row.effect, '.0f', 100)} %)"

    template = HALFWAY if set(table.site) == {"resid"} else WRITERS
    rows = table.assign(what=[f"{label(r.role)}, {label(r.site)}" for r in table.itertuples()])
    shown, cells = fmt.grid(rows, ["task"], "what", text), table.cells.max()
    return fmt.told(template, rows, ["role", "site"], text, shown, cells=cells)


def heads(table: pd.DataFrame) -> fmt.Finding:
    """Which heads restore most alone, from :func:`patching_tables.strongest_heads`."""

    def text(row: pd.Series) -> str:
        effects = (fmt.number(effect, ".0f", 100) for effect in (row.denoise, row.noise))
        return "a{}.h{}: {} % ({} %)".format(row.layer, row["head"], *effects)

    names = {str(rank): f"{rank}. head: restored (lost)" for rank in table["rank"]}
    shown, first = fmt.grid(table, ["task", "role"], "rank", text, names), table["rank"] == 1

    def best(row: pd.Series) -> str:
        return text(row).partition(" (")[0]

    return fmt.told(HEADS, table[first], ["role"], best, shown, heads=table.heads.max())


def arrival(table: pd.DataFrame, regimes: Mapping[str, str]) -> fmt.Finding:
    """When what decides the answer arrives where it is read; tasks are ``local`` or ``global``."""
    minus = {"": "", "arm": " − ARM", "continued": " − continued ARM"}
    what = [label(row.role) + minus[row.base] for row in table.itertuples()]
    rows = table.assign(what=what, regime=table.task.map(regimes))

    def text(row: pd.Series) -> str:
        return (SHIFT if row.base else DEPTH)(row)

    shown = fmt.grid(rows, ["task", "regime"], "what", text)
    return fmt.told(ARRIVAL, rows, ["role", "base"], SHIFT, shown)


def agreement(table: pd.DataFrame) -> fmt.Finding:
    """How alike the effects of all heads are in two models."""
    shown = fmt.grid(table, ["task"], "comparison", CORRELATION)
    return fmt.told(AGREEMENT, table, ["comparison"], CORRELATION, shown)


def steps(several: Sequence[str]) -> str:
    """Which tasks have several scored steps."""
    if not several:
        return "No answer of this pair has several scored tokens, so there are no steps to compare."
    return f"Tasks whose answers have several scored tokens: {listed([label(t) for t in several])}."
