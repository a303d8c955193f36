"""Words of the chapter on faithfulness: how small circuits are, and whose serves whom."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.faithfulness import FAITHFUL, MATTERS
from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label

CHOSEN = (
    "At sizes that other examples chose, the MDM's own circuits have a faithfulness of {mdm} "
    "(means over {trainings}, {n} examples each)."
)
AREAS = (
    "The area under the curve (CPR) is {mdm/mdm} for the MDM's own circuit and {mdm/random} for "
    "random edges (means over "
    "{trainings}, {n} examples each)."
)
BEYOND = (
    "Of the area under the faithfulness curve (CPR), the ARM's circuit loses {mdm/loss} inside the "
    "MDM, which is {mdm/beyond} more than inside the control (means over {trainings}; from "
    "{matters} on a loss would matter)."
)
ALONE = (
    "Of the area under the faithfulness curve (CPR), the ARM's circuit loses {mdm/loss} inside the "
    "MDM (means over {trainings}; from "
    "{matters} on a loss would matter; the pair has no control)."
)
#: What a side of a margin is called; ``{margin}`` is the margin.
SIDES = {
    "above": "clearly above {margin}",
    "below": "clearly below {margin}",
    "open": "not told from {margin}",
}
WHATS = {
    "faithful": "faithfulness of the own circuit",
    "loss": "CPR lost with the ARM's circuit",
    "beyond": "the same, minus the control's loss",
}


def examples(counts: Mapping[str, int], separate: bool) -> str:
    """Task -> number of examples, and whether they are others than circuits were found on."""
    which = "none of which" if separate else "the same, **which flatters them**, that"
    found = listed([f"{n} of {label(task)}" for task, n in counts.items()])
    return f"Circuits are evaluated on solved examples, {which} they were found on: {found}."


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def sizes(by_seed: pd.DataFrame, concluded: pd.DataFrame) -> fmt.Finding:
    """How small circuits do their model's task, from ``sizes`` and ``conclusions``."""
    texts: dict[str, fmt.Text] = {
        "training": fmt.value("seed", "d"),
        "edges that the halves choose (%)": lambda row: (
            f"{_percent(row['first'])} and {_percent(row['second'])}"
        ),
        "faithfulness on the others": fmt.span("faithfulness"),
        "answers right (%) [exact 95 %]": fmt.span("accuracy", ".0f", 100, "right_"),
        "whole model (%)": fmt.value("whole", ".0f", 100),
    }
    told = concluded[concluded.what == "faithful"].assign(n=int(by_seed.n.max()))
    return fmt.told(
        CHOSEN,
        told,
        ["model"],
        fmt.span("value"),
        fmt.lines(by_seed, ["task", "model"], texts),
        trainings=fmt.trainings(by_seed.seed.nunique()),
    )


def sides(concluded: pd.DataFrame) -> pd.DataFrame:
    """Every conclusion with its interval over trainings and its side of the margin."""
    rows = concluded.assign(asked=concluded.what.map(WHATS))
    texts: dict[str, fmt.Text] = {
        "mean [98 % over trainings]": fmt.span("value"),
        "against the margin": lambda row: SIDES[row.side].format(margin=f"{row.margin:g}"),
        "trainings": fmt.value("n", "d"),
    }
    return fmt.lines(rows, ["asked", "task", "model"], texts)


def areas(table: pd.DataFrame) -> fmt.Finding:
    """CPR of each model's own circuit beside random edges and the other model's circuit."""
    means = table.groupby(["task", "model", "circuit"], sort=False, as_index=False).agg(
        cpr=("cpr", "mean"), n=("n", "min")
    )
    names = {name: f"circuit of the {label(name)}" for name in table.circuit}
    names["random"] = "random edges"
    rows = table.assign(
        training=[str(seed) for seed in table.seed], ranked=table.circuit.map(names)
    )
    shown = fmt.grid(rows, ["task", "model", "training"], "ranked", fmt.span("cpr"))
    return fmt.told(
        AREAS,
        means,
        ["model", "circuit"],
        fmt.value("cpr"),
        shown,
        trainings=fmt.trainings(table.seed.nunique()),
    )


def losses(concluded: pd.DataFrame) -> fmt.Finding:
    """What the ARM's circuit loses in the MDM, beyond the control, against the margin."""
    rows = concluded[concluded.what != "faithful"]
    template = BEYOND if (rows.what == "beyond").any() else ALONE
    return fmt.told(
        template,
        rows,
        ["model", "what"],
        fmt.span("value", "+.2f"),
        sides(rows),
        trainings=fmt.trainings(int(rows.n.max())),
        matters=f"{MATTERS:g}",
    )


def margins() -> str:
    """What counts, and from where the margins are."""
    return (
        f"A circuit counts as doing the task from a faithfulness of {FAITHFUL:g} on, and a loss of "
        f"CPR matters from a twentieth of the task on ({MATTERS:g}): both are judgements. An "
        "interval over trainings that lies on one side of its margin is *clearly* above or below; "
        "one that reaches both, or that there are too few trainings for, is *not told from* it."
    )
