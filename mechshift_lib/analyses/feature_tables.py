"""What pages show of features: shares of a crosscoder, cards, and what is lost without them."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.dictionaries import CROSSCODERS, VIEWS
from mechshift_lib.analyses.features import ALONE, OTHER, OTHERS, TOGETHER, USED
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.dictionary_measures import KINDS

#: Rows of the table of cards that stands open.
OPEN = 10
#: Crosscoders that are compared: which one, minus which.
DIFFERENCES = (
    ("arm-mdm", "arm-continued"),
    ("arm-mdm", "arm-matched"),
    ("arm-matched", "arm-continued"),
    ("arm-mdm-masked", "arm-mdm"),
)


def whose(found: Frames) -> pd.DataFrame:
    """How many features of each crosscoder are of one model only, in every training.

    Args:
        found: of :func:`mechshift_lib.analyses.features.tables`.

    Returns:
        ``seed, name, model`` (the second one), ``start`` (0, or 1: another random start), ``live``
        (features), and of those the shares ``shared, arm`` (of the ARM only), ``other`` (of the
        second model only), ``arm_confirmed, other_confirmed`` (by latent scaling too).
    """
    wide = found["counts"].pivot_table("count", ["seed", "name", "start", "live"], "kind")
    renamed = {"shared": "shared", KINDS[0]: "arm", KINDS[-1]: "other"}
    renamed |= {"confirmed first": "arm_confirmed", "confirmed second": "other_confirmed"}
    table = wide.rename(columns=renamed)[list(renamed.values())].reset_index()
    table[list(renamed.values())] = table[list(renamed.values())].div(table.live, axis=0)
    order = {name: i for i, name in enumerate(CROSSCODERS)}
    table = table.sort_values(["seed", "start", "name"], key=lambda x: x.replace(order))
    return table.assign(model=[VIEWS[name][1][0] for name in table.name]).reset_index(drop=True)


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """By how much larger a share of one crosscoder's features than of another's is of a kind.

    Args:
        table: of :func:`whose`.

    Returns:
        ``reading`` (``shared``, ``other`` or ``other_confirmed``), ``model`` and ``base``
        (crosscoders), ``difference, low, high, n`` (trainings).
    """
    first, rows = table[table.start == 0], []
    for reading in ("shared", "other", "other_confirmed"):
        wide = first.pivot(index="seed", columns="name", values=reading)
        rows += [{"reading": reading} | row for row in differences(wide, DIFFERENCES)]
    return pd.DataFrame(
        rows, columns=["reading", "model", "base", "difference", "low", "high", "n"]
    )


def lost(table: pd.DataFrame) -> pd.DataFrame:
    """What is lost of answer − distractor when features are taken out together.

    Args:
        table: the table ``effects`` of :func:`mechshift_lib.analyses.features.tables`.

    Returns:
        ``task, seed, what`` (:data:`TOGETHER` or :data:`OTHERS`, a mean over draws), ``whole``
        (logits with all features), ``lost`` (logits), ``low, high`` (smallest and largest of the
        draws), ``features, n``.
    """
    columns = ["task", "seed", "what", "whole", "lost", "low", "high", "features", "n"]
    rows = []
    for (task, seed), part in table.groupby(["task", "seed"], sort=False):
        whole = float(part.difference[part.what == "all"].iloc[0])
        about = {"task": task, "seed": seed, "whole": whole}
        about |= {"features": int(part.features.iloc[0]), "n": int(part.n.iloc[0])}
        for what in (TOGETHER, OTHERS):
            gone = whole - part.difference[part.what == what]
            ends = {"low": float(gone.min()), "high": float(gone.max())}
            rows.append(about | {"what": what, "lost": float(gone.mean())} | ends)
    return pd.DataFrame(rows, columns=columns)


def alone(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What is lost when one feature is taken out, in one training: a row a feature, for each task.

    Returns:
        ``feature, what`` (:data:`ALONE` or :data:`OTHER`) and a column for each task.
    """
    own = table[table.seed == seed]
    whole = own[own.what == "all"].set_index("task").difference
    some = own[own.what.isin([ALONE, OTHER])]
    some = some.assign(lost=some.task.map(whole) - some.difference)
    return some.pivot_table("lost", ["what", "feature"], "task", sort=False).reset_index()


def cards(found: Frames, seed: int) -> pd.DataFrame:
    """Cards of one training with whose feature each is, those most of the MDM first."""
    features = found["features"]
    own = features[(features.name == USED) & (features.seed == seed)]
    some = found["cards"][found["cards"].seed == seed]
    both = own.merge(some.drop(columns="seed"), on="feature").drop(columns=["name", "seed"])
    return both.sort_values("relative", ascending=False, ignore_index=True)
