"""Words of the chapter on lenses: how good they are, and how deep answers lie."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.lens import EMERGENCES, READS
from mechshift_lib.plots.theme import count_text, label

NO_TUNED = (
    "The models of this pair are too large for tuned lenses that ship with the book, so this page "
    "has the logit lens only."
)
NOTHING = fmt.Finding("ARM and MDM of this pair solve no examples together, so nothing is read.")
ONE = fmt.Finding(
    "Every answer of this pair's tasks is one token, so there is one mask state only."
)
DEPTHS = (
    "By the {read}, half of the final probability is there at a depth of {each} (means over "
    "{trainings}, n = {n} examples a task and training)."
)
OUTPUT = (
    "The models end with a probability of the answer of {each} (means over tasks and {trainings}, "
    "n = {n} examples a task and training)."
)
STEPS = (
    "With nothing of the answer written, the MDM's output gives its token {token} a probability of "
    "{early}, with all before it written {late} ({task}, n = {n}, {trainings})."
)
#: What is said of the layer in the middle, for each measure, of what over tasks, and how its
#: numbers are written.
HALFWAY = {
    "rank": (
        "Halfway through the layers, on each model's worst task, the wrong tokens ahead of the "
        "answer number {each} (means over {trainings}, n = {n} each).",
        "max",
        ",.0f",
    ),
    "entropy": (
        "Halfway, the prediction's entropy in nats is {each} (means over tasks and {trainings}, "
        "n = {n} each).",
        "mean",
        ".2f",
    ),
}
TOP = (
    "Halfway, the share of answers on top is {each} (means over tasks and {trainings}, n = {n} "
    "each)."
)
DIFFERENCES = (
    "The depth at which half of the final probability is there differs, as a share of all layers, "
    "by {each} (means over tasks and {n})."
)
DIFFERENCE = fmt.span("difference", "+.2f")


def lenses(table: pd.DataFrame) -> fmt.Finding:
    """How close tuned and logit lens come to the output, and how many translators are used."""
    if table.empty:
        return fmt.Finding(NO_TUNED)
    each, rows = [], []
    for model, part in table.groupby("model", sort=False):
        mean = part.groupby("read").kl.mean()
        pair = " and ".join(fmt.number(mean[read]) for read in ("tuned", "logit"))
        each.append(f"{pair} nats ({label(str(model))})")
        own = part[part["read"] == "tuned"]
        rows.append(
            {"model": label(str(model)), "translators used": f"{int(own.used.sum())} of {len(own)}"}
            | {f"{READS[r]} (nats)": fmt.number(mean[r], ".3f") for r in ("tuned", "logit")}
        )
    said = (
        "From the output on texts of no other use, a layer's reading by tuned and by logit lens is "
        f"{fmt.listed(each)} away (means over layers and {_trainings(table)}, n = "
        f"{count_text(table.n)} tokens each)."
    )
    return fmt.Finding(said, pd.DataFrame(rows))


def output(table: pd.DataFrame) -> fmt.Finding:
    """What the models end with, and the entropy and rank of a layer in the middle."""
    if table.empty:
        return NOTHING
    last = table[table.depth == table.depth.max()]
    shown = last.assign(trainings=_trainings(last)).rename(columns={"probability": "value"})
    each = _over_tasks(last, "probability", "mean", ".2f")
    said = OUTPUT.format(each=each, trainings=_trainings(last), n=count_text(last.n))
    texts = {
        "probability": fmt.value("value"),
        "distractor's": fmt.value("distractor"),
        "rank": fmt.value("rank", ".1f"),
        "entropy (nats)": fmt.value("entropy"),
    }
    means = shown.groupby(["task", "model"], sort=False).mean(numeric_only=True).reset_index()
    return fmt.Finding(said, fmt.lines(means, ["task", "model"], texts))


def halfway(table: pd.DataFrame, column: str) -> fmt.Finding:
    """One measure of every model in the middle of the layers."""
    rows = _middle(table)
    template, over, form = HALFWAY[column]
    each = _over_tasks(rows, column, over, form)
    return fmt.Finding(template.format(each=each, trainings=_trainings(rows), n=count_text(rows.n)))


def reads(table: pd.DataFrame) -> fmt.Finding:
    """The share of answers on top in the middle of the layers, by every read of ARM and MDM."""
    rows = _middle(table[table.model.isin(["arm", "mdm"])])
    each = [
        f"{fmt.number(part.top.mean())} ({label(str(model))}, {READS[str(read)]})"
        for (model, read), part in rows.groupby(["model", "read"], sort=False)
    ]
    return fmt.Finding(
        TOP.format(each=fmt.listed(each), trainings=_trainings(rows), n=count_text(rows.n))
    )


def _middle(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the layer that is nearest to the middle."""
    away = (table.depth - 0.5).abs()
    return table[away == away.min()]


