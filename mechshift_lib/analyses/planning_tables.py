"""Tables of where the plan is kept: attribution by place, and what cuts and patches cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.planning import PLACES, attributed, cut, patched
from mechshift_lib.analyses.scores import studied_tasks
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.comparison.proportions import mean_interval

Array = NDArray[np.float64]


def by_example(rows: pd.DataFrame, column: str) -> pd.Series:
    """Means over an example's items, weighted by their number of reads."""
    weighted = (rows[column] * rows.reads).groupby(rows.example).sum()
    return weighted / rows.groupby("example").reads.sum()


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """Shares of attribution by place, and what cuts and patches cost.

    Returns:
        ``shares``: ``task, model, place, share, low, high, n, positions``: of the summed |score| of
        all edges the share whose reader stands there; ``positions`` is the mean number of such
        tokens.
        ``layers``: ``task, model, layer, depth, place, share``: of all attribution, the share that
        is read there in that layer.
        ``patched``: ``task, layer, depth, effect, low, high, n``: metric lost by patching the
        waiting masks' residual stream, as a share of clean − corrupted.
        ``cuts``: ``task, kind, lost, low, high, n``: accuracy lost, NaN where nothing was there to
        cut; ``fell, fell_low, fell_high``: by how much the metric fell, in its units; kind
        ``excess`` is ``waiting`` minus ``control``.
    """
    shares, layers, patches, cuts = [], [], [], []
    for task in studied_tasks(study):
        for model in study.pair.roles:
            found = attributed(study, task, model)
            about = {"task": task, "model": model}
            shares += [about | row for row in _shares(found, study.budget.bootstrap)]
            layers.append(_layers(found).assign(**about))
        exact, runs = patched(study, task), cut(study, task)
        if len(exact):
            patches.append(_patched(exact, study.budget.bootstrap).assign(task=task))
            cuts += [{"task": task} | row for row in _cuts(runs, study.budget.bootstrap)]
    none = {
        "patched": ["layer", "effect", "low", "high", "n", "depth", "task"],
        "cuts": ["task", "kind", "lost", "low", "high", "fell", "fell_low", "fell_high", "n"],
    }
    return {
        "shares": pd.DataFrame(shares),
        "layers": pd.concat(layers, ignore_index=True),
        "patched": pd.concat(patches, ignore_index=True)
        if patches
        else pd.DataFrame(columns=none["patched"]),
        "cuts": pd.DataFrame(cuts, columns=none["cuts"]),
    }


def _item_shares(found: pd.DataFrame) -> pd.DataFrame:
    """Each item's mass by place as a share of all, ``example, step, reads, place, share``."""
    about = ["example", "step", "reads", "place"]
    mass = found.groupby(about, as_index=False).agg(mass=("mass", "sum"), n=("positions", "first"))
    whole = mass.groupby(["example", "step"]).mass.transform("sum")
    return mass.assign(share=mass.mass / whole.where(whole > 0))


def _shares(found: pd.DataFrame, draws: int) -> list[dict]:
    items = _item_shares(found)
    rows = []
    for place in PLACES:
        here = items[items.place == place]
        share = by_example(here, "share")
        rows.append(
            {"place": place, **_spread(share.to_numpy(), "share", draws)}
            | {"positions": float(by_example(here, "n").mean())}
        )
    return rows


def _layers(found: pd.DataFrame) -> pd.DataFrame:
    whole = found.groupby(["example", "step"]).mass.transform("sum")
    rows = found.assign(share=found.mass / whole.where(whole > 0))
    grouped = [
        {"layer": layer, "place": place, "share": float(by_example(part, "share").mean())}
        for (layer, place), part in rows.groupby(["layer", "place"], sort=False)
    ]
    frame = pd.DataFrame(grouped)
    return frame.assign(depth=frame.layer / frame.layer.max())


def _patched(exact: pd.DataFrame, draws: int) -> pd.DataFrame:
    rows = []
    for layer, part in exact.groupby("layer"):
        effect, whole = by_example(part, "effect"), by_example(part, "whole")
        weights = _weights(len(effect), draws)
        ratio = (weights @ effect.to_numpy()) / (weights @ whole.to_numpy())
        low, high = np.quantile(ratio[1:], [0.025, 0.975])
        rows.append({"layer": layer, "effect": ratio[0], "low": low, "high": high})
    frame = pd.DataFrame(rows).assign(n=exact.example.nunique())
    return frame.assign(depth=frame.layer / frame.layer.max())


def _cuts(runs: pd.DataFrame, draws: int) -> list[dict]:
    able = float(runs[runs.kind == "none"].correct.mean())
    empty = runs.groupby("kind").positions.max() == 0
    lost, fell = _lost(runs, "correct"), _lost(runs, "value")
    rows = []
    for kind in lost:
        bounds = (-1.0, 1.0) if kind == "excess" else (able - 1, able)
        row = _spread(lost[kind], "lost", draws, bounds)
        metric = _spread(fell[kind], "fell", draws)
        row |= {"fell": metric["fell"], "fell_low": metric["low"], "fell_high": metric["high"]}
        if empty.get(kind, False):
            row |= dict.fromkeys(set(row) - {"n"}, np.nan)
        rows.append({"kind": kind, **row})
    return rows


def _lost(runs: pd.DataFrame, column: str) -> dict[str, Array]:
    """What each kind of cut takes from every example, a mean over its draws, ``[n_example]``."""
    grid = runs.pivot(index=["kind", "draw"], columns="example", values=column)
    lost = grid.loc[("none", 0)] - grid.groupby(level="kind", sort=False).mean()
    kinds = {kind: lost.loc[kind].to_numpy() for kind in ("waiting", "control", "revealed")}
    return kinds | {"excess": kinds["waiting"] - kinds["control"]}


def _weights(n: int, draws: int) -> Array:
    equal = np.full((1, n), 1 / n)
    return np.concatenate([equal, resample(n, draws, RESAMPLING_SEED)])


def _spread(
    values: Sequence[float] | Array,
    name: str,
    draws: int,
    bounds: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Mean with its interval, and the number of examples; ``bounds`` of the values if known."""
    drawn = _weights(len(values), draws) @ np.asarray(values)
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    if bounds is not None:
        low, high = mean_interval(drawn, len(values), bounds)
    return {name: float(drawn[0]), "low": float(low), "high": float(high), "n": len(values)}
