"""Is there a mechanism shift? Likeness and depth of circuits in every training, and over trainings.

In each training the circuits of the MDM, of its control and of the MDM when it was as far from the
ARM as the control ends (``matched``) are compared with the ARM's, over the same examples. What a
claim is about is one number a training; its interval is over trainings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.scores import Scores, scores, scores_key
from mechshift_lib.analyses.study import Study
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.noiseless import noiseless_cosine
from mechshift_lib.comparison.over_seeds import contrast_over_seeds, sign_flip
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, jaccard, top_edges
from mechshift_lib.comparison.verdicts import Contrast
from mechshift_lib.errors import ConfigError
from mechshift_lib.plots.theme import label
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames

ROOMS = ("comparison", "analyses/shift")
LOCAL, GLOBAL = "ioi", "countdown"
#: Circuits that are compared with the ARM's, where a training has them.
OTHERS = ("mdm", "continued", "matched")
#: Fewest examples that two circuits are compared over.
FEWEST = 4
#: Names of what is compared: all answer positions, or one.
ALL = "all"
#: Which edges a depth is of; the second is what is judged, as edges from the embedding have depth 0
#: and leave no room to move.
WITH, WITHOUT = "with the embedding's", "without the embedding's"


def trainings(study: Study, tasks: Sequence[str]) -> list[int]:
    """Seeds in which there are ARM and MDM that solve enough examples of these tasks in common."""
    return [
        seed
        for seed in study.pair.seeds
        if study.has("arm", seed)
        and study.has("mdm", seed)
        and all(len(pool(study, task, seed)) >= FEWEST for task in tasks)
    ]


def likeness(study: Study) -> pd.DataFrame:
    """How alike the circuits of each training are to its ARM's.

    Returns:
        One row per task, training, circuit and answer position: ``task, seed, circuit, read``
        (position from 0, or :data:`ALL`), ``cosine`` (without noise), ``jaccard`` (of the strongest
        edges, as they are), ``count`` (of those), ``n`` (examples).
    """
    return _table(study, "likeness")


def depths(study: Study) -> pd.DataFrame:
    """How deep the sources of each training's circuits lie.

    Returns:
        One row per task, training and circuit, ``edges`` :data:`WITH` or :data:`WITHOUT`:
        ``task, seed, circuit, edges, depth`` (layers / number of layers, mean over the strongest
        edges weighted by |score|), ``count, n``.
    """
    return _table(study, "depth")


def _table(study: Study, name: str) -> pd.DataFrame:
    """A table of all tasks and trainings.

    Raises:
        ConfigError: no task has enough examples in any training.
    """
    parts = [
        of_training(study, task, seed)[name]
        for task in study.pair.tasks
        for seed in trainings(study, [task])
    ]
    if not parts:
        raise ConfigError(
            f"ARM and MDM of {study.pair.name!r} solve fewer than {FEWEST} examples of every task "
            "in common, so no circuits can be compared: train longer, or set pool = 'all'."
        )
    return pd.concat(parts, ignore_index=True)


def of_training(study: Study, task: str, seed: int) -> Frames:
    """:func:`likeness` and :func:`depths` of one training on one task."""
    return stored(study, "shift", ROOMS, task, seed, compared)


def stored(
    study: Study,
    kind: str,
    rooms: tuple[str, ...],
    task: str,
    seed: int,
    compare: Callable[[Mapping[str, Scores]], Frames],
) -> Frames:
    """Tables made of one training's circuits on one task, from the store.

    Args:
        study: the study.
        kind: what they are stored as.
        rooms: code that they depend on.
        task: name of the task; with the seed it stands in the tables' first columns.
        seed: the training.
        compare: makes them from the scores of the ARM's and every other circuit that there is.
    """
    names = ["arm", *(name for name in OTHERS if study.has(name, seed))]
    keys = {name: scores_key(study, task, name, seed) for name in names}
    key = study.key("arm", seed, task, rooms) | {
        "circuits": {name: about_address("circuits", one) for name, one in keys.items()}
    }

    def compute() -> Frames:
        frames = compare({name: scores(study, task, name, seed) for name in names})
        for frame in frames.values():
            frame.insert(0, "task", task)
            frame.insert(1, "seed", seed)
        return frames

    return study.frames(kind, key, compute)


def compared(found: Mapping[str, Scores]) -> Frames:
    """The tables of :func:`of_training` from scores alone (without task and seed)."""
    arm = found["arm"]
    count = max(1, round(REFERENCE_FRACTION * len(arm.edges)))
    source, embedded = arm.edges.source_depth, arm.edges.source < 0
    alike, deep = [], []
    for name, one in found.items():
        top = top_edges(one.mean, count)
        about = {"circuit": name, "count": count, "n": len(one.examples)}
        for edges, mask in ((WITH, top), (WITHOUT, top & ~embedded)):
            depth = float(centre_of_mass(one.mean, source, mask))
            deep.append(about | {"edges": edges, "depth": depth})
        if name != "arm":
            alike += [about | row for row in _alike(arm, one, count)]
    return {"likeness": pd.DataFrame(alike), "depth": pd.DataFrame(deep)}


def _alike(arm: Scores, other: Scores, count: int) -> list[dict[str, float | str | int]]:
    """Both measures over all answer positions that the two have, and at each of them."""
    common = np.intersect1d(arm.reads, other.reads)
    a, b = (one.by_read[np.searchsorted(one.reads, common)] for one in (arm, other))
    places = {ALL: (np.nanmean(a, axis=0), np.nanmean(b, axis=0))}
    places |= {str(read): (a[i], b[i]) for i, read in enumerate(common)}
    rows: list[dict[str, float | str | int]] = []
    for read, pair in places.items():
        asked = ~np.isnan(pair[0]).any(axis=1) & ~np.isnan(pair[1]).any(axis=1)
        first, second = (one[asked] for one in pair)
        if len(first) < FEWEST:
            continue
        tops = [top_edges(one.mean(axis=0, dtype=np.float64), count) for one in (first, second)]
        row: dict[str, float | str | int] = {
            "read": read,
            "cosine": noiseless_cosine(first, second),
            "jaccard": float(jaccard(*tops)),
            "n": len(first),
        }
        rows.append(row)
    return rows


def differences(table: pd.DataFrame, value: str = "cosine", read: str = ALL) -> pd.DataFrame:
    """How much more alike circuits are to the ARM's on IOI than on Countdown, in each training.

    Args:
        table: of :func:`likeness`.
        value: the column that is compared.
        read: answer position on Countdown (IOI has one).

    Returns:
        ``[seed, circuit]``; empty where no training has both tasks.
    """
    here = table[table.read == np.where(table.task == GLOBAL, read, ALL)]
    wide = here.pivot_table(value, ["seed", "circuit"], "task")
    if not {LOCAL, GLOBAL} <= set(wide.columns):
        return pd.DataFrame()
    return (wide[LOCAL] - wide[GLOBAL]).dropna().unstack("circuit")


def earlier(table: pd.DataFrame, task: str, edges: str = WITHOUT) -> pd.DataFrame:
    """How much earlier than the ARM's the sources of circuits lie, in each training.

    Args:
        table: of :func:`depths`.
        task: the task.
        edges: which edges the depth is of.

    Returns:
        ``[seed, circuit]``, in layers / number of layers.
    """
    here = table[(table.task == task) & (table.edges == edges)]
    wide = here.pivot_table("depth", "seed", "circuit")
    return wide.drop(columns="arm").rsub(wide["arm"], axis=0)


#: What is held against what: a circuit, and the one whose number is taken off (none: the ARM's own,
#: which is 0).
HELD = {
    "mdm": ("mdm", ""),
    "mdm-continued": ("mdm", "continued"),
    "matched-continued": ("matched", "continued"),
    "mdm-matched": ("mdm", "matched"),
}


def over_trainings(values: pd.DataFrame) -> dict[str, Contrast]:
    """Contrasts of :func:`differences` or :func:`earlier`, over trainings.

    Returns:
        A name of :data:`HELD` -> contrast, positive where the claim is right: of the MDM; that
        beyond the control's; the same of the MDM when it was no further from the ARM than the
        control; and the MDM's beyond that. Only those that some training has.
    """
    return {name: contrast_over_seeds(list(x), name) for name, x in _held(values).items()}


def contrast_table(values: pd.DataFrame) -> pd.DataFrame:
    """:func:`over_trainings` as a table: ``contrast, value, low, high, n, flips`` (one-sided exact
    p of the sign-flip test, which with n trainings is never below 2⁻ⁿ).
    """
    held = _held(values)
    rows = [
        {"contrast": name, "value": c.effect, "low": c.low, "high": c.high, "n": c.n}
        | {"flips": sign_flip(list(held[name]))}
        for name, c in over_trainings(values).items()
    ]
    return pd.DataFrame(rows, columns=["contrast", "value", "low", "high", "n", "flips"])


def _held(values: pd.DataFrame) -> dict[str, pd.Series]:
    """Name of :data:`HELD` -> one number a training that has both circuits."""
    found = {}
    for name, (circuit, base) in HELD.items():
        if {circuit, base} - {""} <= set(values.columns):
            taken = values[base] if base else 0.0
            numbers = (values[circuit] - taken).dropna()
            if len(numbers):
                found[name] = numbers
    return found


def shown_likeness(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`likeness` for the figure: every task over all positions, and where it has several, its
    first by itself, where the whole answer is still to be planned. ``what`` names the two.
    """
    several = table[table.read != ALL].groupby("task").read.nunique()
    first = table.read.eq("0") & table.task.isin(several.index[several > 1])
    named = [
        f"{label(task)}{', first token' if read != ALL else ''}"
        for task, read in zip(table.task, table.read, strict=True)
    ]
    return table.assign(what=named)[first | (table.read == ALL)]


