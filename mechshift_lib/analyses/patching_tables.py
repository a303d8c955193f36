"""Tables of activation patching: maps by position and head, and when the answer arrives."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.patching import (
    POSITION_SITES,
    by_head,
    by_position,
    patched_tasks,
    tokens,
)
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.choices import DIRECTIONS
from mechshift_lib.comparison.bootstrap import resample

#: Share of the effect from which on the answer counts as having arrived.
ARRIVED = 0.5
#: Heads of a model that are named.
NAMED = 3

Array = NDArray[np.float64]


def position_table(study: Study, task: str) -> pd.DataFrame:
    """Effect of denoising by layer and position, ARM and MDM.

    Returns:
        One row per role, site, layer and position: ``role, site, layer, position, token, differs,
        effect, n``. The residual stream is that at the input of a layer, the last one that at the
        input of the final norm.
    """
    frames = []
    for role in ("arm", "mdm"):
        found = by_position(study, task, role)
        for site in POSITION_SITES:
            grid = found.effects(site)[0]
            frames.append(
                _grid(grid, "position").assign(role=role, site=site, n=len(found.examples))
            )
    return pd.concat(frames, ignore_index=True).merge(tokens(study, task), on="position")


def step_table(study: Study, task: str) -> pd.DataFrame:
    """Effect of denoising the MDM's residual stream by denoising step.

    Returns:
        One row per step, layer and position: ``step`` (from 1), ``layer, position, token,
        differs, effect, n``; empty where only one step is scored.
    """
    found = by_position(study, task, "mdm")
    steps = sorted(found.items.step.unique())
    frames = [
        _grid(found.effects("resid", step=step)[0], "position").assign(
            step=step + 1, n=int((found.items.step == step).sum())
        )
        for step in steps
        if len(steps) > 1
    ]
    columns = ["step", "layer", "position", "effect", "n"]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    return table.merge(tokens(study, task), on="position")


def arrival_table(study: Study) -> dict[str, pd.DataFrame]:
    """By which layer what the answer depends on has reached the positions that answer.

    Of the summed effect of denoising the residual stream at single positions, the share that lies
    at the prompt's last position and after it. It is 0 at the embedding, where the clean
    activation is needed at the corrupted token, and 1 at the end.

    Returns:
        ``layers``: ``task, role, layer, share, low, high, n``.
        ``depth``: ``task, role, base, depth, low, high, n``: the depth (layer / number of layers)
        at which the share passes :data:`ARRIVED`, with ``base`` empty, and minus that of the role
        ``base``, over the same examples.
    """
    layers, depth = [], []
    for task in patched_tasks(study):
        answer = tokens(study, task).answer.to_numpy()
        shares: dict[str, Array] = {}
        for role in study.pair.roles:
            found = by_position(study, task, role)
            draws = resample(len(found.examples), study.budget.bootstrap, RESAMPLING_SEED)
            whole = np.full((1, len(found.examples)), 1 / len(found.examples))
            grid = found.effects("resid", draws=np.concatenate([whole, draws]))
            shares[role] = arrived_share(grid, answer[: grid.shape[2]])
            frame = _interval(shares[role], "share").assign(layer=range(grid.shape[1]))
            layers.append(frame.assign(task=task, role=role, n=len(found.examples)))
        passed = {name: arrival_depth(share) for name, share in shares.items()}
        pairs: list[tuple[str, str]] = [(role, "") for role in passed]
        pairs += [
            (a, b) for b, a in combinations(("arm", "continued", "mdm"), 2) if {a, b} <= set(passed)
        ]
        for name, base in pairs:
            value = passed[name] - (passed[base] if base else 0)
            row = _interval(value[:, None], "depth").assign(task=task, role=name, base=base)
            depth.append(row.assign(n=len(found.examples)))
    return {
        "layers": pd.concat(layers, ignore_index=True),
        "depth": pd.concat(depth, ignore_index=True),
    }


def arrived_share(effects: Array, answer: NDArray[np.bool_]) -> Array:
    """Share of the effect that lies at the answer's positions, ``[draws, n_layer]``.

    Args:
        effects: of denoising the residual stream, ``[draws, n_layer, n_pos]``.
        answer: which positions are the answer's, ``[n_pos]``.

    Returns:
        Values between 0 and 1; a side whose summed effect is negative counts as 0, and NaN where
        neither has any.
    """
    here = np.maximum(effects[..., answer].sum(-1), 0)
    there = np.maximum(effects[..., ~answer].sum(-1), 0)
    total = here + there
    return np.asarray(here / np.where(total == 0, np.nan, total))


def arrival_depth(shares: Array) -> Array:
    """Depth at which shares ``[draws, n_layer + 1]`` first pass :data:`ARRIVED`, ``[draws]``.

    Between layers the share is taken to grow evenly; 1 where it never passes.
    """
    n_layers = shares.shape[1] - 1
    above = shares >= ARRIVED
    first = np.where(above.any(axis=1), above.argmax(axis=1), n_layers)
    before = np.maximum(first - 1, 0)
    row = np.arange(len(shares))
    low, high = shares[row, before], shares[row, first]
    rise = np.where(high > low, high - low, 1.0)
    part = np.where(first > before, np.clip((ARRIVED - low) / rise, 0, 1), 0)
    return np.asarray((before + part) / n_layers)


def head_table(study: Study, task: str) -> pd.DataFrame:
    """Effect of each head, patched at all positions at once.

    Returns:
        One row per role, direction, layer and head: ``role, direction, layer, head, effect, n``.
    """
    frames = []
    for role in study.pair.roles:
        found = by_head(study, task, role)
        for direction in DIRECTIONS:
            grid = found.effects("head", direction, "head")[0]
            columns = {"role": role, "direction": direction, "n": len(found.examples)}
            frames.append(_grid(grid, "head").assign(**columns))
    return pd.concat(frames, ignore_index=True)


def head_agreement(study: Study) -> pd.DataFrame:
    """Do the same heads carry the answer in the ARM, the MDM and the control?

    Returns:
        One row per task and comparison: ``task, comparison`` (such as ``arm-mdm``),
        ``correlation`` (Pearson, of the denoising effects of all heads), ``low, high, n``.
    """
    rows = []
    for task in patched_tasks(study):
        effects = {}
        for role in study.pair.roles:
            found = by_head(study, task, role)
            n = len(found.examples)
            draws = resample(n, study.budget.bootstrap, RESAMPLING_SEED)
            draws = np.concatenate([np.full((1, n), 1 / n), draws])
            grid = found.effects("head", "denoise", "head", draws=draws)
            effects[role] = grid.reshape(len(grid), -1)
        for role in (r for r in study.pair.roles if r != "arm"):
            values = correlations(effects["arm"], effects[role])
            row = _interval(values[:, None], "correlation")
            rows.append(row.assign(task=task, comparison=f"arm-{role}", n=n))
    return pd.concat(rows, ignore_index=True)


def strongest(study: Study, halfway: bool) -> pd.DataFrame:
    """The position that restores most of each task and model.

    Args:
        study: the study.
        halfway: of the residual stream at the middle layer; else of attention and MLP outputs, at
            all layers.

    Returns:
        ``task, role, site, layer, token, effect, cells`` (how many effects it is the largest of),
        ``n``.
    """
    frames = []
    for task in patched_tasks(study):
        table = position_table(study, task)
        half = (table.site == "resid") & (table.layer == table.layer.max() // 2)
        groups = table[half if halfway else table.site != "resid"].groupby(["role", "site"])
        top = table.loc[groups.effect.idxmax()]
        frames.append(top.assign(task=task, cells=groups.size().max()))
    return pd.concat(frames, ignore_index=True)


def strongest_heads(study: Study) -> pd.DataFrame:
    """The :data:`NAMED` heads of each task and model that restore most alone.

    Returns:
        ``task, role, rank`` (from 1), ``layer, head, denoise, noise`` (effects in the two
        directions), ``n, heads`` (of each model).
    """
    frames = []
    for task in patched_tasks(study):
        table = head_table(study, task)
        effects = table.pivot(index=["role", "layer", "head"], columns="direction", values="effect")
        for role in study.pair.roles:
            top = effects.loc[[role]].nlargest(NAMED, "denoise").reset_index()
            about = {"task": task, "n": table.n.max(), "heads": len(effects.loc[role])}
            frames.append(top.assign(rank=range(1, len(top) + 1), **about))
    return pd.concat(frames, ignore_index=True)


def correlations(a: Array, b: Array) -> Array:
    """Pearson correlation of the rows of ``a`` and ``b``, each ``[draws, n]``; NaN if constant."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.asarray((a * b).sum(1) / np.where(norm == 0, np.nan, norm))


def _interval(values: Array, name: str) -> pd.DataFrame:
    """First row of ``[1 + draws, n]`` with the percentile interval of the others.

    A column that no draw gives a number for (a constant one has no correlation) has no interval.
    """
    low, high = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values[1:]).all(axis=0)
    if known.any():
        low[known], high[known] = np.nanquantile(values[1:, known], [0.025, 0.975], axis=0)
    return pd.DataFrame({name: values[0], "low": low, "high": high})


def _grid(values: Array, end: str) -> pd.DataFrame:
    """``[n_layer, n]`` as rows ``layer, <end>, effect``."""
    layer, other = np.indices(values.shape)
    return pd.DataFrame({"layer": layer.ravel(), end: other.ravel(), "effect": values.ravel()})