def emergence(table: pd.DataFrame) -> fmt.Finding:
    """At which depth answers are there, of every model on every task, by one read."""
    if table.empty:
        return NOTHING
    each = _each(table.assign(x=table.half), "x")
    read = READS[str(table["read"].iloc[0])]
    said = DEPTHS.format(read=read, each=each, trainings=_trainings(table), n=count_text(table.n))
    texts = {"training": fmt.value("seed", "d"), "right (%)": fmt.value("reached", ".0f", 100)}
    texts |= {
        text.replace("\n", " "): fmt.span(name, ".2f", 1, f"{name}_")
        for name, text in EMERGENCES.items()
    }
    return fmt.Finding(said, fmt.lines(table, ["task", "model"], texts))


def differences(table: pd.DataFrame) -> fmt.Finding:
    """Differences of depths between models over trainings, by either lens."""
    if table.empty:
        return NOTHING
    rows = table.assign(
        emergence=table.emergence.map(lambda name: EMERGENCES[name].replace("\n", " ")),
        compared=[f"{label(r.model)} − {label(r.base)}" for r in table.itertuples()],
    )
    half = rows[table.emergence == "half"]
    each = [
        f"{fmt.number(part.difference.mean(), '+.2f')} ({compared}, {READS[read]})"
        for (read, compared), part in half.groupby(["read", "compared"], sort=False)
    ]
    said = DIFFERENCES.format(each=fmt.listed(each), n=_plural(half.n))
    index = ["task", "emergence", "compared"]
    names = {read: f"{text} [95 % over trainings]" for read, text in READS.items()}
    return fmt.Finding(said, fmt.grid(rows, index, "read", DIFFERENCE, names))


def steps(table: pd.DataFrame, task: str) -> fmt.Finding:
    """What the output says of the last answer token before and after the others are written."""
    rows = table[(table.task == task) & (table.layer == table.layer.max())]
    token = int(rows.token.max())
    own = rows[rows.token == token].set_index("step")
    said = STEPS.format(
        token=token + 1,
        early=f"{own.probability[0]:.2f}",
        late=f"{own.probability[token]:.2f}",
        task=label(task),
        n=count_text(own.n),
        trainings=_plural(rows.trainings),
    )
    return fmt.Finding(said)


def grid(table: pd.DataFrame, task: str) -> fmt.Finding:
    """At how many of the positions read, and from which layer on, a right token is on top."""
    if table.empty:
        return NOTHING
    each = []
    for model, part in table.groupby("model", sort=False):
        asked = part[part.wanted != ""]
        least = asked[asked.right].groupby("position").layer.min()
        places = ", ".join(f"{layer}" for layer in least) or "no layer"
        each.append(
            f"from layer {places} at {len(least)} of {asked.position.nunique()} answer positions "
            f"of the {label(str(model))}"
        )
    return fmt.Finding(
        f"A right token of this {label(task)} is first on top {fmt.listed(each)} (one example)."
    )


def _over_tasks(table: pd.DataFrame, column: str, over: str, form: str) -> str:
    """``0.50 in the ARM and 0.70 in the MDM``: mean, or most, of tasks' means over trainings."""
    means = table.groupby(["model", "task"], sort=False)[column].mean()
    each = means.groupby("model", sort=False).agg(over)
    return fmt.listed(
        [f"{fmt.number(value, form)} in the {label(str(model))}" for model, value in each.items()]
    )


def _each(table: pd.DataFrame, column: str, form: str = ".2f") -> str:
    """``0.50 on IOI to 0.70 on Countdown in the ARM``, means over trainings."""
    parts = []
    for model, part in table.groupby("model", sort=False):
        means = part.groupby("task", sort=False)[column].mean()
        values = [(fmt.number(v, form), label(str(task))) for task, v in means.items()]
        parts.append(f"{fmt.between(values)} in the {label(str(model))}")
    return "; ".join(parts)


def _trainings(rows: pd.DataFrame) -> str:
    return fmt.trainings(rows.seed.nunique())


def _plural(n: pd.Series) -> str:
    """``1 training``, ``3–5 trainings``."""
    return f"{count_text(n)} training{'s' if int(n.max()) != 1 else ''}"
