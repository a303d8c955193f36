"""Tables of where a plan would be kept, by training and over trainings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from mechshift_lib.analyses.faithfulness import trainings
from mechshift_lib.analyses.planning import CUTS, MODELS, PLACES, PROBED, cut, patched
from mechshift_lib.analyses.probes import later, later_input
from mechshift_lib.analyses.scores import studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.over_seeds import SHOWN, contrast_over_seeds, differences
from mechshift_lib.comparison.proportions import clopper_pearson, mean_interval

Array = NDArray[np.float64]
#: Differences between models over trainings: model, minus base.
DIFFERENCES = (("mdm", "arm"), ("mdm", "continued"), ("matched", "continued"))
#: Cells that a rank correlation needs at least, over all layers and within one.
FEWEST, FEWEST_WITHIN = 20, 5


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """What places carry, what cuts cost, and where later tokens can be read and are used.

    Intervals are over examples; those of a training decide nothing about trainings.

    Returns:
        ``layers``: ``task, seed, model, place, layer, depth, share, n``: of what corruption takes,
        the share that the corrupted stream at a place takes.
        ``carried``: ``task, seed, model, place, share, low, high, n``: the mean over the layers
        between the first input and the last, so that no layer is chosen.
        ``peaks``: the same with ``layer`` for masks that wait: half of the examples choose the
        layer of the largest share, the others give the share.
        ``accuracies``: ``task, seed, model, kind, right, n, accuracy, low, high`` (exact): examples
        all of whose tokens are right, of those in which a cut takes something away; ``whole`` is
        the accuracy without the cut.
        ``cuts``: ``task, seed, model, kind, lost, low, high`` (accuracy lost beyond as many tokens
        of the prompt), ``fell, fell_low, fell_high`` (the same of the metric), ``n``.
        ``cells``: ``task, seed, model, step, target, layer, accuracy, input, used, n``: how well a
        later token can be read at its place, and the share of the gap that this place carries (over
        n examples).
    """
    found: dict[str, list[pd.DataFrame]] = {}
    for task in studied_tasks(study):
        for seed in trainings(study, task):
            for model in (name for name in MODELS if study.has(name, seed)):
                places = patched(study, task, model, seed)
                runs, draws = cut(study, task, model, seed), study.budget.bootstrap
                made = {
                    "layers": by_layer(places["places"]),
                    "carried": carried(places["places"], draws),
                    "peaks": peaks(places["places"], draws),
                    "accuracies": accuracies(runs),
                    "cuts": beyond(runs, draws),
                    "cells": _cells(study, task, model, seed, places),
                }
                for name, frame in made.items():
                    found.setdefault(name, []).append(
                        frame.assign(task=task, seed=seed, model=model)
                    )
    return {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """``layers`` of :func:`tables` for one model."""
    order = {place: i for i, place in enumerate(PLACES)}
    grouped = rows.groupby(["place", "layer"])[["effect", "whole"]].sum().reset_index()
    grouped = grouped.sort_values(["place", "layer"], key=lambda c: c.replace(order))
    return grouped.assign(
        share=grouped.effect / _whole(rows),
        depth=grouped.layer / grouped.layer.max(),
        n=rows.example.nunique(),
    )[["place", "layer", "depth", "share", "n"]]


def _whole(rows: pd.DataFrame) -> float:
    """What corruption takes, summed over all items: places share one denominator."""
    return float(rows.drop_duplicates(["example", "read"]).whole.sum())


def carried(rows: pd.DataFrame, draws: int) -> pd.DataFrame:
    """``carried`` of :func:`tables` for one model."""
    inner = rows[(rows.layer > 0) & (rows.layer < rows.layer.max())]
    layers = inner.layer.nunique()
    found = [
        {"place": place, **_share(inner[inner.place == place], rows, layers, draws)}
        for place in PLACES
        if (inner.place == place).any()
    ]
    return pd.DataFrame(found, columns=["place", "share", "low", "high", "n"])


def peaks(rows: pd.DataFrame, draws: int) -> pd.DataFrame:
    """``peaks`` of :func:`tables` for one model; empty where no mask waits."""
    columns = ["layer", "share", "low", "high", "n"]
    examples = np.sort(rows.example.unique())
    first = rows[rows.example.isin(examples[::2])]
    second = rows[rows.example.isin(examples[1::2])]
    choosing = first[first.place == "waiting"].groupby("layer").effect.sum()
    if choosing.empty or second.empty:
        return pd.DataFrame(columns=columns)
    layer = int(choosing.idxmax())
    chosen = second[(second.place == "waiting") & (second.layer == layer)]
    return pd.DataFrame([{"layer": layer, **_share(chosen, second, 1, draws)}], columns=columns)


def _share(part: pd.DataFrame, rows: pd.DataFrame, layers: int, draws: int) -> dict[str, float]:
    """Share of the gap of all ``rows`` that the effects of a part are, a mean over layers."""
    items = rows.drop_duplicates(["example", "read"])
    whole = items.groupby("example").whole.sum()
    effect = part.groupby("example").effect.sum().reindex(whole.index, fill_value=0.0) / layers
    weights = _weights(len(whole), draws)
    ratio = (weights @ effect.to_numpy()) / (weights @ whole.to_numpy())
    low, high = np.quantile(ratio[1:], [0.025, 0.975])
    return {"share": float(ratio[0]), "low": float(low), "high": float(high), "n": len(whole)}


def accuracies(runs: pd.DataFrame) -> pd.DataFrame:
    """``accuracies`` of :func:`tables` for one model, from :func:`planning.cut`."""
    rows = []
    for kind in (kind for kind in runs.kind.unique() if kind != "none"):
        right = _right(runs, kind)
        k, n = int(right.cut.sum()), len(right)
        low, high = clopper_pearson(k, n)
        rows.append({"kind": kind, "right": k, "n": n, "accuracy": k / n, "low": low, "high": high})
        rows[-1]["whole"] = float(right.whole.mean())
    columns = ["kind", "right", "n", "accuracy", "low", "high", "whole"]
    return pd.DataFrame(rows, columns=columns)


def _paired(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Items from which a kind of cut takes something, beside the same without the cut."""
    base = kind.removesuffix("-control")
    cut_off = runs[(runs.kind == base) & (runs.positions > 0)][["example", "read"]]
    here = runs[runs.kind == kind].merge(cut_off, on=["example", "read"])
    return here.merge(runs[runs.kind == "none"], on=["example", "read"], suffixes=("", "_whole"))


