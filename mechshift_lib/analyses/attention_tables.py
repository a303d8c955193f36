"""What is shown of attention: means over heads and tasks, and differences over trainings."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.attention import PROMPT, READS
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.attention import CLASSES

#: Differences that are given over trainings: model, minus base.
DIFFERENCES = (("mdm", "arm"), ("continued", "arm"), ("mdm", "continued"), ("matched", "continued"))
#: How far a model's heads are from the ARM's: columns of the table ``moved``.
DISTANCES = ("whole", "shared", "classes")
#: Heads of a table, and classes that are named of each.
LISTED, NAMED = 12, 2
#: Least attention that is told of, which is written as 1 %.
TOLD = 0.005
#: What a map of heads shows: queries, class.
SHOWN = (
    (PROMPT, "previous"),
    (PROMPT, "duplicate"),
    (PROMPT, "induction"),
    (PROMPT, "right"),
    (READS, "itself"),
    (READS, "first"),
    (READS, "mask"),
    (READS, "decisive"),
    (READS, "answer"),
)


def over_heads(table: pd.DataFrame) -> pd.DataFrame:
    """Means over heads, then tasks that have such keys: ``seed, model, queries, looked``.

    Returns:
        These with ``mass, uniform, part`` and ``n``, the fewest examples of a task; in the order of
        :data:`CLASSES`, without those that nobody sees.
    """
    by = ["task", "seed", "model", "queries", "looked"]
    means = {name: (name, "mean") for name in ("mass", "uniform", "part")} | {"n": ("n", "min")}
    found = table.groupby(by, sort=False, as_index=False).agg(**means)
    mean = found.groupby(by[1:], sort=False, as_index=False).agg(**means)
    seen = mean.groupby(["queries", "looked"]).mass.transform("count") > 0
    order = mean.looked.map(CLASSES.index)
    return mean[seen].assign(order=order).sort_values("order", kind="stable").drop(columns="order")


def changes(table: pd.DataFrame) -> pd.DataFrame:
    """How much more a class gets than in another model, over trainings.

    Args:
        table: of :func:`over_heads`.

    Returns:
        ``queries, looked, model, base, difference, low, high, n`` (trainings). A class that a model
        never sees gets nothing of it.
    """
    rows = []
    for (queries, looked), part in table.groupby(["queries", "looked"], sort=False):
        wide = part.pivot(index="seed", columns="model", values="mass")
        if wide.notna().any(axis=None):
            about = {"queries": queries, "looked": looked}
            rows += [about | found for found in differences(wide.fillna(0.0), DIFFERENCES)]
    columns = ["queries", "looked", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def distances(table: pd.DataFrame) -> pd.DataFrame:
    """How far heads are from the ARM's, means over heads of each task and training.

    Args:
        table: the table ``moved``.

    Returns:
        ``task, seed, model``, :data:`DISTANCES`, ``between``, ``kept`` (share of heads that are
        closer to the head they came from than to any other of its layer), ``chance`` (of that, if
        heads had changed places at random), ``n``.
    """
    kept = (table.shared < table.nearest).astype(float).where(table.nearest.notna())
    own = table.assign(kept=kept)
    means = {name: (name, "mean") for name in (*DISTANCES, "between", "kept")}
    return own.groupby(["task", "seed", "model"], sort=False, as_index=False).agg(
        **means, chance=("head", lambda head: 1 / head.nunique()), n=("n", "min")
    )


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """Distances over trainings, and the MDM's beyond the control's.

    Args:
        table: of :func:`distances`.

    Returns:
        ``task, distance, model, base, difference, low, high, n`` (trainings).
    """
    rows = []
    pairs = [pair for pair in DIFFERENCES if "arm" not in pair]
    for task, part in table.groupby("task", sort=False):
        for name in DISTANCES:
            wide = part.pivot(index="seed", columns="model", values=name)
            about = {"task": task, "distance": name}
            rows += [about | found for found in differences(wide, pairs)]
    columns = ["task", "distance", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of :data:`SHOWN`, in its order, of a table with ``queries, looked``."""
    names = pd.MultiIndex.from_frame(table[["queries", "looked"]])
    return pd.concat([table[names == one] for one in SHOWN], ignore_index=True)


def shown_grid(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What heads of one training look at, for a map: means over tasks that have such keys.

    Returns:
        ``queries, looked, model, layer, head, mass, n`` of :data:`SHOWN`; a class that a model
        never sees is left out.
    """
    own = table[(table.seed == seed) & table.mass.notna()]
    by = ["queries", "looked", "model", "layer", "head"]
    found = own.groupby(by, sort=False, as_index=False).agg(mass=("mass", "mean"), n=("n", "min"))
    return shown(found)


def turned(tables: Frames, seed: int) -> pd.DataFrame:
    """Heads of one training and what they look at before and after, the most changed first.

    Returns:
        One row per task, layer and head: ``task, head`` (its name), the :data:`DISTANCES` of the
        MDM, ``control`` (``whole`` of the control, NaN without one), ``arm`` and ``mdm`` (the
        classes that get most, with their parts), ``arm_token`` and ``mdm_token`` (the token that
        does), ``n``.
    """
    at = ["task", "layer", "head"]
    moved = tables["moved"][tables["moved"].seed == seed]
    found = moved[moved.model == "mdm"].sort_values("whole", ascending=False)
    control = moved[moved.model == "continued"].set_index(at).whole
    control = control.reindex(pd.MultiIndex.from_frame(found[at]))
    heads = tables["heads"]
    heads = heads[(heads.seed == seed) & (heads.queries == READS)]
    most = {
        role: heads[heads.model == role].groupby(at).apply(_most, include_groups=False)
        for role in ("arm", "mdm")
    }
    tokens = tables["tokens"][tables["tokens"].seed == seed]
    for role in ("arm", "mdm"):
        own = tokens[tokens.model == role].set_index(at)
        shares = [f"{t} {100 * s:.0f} %" for t, s in zip(own.token, own.share, strict=True)]
        most[f"{role}_token"] = pd.Series(shares, index=own.index)
    said = {name: x.reindex(control.index).to_numpy() for name, x in most.items()}
    names = [f"a{row.layer}.h{row.head}" for row in found.itertuples()]
    shown = found[["task", *DISTANCES, "n"]].assign(control=control.to_numpy(), **said)
    shown.insert(1, "head", names)
    return shown.reset_index(drop=True)


def _most(part: pd.DataFrame) -> str:
    """``first 62 %, itself 20 %``: the classes that a head looks at most."""
    most = part.nlargest(NAMED, "part")
    most = most[most.part >= TOLD]
    return ", ".join(f"{row.looked} {100 * row.part:.0f} %" for row in most.itertuples())


def waiting(table: pd.DataFrame) -> pd.DataFrame:
    """Attention to MASKs while the answer fills, of tasks with several answer tokens.

    Args:
        table: the table ``steps``.

    Returns:
        ``task, seed, model, position, mass, uniform, n``; models that have no MASK are left out,
        and so are positions that too few examples have.
    """
    own = table[table.looked == "mask"]
    own = own[own.mass.notna()]
    several = own.groupby("task").position.transform("nunique") > 1
    return own[several].drop(columns="looked").reset_index(drop=True)
