"""Words of the chapter that follows a post-training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label
from mechshift_lib.plots.trajectory import read_label

NOTHING = (
    "This pair ships no trajectory of its models, so how they came about can't be followed here; "
    "`mechshift trajectory` makes one while a training's checkpoints are there."
)
FOLLOWED = "This page follows {n}."
LEFT_OUT = " There is no trajectory of {seeds}, as those models are now."
WAYS = (
    "The MDM's accuracy has gone half of its way, from the ARM asked as an MDM to the end, {each}. "
    "The control's accuracies are {end}."
)
NO_WAY = "nowhere, as it ends where it began"
NOT_LEARNT = "No accuracy changes on the way, so nothing can be before or after it."
NO_CONTROL_END = "not known, as there is no control"
DISTANCE = (
    "As far from the ARM as its control ends, the MDM's circuit has a cosine with the ARM's of "
    "{mdm}; the control's has {continued} ({trainings})."
)
NO_DISTANCE = fmt.Finding("No MDM here gets as far as its control ends, so there is no such point.")
CUE = (
    "The number that is left has a probability of {start} in the ARM asked as an MDM, {lowest} at "
    "its lowest and {end} at the end of the MDM's training{control} ({trainings})."
)
DEPTHS = (
    "The mean depth of the circuit's sources changes by {mdm} in the MDM{control} "
    "({trainings}); where it begins and ends is in the table."
)
HALF = (
    "When the MDM's accuracy on {task} has gone half of its way, the weights have gone {weights} "
    "of theirs{rest} ({trainings}; how far apart these are is in the table)."
)
#: Layers that a table has columns for, the first and the last among them.
COLUMNS = 9
LAYERS = (
    "The residual stream that answers are read from has a linear CKA with the ARM's of {each} "
    "after the last layer; least alike it is after layer {least} (means over tasks and "
    "{trainings}, n = {n})."
)
NO_LAYERS = fmt.Finding("Too few examples are solved by ARM and MDM to compare their layers.")


def left_out(seeds: Sequence[int], followed: int) -> str:
    """Which trainings the page follows, and which not.

    Args:
        seeds: those without a trajectory.
        followed: number of those with one.
    """
    if not followed:
        return NOTHING
    names = f"seed{'s' if len(seeds) != 1 else ''} {listed([str(s) for s in seeds])}"
    return FOLLOWED.format(n=fmt.trainings(followed)) + (
        LEFT_OUT.format(seeds=names) if seeds else ""
    )


def behaviour(table: pd.DataFrame, half: pd.DataFrame) -> fmt.Finding:
    """When the MDM's accuracy has gone half of its way, and where both end.

    Args:
        table: of :func:`trajectory.behaviour`.
        half: of :func:`trajectory.reached`.
    """
    each = [
        f"at step {count_text(part.step.round())} on {label(str(task))}"
        for task, part in half.dropna().groupby("task", sort=False)
    ]
    ends = table.sort_values("step").groupby(["model", "task", "seed"], sort=False).tail(1)
    said = WAYS.format(each=listed(each or [NO_WAY]), end=_ends(ends[ends.model == "continued"]))
    rows = [
        {"model": label(str(model)), "task": label(str(task))}
        | {"accuracy at the end (%), by training": ", ".join(_percent(x) for x in part.accuracy)}
        for (model, task), part in ends.groupby(["model", "task"], sort=False)
    ]
    return fmt.Finding(said, pd.DataFrame(rows))


def _ends(rows: pd.DataFrame) -> str:
    if rows.empty:
        return NO_CONTROL_END
    means = rows.groupby("task", sort=False).accuracy.mean()
    each = [(_percent(x), label(str(task))) for task, x in means.items()]
    return f"{fmt.between(each, ' %')} at its end"


def _percent(share: float) -> str:
    return fmt.number(share, ".0f", 100)


def similarity(table: pd.DataFrame) -> fmt.Finding:
    """MDM and control at one distance.

    Args:
        table: of :func:`trajectory.at_the_controls_distance`.
    """
    known = table[table.mdm.notna()]
    if known.empty:
        return NO_DISTANCE
    each = {
        model: fmt.between(
            [(fmt.number(row[model]), read_label(row["read"])) for _, row in known.iterrows()]
        )
        for model in ("mdm", "continued")
    }
    texts = {
        "MDM": fmt.value("mdm"),
        "continued ARM": fmt.value("continued"),
        "difference [95 % over trainings]": fmt.span("difference", "+.2f"),
        "trainings": lambda row: str(row.n),
    }
    shown = fmt.lines(known.assign(read=known["read"].map(read_label)), ["read"], texts)
    return fmt.Finding(DISTANCE.format(trainings=fmt.means(known.n), **each), shown)


def signals(table: pd.DataFrame) -> fmt.Finding:
    """Where cue and depth begin and end.

    Args:
        table: of :func:`trajectory.signals`.
    """
    said, rows = [], []
    moved: dict[str, list[tuple[str, str]]] = defaultdict(list)
    number = fmt.means([table.seed.nunique()])
    means = table.groupby(["what", "model", "step"], sort=False).value.mean()
    for what in dict.fromkeys(table.what):
        mdm = means[what]["mdm"]
        control = means[what].get("continued")
        written = [_written(what, one) for one in (mdm.iloc[0], mdm.iloc[-1])]
        ends = fmt.MISSING if control is None else _written(what, control.iloc[-1])
        unit = "" if what == "cue" else ", depth"
        columns = ["the ARM asked as an MDM", "the MDM at the end", "the control at the end"]
        rows.append(
            {"what": f"{read_label(what)}{unit}"}
            | dict(zip(columns, [*written, ends], strict=True))
        )
        if what == "cue":
            control_end = "" if control is None else f" (the control ends at {ends})"
            lowest = _written(what, mdm.min())
            said.append(
                CUE.format(
                    start=written[0],
                    lowest=lowest,
                    end=written[1],
                    control=control_end,
                    trainings=number,
                )
            )
            continue
        for model, one in {"mdm": mdm, "continued": control}.items():
            if one is not None:
                change = fmt.number(one.iloc[-1] - one.iloc[0], "+.2f")
                moved[model].append((change, read_label(what)))
    if moved:
        by = {model: fmt.between(changes) for model, changes in moved.items()}
        control_moves = f" and by {by['continued']} in the control" if "continued" in by else ""
        said.append(DEPTHS.format(mdm=by["mdm"], control=control_moves, trainings=number))
    return fmt.Finding(" ".join(said), pd.DataFrame(rows))


def _written(what: str, value: float) -> str:
    return f"{_percent(value)} %" if what == "cue" else fmt.number(value)


CIRCUIT = "the circuit"
#: Curve → its name; depth is in the table only.
NAMES = {
    "displacement": "the weights",
    "listed": "the probability of the number that is left",
    "way": "the circuit of {read}",
    "depth": "the depth of {read}",
}


def shares(table: pd.DataFrame, task: str) -> fmt.Finding:
    """How far each curve has gone when a part of the accuracy's way is gone.

    Args:
        table: of :func:`trajectory.shares`.
        task: the task whose accuracy it is.
    """
    first = table.part.min()
    gone: dict[str, list[tuple[str, str]]] = defaultdict(list)
    rows = []
    for (curve, name), curves in table.groupby(["curve", "read"], sort=False):
        named = NAMES[curve].format(read=read_label(name) if name else "")
        row = {"curve": named}
        for part, values in curves.groupby("part"):
            known = values.share.dropna()
            text = fmt.MISSING if known.empty else _range(known)
            row[f"at {_percent(part)} % of the accuracy's way (%)"] = text
            if len(known) and part == first:
                gone[curve].append((_percent(known.mean()), read_label(name) if name else ""))
        rows.append(row | {"trainings": str(int(curves.step[curves.part == first].count()))})
    number = fmt.means(
        [int(table.step[table.part == first].notna().groupby(table.seed).any().sum())]
    )
    weights = f"{gone['displacement'][0][0]} %" if "displacement" in gone else fmt.MISSING
    rest = [f", {NAMES['listed']} {gone['listed'][0][0]} %"] if "listed" in gone else []
    rest += [f" and {CIRCUIT} {fmt.between(gone['way'], ' %')}"] if "way" in gone else []
    said = HALF.format(task=label(task), weights=weights, rest="".join(rest), trainings=number)
    return fmt.Finding(said, pd.DataFrame(rows))


def _range(values: pd.Series) -> str:
    ends = [_percent(x) for x in (values.mean(), values.min(), values.max())]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def layers(table: pd.DataFrame) -> fmt.Finding:
    """How alike streams are after the last layer, and where least.

    Args:
        table: of :func:`trajectory.layers`.
    """
    if table.empty:
        return NO_LAYERS
    means = table.groupby(["model", "layer"], sort=False).cka.mean().unstack("layer")
    each = [f"{fmt.number(row.iloc[-1])} in the {label(str(m))}" for m, row in means.iterrows()]
    least = [
        f"{int(np.nanargmin(row))} ({fmt.number(row.min())}) in the {label(str(m))}"
        for m, row in means.iterrows()
    ]
    said = LAYERS.format(
        each=listed(each),
        least=listed(least),
        trainings=fmt.trainings(table.seed.nunique()),
        n=count_text(table.n),
    )
    rows = table.groupby(["task", "model", "layer"], sort=False).cka.mean().reset_index()
    last = table.layer.max()
    few = np.unique(np.linspace(0, last, min(last + 1, COLUMNS)).round())
    shown = fmt.grid(
        rows[rows.layer.isin(few)],
        ["task", "model"],
        "layer",
        lambda row: fmt.number(row.cka),
    )
    return fmt.Finding(said, shown)