def _right(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Is every token of an example right with and without a cut: ``cut, whole`` by example."""
    paired = _paired(runs, kind)
    least = paired.groupby("example")[["correct", "correct_whole"]].min() == 1
    return least.rename(columns={"correct": "cut", "correct_whole": "whole"})


def beyond(runs: pd.DataFrame, draws: int) -> pd.DataFrame:
    """``cuts`` of :func:`tables` for one model."""
    rows = []
    for kind in (kind for kind in CUTS if kind in set(runs.kind)):
        right = {name: _right(runs, name).cut.astype(float) for name in (kind, f"{kind}-control")}
        lost = (right[f"{kind}-control"] - right[kind]).to_numpy()
        value = {name: _paired(runs, name).groupby("example").value.mean() for name in right}
        fell = (value[f"{kind}-control"] - value[kind]).to_numpy()
        weights = _weights(len(lost), draws)
        low, high = mean_interval(weights @ lost, len(lost), (-1.0, 1.0))
        drawn = weights @ fell
        ends = np.quantile(drawn[1:], [0.025, 0.975])
        rows.append({"kind": kind, "lost": lost.mean(), "low": low, "high": high, "n": len(lost)})
        rows[-1] |= {"fell": drawn[0], "fell_low": ends[0], "fell_high": ends[1]}
    columns = ["kind", "lost", "low", "high", "fell", "fell_low", "fell_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def _cells(
    study: Study, task: str, model: str, seed: int, found: dict[str, pd.DataFrame]
) -> pd.DataFrame:
    """``cells`` of :func:`tables` for one model; those that probes read only."""
    columns = ["step", "target", "layer", "accuracy", "input", "used", "n"]
    if model not in PROBED or found["single"].empty:
        return pd.DataFrame(columns=columns)
    read = later(study, task, model, seed)["cells"]  # type: ignore[arg-type]
    read = read[read.place == PROBED[model]].drop(columns="place")
    given = later_input(study, task)["cells"].rename(columns={"accuracy": "input"})
    return cells(found, read.merge(given[["step", "target", "input"]], on=["step", "target"]))


def cells(found: dict[str, pd.DataFrame], read: pd.DataFrame) -> pd.DataFrame:
    """What can be read at single places beside what they carry, where both are known.

    The first input and the last are left out: a mask is the same in both runs there, or can't
    reach the read any more.

    Args:
        found: of :func:`planning.patched`.
        read: ``step, target, layer, accuracy, input``.
    """
    single, places = found["single"], found["places"]
    # Per read and example; all reads share one scale, as some have hardly any effect of their own.
    scale = _whole(places) / len(places.drop_duplicates(["example", "read"]))
    used = single.groupby(["step", "target", "layer"], as_index=False).effect.mean()
    used["used"] = used.effect / scale
    inner = used[(used.layer > 0) & (used.layer < single.layer.max())]
    both = read.merge(inner, on=["step", "target", "layer"])
    both = both[["step", "target", "layer", "accuracy", "input", "used"]]
    return both.assign(n=places.example.nunique())


def agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Do later tokens stand where they are used? From ``cells`` of :func:`tables`.

    Returns:
        ``task, seed, model, rank`` (Spearman's correlation of what can be read and what is used,
        over layers, steps and tokens), ``within`` (the same within each layer, a mean), ``cells,
        accuracy, input, used`` (means); NaN where there are too few cells or all are
        alike.
    """
    rows = []
    for (task, seed, model), part in table.groupby(["task", "seed", "model"], sort=False):
        within = [_rank(layer, FEWEST_WITHIN) for _, layer in part.groupby("layer")]
        known = [value for value in within if not np.isnan(value)]
        rows.append({"task": task, "seed": seed, "model": model, "rank": _rank(part, FEWEST)})
        rows[-1] |= {"within": float(np.mean(known)) if known else np.nan, "cells": len(part)}
        rows[-1] |= {name: float(part[name].mean()) for name in ("accuracy", "input", "used")}
    columns = ["task", "seed", "model", "rank", "within", "cells", "accuracy", "input", "used"]
    return pd.DataFrame(rows, columns=columns)


def _rank(part: pd.DataFrame, fewest: int) -> float:
    if len(part) < fewest or part.accuracy.nunique() < 2 or part.used.nunique() < 2:
        return np.nan
    return float(spearmanr(part.accuracy, part.used).statistic)


def over_trainings(table: pd.DataFrame, value: str, by: Sequence[str]) -> pd.DataFrame:
    """Each model over trainings, and differences between models.

    Args:
        table: one row a training, model and group.
        value: the column that is averaged.
        by: columns that name a group, beside ``task``.

    Returns:
        ``task``, ``by``, ``model, base`` (empty: the model itself), ``value, low, high`` (Student,
        NaN with too few), ``n`` (trainings).
    """
    groups, rows = ["task", *by], []
    for names, part in table.groupby(groups, sort=False):
        about = dict(zip(groups, names, strict=True))
        wide = part.pivot(index="seed", columns="model", values=value)
        for model in (name for name in MODELS if name in wide):
            own = contrast_over_seeds(wide[model].tolist(), "nothing", SHOWN)
            ends = {"value": own.effect, "low": own.low, "high": own.high, "n": own.n}
            rows.append({**about, "model": model, "base": "", **ends})
        for found in differences(wide, DIFFERENCES):
            rows.append({**about, **found, "value": found["difference"]})
    return pd.DataFrame(rows, columns=[*groups, "model", "base", "value", "low", "high", "n"])


def _weights(n: int, draws: int) -> Array:
    equal = np.full((1, n), 1 / n)
    return np.concatenate([equal, resample(n, draws, RESAMPLING_SEED)])
