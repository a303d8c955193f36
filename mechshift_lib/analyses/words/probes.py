"""Words of the chapter on probes: what can be read, beside what the input alone gives."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.probe_tables import preferred
from mechshift_lib.analyses.probes import SPLITS
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

READ, SHARE, MORE = (
    fmt.span(name, form, 100)
    for name, form in (("accuracy", ".1f"), ("value", ".1f"), ("value", "+.1f"))
)
LAYERS = (
    "The input alone gives {input} of the next tokens, the MDM's stream {mdm} ({n}, one split)."
)
PLAN = (
    "The input alone gives {input} of the later tokens; at the MASKs that they will replace, the "
    "MDM's stream gives {mdm/own}; where the next token is read, the MDM's gives {mdm/now} and the "
    "ARM's {arm/now} (means over {trainings} and {splits} splits each)."
)
STEPS = (
    "With shuffled labels a probe reads the number of MASKs in {shuffled/number of MASKs} of "
    "cases, with the true ones in {mdm/number of MASKs} (MDM, {n}, one split; a task whose "
    "answer is one token has one step)."
)
AMNESIA = (
    "In percentage points of first tokens, the MDM loses at most {mdm} more than with as many"
    " directions of shuffled labels: each the largest over the layers, so without an interval"
    " ({n})."
)
ONE = fmt.Finding("Every answer of this pair's tasks is one token, so there is nothing to plan.")
NONE = "No label of this pair has two classes, so there is nothing to probe for."


def _percent(name: str) -> fmt.Text:
    return fmt.value(name, ".1f", 100)


TEXTS = {"layer (by validation)": fmt.value("layer", "d"), "accuracy (%)": READ}
BESIDE = {"input alone (%)": _percent("input"), "control task (%)": _percent("control")}
SHUFFLED = {"shuffled labels (%)": _percent("shuffled")}


def examples(table: pd.DataFrame) -> str:
    """How many examples probes are measured on, and that they are one split."""
    if table.empty:
        return NONE
    return (
        f"Accuracies are over n = {count_text(table.n)} held-out examples a task, solved or not; "
        "probes and layers are chosen on the others. This is one split of the first training, but "
        "for later tokens, which are read in all trainings over several."
    )


def layers(table: pd.DataFrame) -> fmt.Finding:
    """How well the token that is read next can be read, beside the input alone."""
    rows = preferred(table, ["task", "model"])
    shown = fmt.lines(rows, ["task", "model"], TEXTS | BESIDE | SHUFFLED)
    alone = rows[rows.model == "arm"].assign(model="input", accuracy=lambda x: x.input, low=None)
    return fmt.told(LAYERS, pd.concat([rows, alone]), ["model"], READ, shown, " %")


def plan(table: pd.DataFrame) -> fmt.Finding:
    """How well later answer tokens can be read before they are written."""
    if table.empty:
        return ONE

    def text(row: pd.Series) -> str:
        return (MORE if " - " in row.what else SHARE)(row)

    def name(end: str) -> str:
        model, _, place = end.partition("/")
        return label(model) + (", own MASKs" if place == "own" else "")

    names = {what: " − ".join(map(name, what.split(" - "))) for what in table.what}

    def ends(row: pd.Series) -> str:
        form = "+.1f" if " - " in row.what else ".1f"
        return f"{fmt.number(row.least, form, 100)} to {fmt.number(row.most, form, 100)}"

    texts = {"mean over trainings [95 %]": text, "single splits": ends}
    shown = fmt.lines(table.assign(read=table.what.map(names)), ["task", "read"], texts)
    n = int(table.n.max())
    parts = {"trainings": f"{n} training{'s' if n != 1 else ''}", "splits": SPLITS}
    value = fmt.value("value", ".1f", 100)
    return fmt.told(PLAN, table, ["what"], value, shown, " %", **parts)


def steps(table: pd.DataFrame) -> fmt.Finding:
    """How well the number of MASKs is read at the end of the prompt, and Countdown's target."""
    rows = preferred(table, ["task", "model", "label"])
    shown = fmt.lines(rows, ["task", "label", "model"], TEXTS | SHUFFLED)
    shuffled = rows.assign(model="shuffled", accuracy=rows.shuffled, low=None)
    return fmt.told(STEPS, pd.concat([rows, shuffled]), ["model", "label"], READ, shown, " %")


def amnesia(table: pd.DataFrame) -> fmt.Finding:
    """What taking the answer's directions out costs, beside those of shuffled labels."""
    if table.empty:
        return fmt.Finding(NONE)
    top = table.loc[table.groupby(["task", "model"], sort=False).extra.idxmax()]
    texts = {"layer": fmt.value("layer", "d"), "directions": fmt.value("rank", "d")}
    heads = {"whole": "whole (%)", "without": "without (%)", "control": "shuffled out (%)"}
    texts |= {head: _percent(name) for name, head in heads.items()}
    shown = fmt.lines(top, ["task", "model"], texts | {"lost beyond (points)": _percent("extra")})
    return fmt.told(AMNESIA, top, ["model"], _percent("extra"), shown)
