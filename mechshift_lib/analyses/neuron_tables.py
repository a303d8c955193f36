"""Tables of the chapter on neurons, from what single ones stand for in every training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.analyses.neurons import OWN, WHOLE
from mechshift_lib.analyses.shift import FEWEST
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.explanations import EXPLAINED, crowding, expected_distinct

#: The two measures that are judged: column -> what it is, and its sign where the claim is right.
READINGS: dict[str, tuple[str, int]] = {
    "distinct": ("number of explanations", 1),
    "relative": ("relative variance", -1),
}
#: Differences that are given over trainings: model, minus base.
DIFFERENCES = (("mdm", "arm"), ("continued", "arm"), ("mdm", "continued"), ("matched", "continued"))
#: Neurons of each model and site that a folded table has.
FOLDED = 25


def measured(found: Frames) -> pd.DataFrame:
    """Numbers of explanations and variances of every set of neurons: what is read and judged.

    Args:
        found: of :func:`mechshift_lib.analyses.neurons.tables`.

    Returns:
        One row per ``seed, model, state, site, basis, threshold``, means over random bases:
        ``neurons, explained, score, information, raw, relative, unique`` (explanations of all that
        are explained), ``distinct`` (expected among ``m`` of these), ``crowding, crowding_free``.
        ``m`` is the fewest that coordinates of the stream of any model have in texts read whole
        at that threshold; of a set with fewer, and where ``m`` is below :data:`FEWEST`,
        ``distinct`` is NaN.
    """
    by = ["seed", "model", "state", "site", "basis", "draw", "threshold"]
    counts = {key: part.n.tolist() for key, part in found["counts"].groupby(by)}
    sets = found["sets"]
    own = sets[(sets.state == WHOLE) & (sets.site == "stream") & (sets.basis == OWN)]
    fewest = own.groupby("threshold").explained.min()
    rows = []
    for row in sets.itertuples():
        n = counts.get(tuple(getattr(row, name) for name in by), [])
        m = int(fewest[row.threshold])
        drawn = expected_distinct(n, m) if m >= FEWEST else np.nan
        variance, free = crowding(n)
        rows.append(
            {"unique": len(n), "distinct": drawn, "m": m}
            | {"crowding": variance, "crowding_free": free}
        )
    table = pd.concat([sets, pd.DataFrame(rows, index=sets.index)], axis=1)
    by.remove("draw")
    return table.drop(columns="draw").groupby(by, sort=False).mean().reset_index()


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`measured` of explained coordinates and random directions, texts whole."""
    here = (table.state == WHOLE) & (table.site == "stream") & (table.threshold == EXPLAINED)
    return table[here]


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of :func:`compared` that are judged: those of coordinates."""
    here = compared(table)
    return here[here.basis == OWN]


def more(table: pd.DataFrame, reading: str) -> pd.DataFrame:
    """Logarithm of each model's measure over the ARM's, positive where the claim is right.

    Args:
        table: of :func:`measured`.
        reading: a key of :data:`READINGS`.

    Returns:
        ``[seed, model]``.
    """
    _, sign = READINGS[reading]
    wide = np.log(judged(table).pivot(index="seed", columns="model", values=reading))
    return sign * wide.drop(columns="arm").sub(wide["arm"], axis=0)


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """Logarithms of ratios between models over trainings, for each measure that is judged.

    Args:
        table: of :func:`measured`.

    Returns:
        ``reading, model, base, difference, low, high, n`` (trainings).
    """
    rows: list[dict[str, Any]] = []
    for reading in READINGS:
        wide = np.log(judged(table).pivot(index="seed", columns="model", values=reading))
        rows += [{"reading": reading} | found for found in differences(wide, DIFFERENCES)]
    columns = ["reading", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def common(counts: pd.DataFrame, most: int = 12) -> pd.DataFrame:
    """The explanations that most coordinates have: their share in each model, over trainings.

    Args:
        counts: the table ``counts`` of :func:`mechshift_lib.analyses.neurons.tables`.
        most: how many.

    Returns:
        ``said, model, share`` (of the explained coordinates, a mean over trainings).
    """
    here = (counts.state == WHOLE) & (counts.site == "stream") & (counts.basis == OWN)
    own = counts[here & (counts.threshold == EXPLAINED)]
    wide = own.pivot_table("n", ["seed", "model"], "said", aggfunc="sum", fill_value=0)
    shares = wide.div(wide.sum(axis=1), axis=0).groupby("model").mean()
    top = shares.max().sort_values(ascending=False, kind="stable").index[:most]
    long = shares[top].stack().rename("share").reset_index()
    return long[["said", "model", "share"]]


def best(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The :data:`FOLDED` neurons of each model and site that are explained best, of one training.

    Args:
        table: the table ``neurons`` of :func:`mechshift_lib.analyses.neurons.tables`.
        seed: the training.
    """
    own = table[table.seed == seed].sort_values("score", ascending=False, kind="stable")
    found = own.groupby(["model", "site"], sort=False).head(FOLDED)
    columns = ["model", "site", "layer", "neuron", "said", "more", "score", "information"]
    return found.sort_values(["model", "site"], kind="stable")[columns].reset_index(drop=True)