def shown_earlier(table: pd.DataFrame, edges: str = WITHOUT) -> pd.DataFrame:
    """:func:`earlier` of all tasks: ``task, seed, circuit, earlier, n``."""
    here = table[table.edges == edges]
    own = here[here.circuit == "arm"].set_index(["task", "seed"]).depth
    rest = here[here.circuit != "arm"]
    base = own.reindex(pd.MultiIndex.from_frame(rest[["task", "seed"]])).to_numpy()
    return rest.assign(earlier=base - rest.depth)[["task", "seed", "circuit", "earlier", "n"]]


def c1_table(table: pd.DataFrame) -> pd.DataFrame:
    """C1's contrasts of both measures and of Countdown's first token: ``what`` and the columns of
    :func:`contrast_table`.
    """
    kinds = {
        "cosine without noise": ("cosine", ALL),
        "the same, Countdown's first token": ("cosine", "0"),
        "Jaccard index, as measured": ("jaccard", ALL),
    }
    return _stacked({name: differences(table, *kind) for name, kind in kinds.items()})


def c2_table(table: pd.DataFrame, edges: str = WITHOUT) -> pd.DataFrame:
    """C2's contrasts on every task, local ones too: ``what`` and :func:`contrast_table`."""
    tasks = dict.fromkeys(table.task)
    return _stacked({label(task): earlier(table, task, edges) for task in tasks})


def _stacked(values: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(
        [contrast_table(one).assign(what=name) for name, one in values.items()], ignore_index=True
    )


def room(table: pd.DataFrame, task: str, least: float) -> bool:
    """Whether the ARM's circuit lies deep enough in every training to move ``least`` earlier."""
    own = table[(table.task == task) & (table.circuit == "arm") & (table.edges == WITHOUT)].depth
    return bool(len(own)) and not own.isna().any() and float(own.min()) >= least
