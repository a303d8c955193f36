"""Words of the chapter on dictionaries: how good they are, whose features are, what they do."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.features import ALONE, TOGETHER, USED
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label

TOO_WIDE = fmt.Finding(
    "The models of this pair are too wide for crosscoders that ship with the book, so none are "
    "read."
)
NO_CONTROL = (
    "This pair has no continued-training control, so what mere further training does to features "
    "can't be said."
)
QUALITY = (
    "A model's own dictionary explains {explained} of the variance of its stream, with {active} "
    "features at a token; run on the reconstruction, {recovered} of the loss between mean ablation "
    "and the whole model is recovered (means over {trainings}, n = {n} predicted tokens)."
)
WHOSE = (
    "Of all live features, both models have {shared} alike. Of the MDM only, and by latent scaling "
    "too, are {mdm} on whole texts and {used} with masks{control} (means over {trainings}; {n} "
    "live features each)."
)
CONTROL_ONLY = "; of the continued ARM only, {}"
AGAIN = (
    "In a dictionary from another random start, features find their nearest at a mean cosine of "
    "{matching} (random ones: {chance}), and the relative norms of such pairs correlate by "
    "{relative} (training {seed})."
)
CARDS = "The {shown} features nearest to MDM only, of {n} live ones (training {seed}); all below."
LOST = (
    "Without the features of the MDM only, the answer's lead over the distractor falls, in logits, "
    "by {mdm}; without as many others of the same size, by {others} (means over {trainings}, n = "
    "{n} examples a task)."
)
NO_EFFECT = fmt.Finding(
    "No feature of the MDM as it is used passes both tests, so there is none to take out."
)
#: Crosscoders as they are told and shown.
NAMES = {
    "arm-mdm": "ARM and MDM, whole texts",
    USED: "ARM and MDM, MDM with masks",
    "arm-continued": "ARM and continued ARM",
    "arm-matched": "ARM and MDM as far as the control",
}
#: Crosscoders that the sentence tells; the table has all.
TOLD = ("arm-mdm", USED, "arm-continued")
READINGS = {"shared": "shared", "other": "of it only", "other_confirmed": "and by latent scaling"}


def quality(table: pd.DataFrame) -> fmt.Finding:
    """How much dictionaries explain, and what their reconstruction leaves of the model."""
    means = table.groupby(["name", "model"], sort=False, as_index=False).mean(numeric_only=True)
    own = means[means.name == means.model]
    texts: Mapping[str, fmt.Text] = {
        "variance explained (%)": fmt.value("explained", ".1f", 100),
        "features a token": fmt.value("active", ".1f"),
        "dead": fmt.value("dead", ".1f"),
        "of": fmt.value("features", ".0f"),
        "loss (nats)": fmt.value("whole"),
        "reconstructed": fmt.value("reconstructed"),
        "at its mean": fmt.value("mean"),
        "recovered (%)": fmt.value("recovered", ".1f", 100),
    }
    shown = fmt.lines(means, ["model"], texts)
    of = [NAMES.get(name, f"{label(name)} alone") for name in means.name]
    shown.insert(0, "dictionary", of)
    said = QUALITY.format(
        explained=_range(own.explained, ".0f", 100, " %"),
        active=fmt.listed([f"{x:.0f}" for x in sorted(set(own.active.round()))]),
        recovered=_range(own.recovered, ".0f", 100, " %"),
        trainings=_trainings(table),
        n=count_text(table.n[table.name == table.model]),
    )
    return fmt.Finding(said, shown)


def whose(table: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """How many features are of one model only; differences over trainings below."""
    first = table[table.start == 0]
    means = first.groupby("name", sort=False, as_index=False).mean(numeric_only=True)
    means = means.set_index("name")
    alike = [
        (f"{fmt.number(means.shared[name], '.0f', 100)} %", NAMES[name])
        for name in TOLD
        if name in means.index
    ]
    only = {
        name: f"{fmt.number(value, '.1f', 100)} %" for name, value in means.other_confirmed.items()
    }
    control = only.get("arm-continued")
    said = WHOSE.format(
        shared=fmt.by_model(alike),
        mdm=only.get("arm-mdm", fmt.MISSING),
        used=only.get(USED, fmt.MISSING),
        control=CONTROL_ONLY.format(control) if control else "",
        trainings=_trainings(first),
        n=count_text(first.live),
    )
    if "arm-continued" not in set(first.name):
        said = f"{said} {NO_CONTROL}"
    rows = over.assign(
        test=over.reading.map(READINGS),
        compared=[f"{NAMES[r.model]} − {NAMES[r.base]}" for r in over.itertuples()],
    )
    columns = {
        "points [95 % over trainings]": fmt.span("difference", "+.1f", 100),
        "trainings": fmt.value("n", "d"),
    }
    return fmt.Finding(said, fmt.lines(rows, ["compared", "test"], columns))


def again(table: pd.DataFrame, counted: pd.DataFrame) -> fmt.Finding | None:
    """What another random start of the dictionary gives, where there is one."""
    if table.empty:
        return None
    both = counted[counted.name.isin(table.name) & (counted.seed == table.seed.iloc[0])]
    said = AGAIN.format(
        **{x: _range(table[x]) for x in ("matching", "chance", "relative")},
        seed=int(table.seed.iloc[0]),
    )
    columns = {"random start": fmt.value("start", "d"), "live features": fmt.value("live", "d")}
    heads = {"shared": "shared (%)", "arm": "ARM only (%)", "other": "the other only (%)"}
    columns |= {head: fmt.value(name, ".1f", 100) for name, head in heads.items()}
    shown = fmt.lines(both, [], columns)
    shown.insert(0, "crosscoder", [NAMES[name] for name in both.name])
    return fmt.Finding(said, shown)


def cards(table: pd.DataFrame, most: int, seed: int, tasks: list[str]) -> fmt.Finding:
    """The first cards: whose the feature is, what it promotes, where it is active."""
    shown = table.head(most)
    texts: dict[str, fmt.Text] = {
        "feature": fmt.value("feature", "d"),
        "MDM's share": fmt.value("relative"),
        "latent scaling": fmt.value("errors"),
        "promotes": lambda row: row.promoted,
        "on": lambda row: row.on,
        "at masks (%)": fmt.value("at masks", ".0f", 100),
    }
    texts |= {f"{label(task)} (%)": fmt.value(task, ".0f", 100) for task in tasks}
    texts["where it is most active"] = lambda row: row.contexts.split(" | ")[0]
    said = CARDS.format(shown=len(shown), n=len(table), seed=seed)
    return fmt.Finding(said, fmt.lines(shown, [], texts))


def lost(table: pd.DataFrame, alone: pd.DataFrame, tasks: list[str]) -> fmt.Finding:
    """What the answer loses without the features of the MDM only, and without others."""
    means = table.groupby(["task", "what"], sort=False, as_index=False).lost.mean()
    by = {
        what: fmt.between([(fmt.number(r.lost), label(r.task)) for r in _rows(part)])
        for what, part in means.groupby("what", sort=False)
    }
    others = next(text for what, text in by.items() if what != TOGETHER)
    said = LOST.format(
        mdm=by[TOGETHER], others=others, trainings=_trainings(table), n=count_text(table.n)
    )
    texts: dict[str, fmt.Text] = {
        "feature": fmt.value("feature", "d"),
        "whose": lambda row: "MDM only" if row.what == ALONE else "both models'",
    }
    texts |= {f"{label(task)} (logits)": fmt.value(task) for task in tasks}
    return fmt.Finding(said, fmt.lines(alone, [], texts))


def _rows(table: pd.DataFrame) -> list[pd.Series]:
    """Rows whose columns are attributes, ``name`` too."""
    return list(table.itertuples())  # type: ignore[arg-type]


def _range(values: pd.Series, form: str = ".2f", scale: float = 1, unit: str = "") -> str:
    """``0.52 to 0.85``, of all models or dictionaries; one number where they are written alike."""
    ends = dict.fromkeys(fmt.number(x, form, scale) for x in (values.min(), values.max()))
    return f"{' to '.join(ends)}{unit}"


def _trainings(table: pd.DataFrame) -> str:
    return fmt.trainings(table.seed.nunique())
