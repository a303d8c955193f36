"""Words of the chapter on faithfulness: how small circuits are, and whose serves whom."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.faithfulness import FAITHFUL
from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import label

SMALLEST = (
    "Of all edges, the MDM's smallest circuits of the grid with a faithfulness of {least} "
    "have {mdm} ({n} examples a task)."
)
AREAS = (
    "The MDM's own circuit has a CPR of {mdm/cpr}, random edges one of {mdm/random} ({n} "
    "examples a task)."
)
LOSSES = (
    "Of CPR, the ARM's circuit loses {mdm/arm} inside the MDM, which is {mdm/beyond} more "
    "than inside the control ({n} examples a task)."
)
ALONE = (
    "Of CPR, the ARM's circuit loses {mdm/arm} inside the MDM and random edges {mdm/random} "
    "({n} examples a task; the pair has no control)."
)


def examples(counts: Mapping[str, int], separate: bool) -> str:
    """Task -> number of examples, and whether they are others than circuits were found on."""
    which = "none of which" if separate else "the same, **which flatters them**, that"
    found = listed([f"{n} of {label(task)}" for task, n in counts.items()])
    return f"Circuits are evaluated on solved examples, {which} they were found on: {found}."


def smallest(table: pd.DataFrame) -> fmt.Finding:
    """How small a circuit does its model's task, from :func:`faithfulness.smallest`."""
    texts = {"edges (%)": fmt.value("fraction", "g", 100), "edges": fmt.value("count", "d")}
    texts |= {"faithfulness": fmt.span("faithfulness")}
    texts |= {"teacher-forced tokens right (%)": fmt.value("correct", ".1f", 100)}
    shown = fmt.lines(table, ["task", "model"], texts)
    return fmt.told(SMALLEST, table, ["model"], texts["edges (%)"], shown, " %", least=FAITHFUL)


def areas(table: pd.DataFrame) -> fmt.Finding:
    """CPR and CMD of each model's own circuit beside random edges."""
    own, random = table[table.circuit == table.model], table[table.circuit == "random"]
    rows = pd.concat([own, random.assign(measure="random")])
    names = {"cpr": "CPR", "cmd": "CMD", "random": "CPR of random edges"}
    shown = fmt.grid(rows, ["task", "model"], "measure", fmt.span("value"), names)
    return fmt.told(AREAS, rows, ["model", "measure"], fmt.span("value"), shown)


def losses(lost: pd.DataFrame, kept: pd.DataFrame, excess: pd.DataFrame) -> fmt.Finding:
    """What other circuits lose of the own one's CPR, and what the ARM's keeps beyond random."""
    beyond = excess.assign(model="mdm", circuit="beyond", loss=excess.excess)
    keeps = kept[kept.circuit == "arm"].assign(circuit="kept", loss=lambda rows: rows.kept)
    rows = pd.concat([lost, beyond, keeps])
    names = {"model": "inside", "random": "random edges", "kept": "share that the ARM's keeps"}
    names["beyond"] = "the ARM's minus that in the control"
    shown = fmt.grid(rows, ["task", "model"], "circuit", fmt.span("loss"), names)
    template = LOSSES if len(excess) else ALONE
    return fmt.told(template, rows, ["model", "circuit"], fmt.span("loss"), shown)
