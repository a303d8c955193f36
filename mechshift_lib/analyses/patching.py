"""Exact activation patching of a pair: which activation, at which position, carries the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import solved
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.record import DIRECTIONS, Direction, Patching, Site
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.config import Role
from mechshift_lib.errors import ConfigError

ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour", "analyses/patching")

#: Sites that are patched at one position at a time.
POSITION_SITES: tuple[Site, ...] = ("resid", "attn", "mlp")
#: Share of the effect from which on the answer counts as having arrived.
ARRIVED = 0.5

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Patched:
    """Metrics of one model on one task after each patch.

    Attributes:
        values: one row per patched activation and item: ``site, direction, layer, head, position,
            item, value``; head or position is -1 where it doesn't apply.
        items: one row per item: ``example, step, weight, clean, corrupted`` (metrics; weights of
            an example's items sum to 1).
    """

    values: pd.DataFrame
    items: pd.DataFrame

    @property
    def examples(self) -> NDArray[np.int64]:
        """Indices of the examples, ascending, ``[n_example]``."""
        return np.unique(self.items.example.to_numpy())

    def array(self, site: str, direction: str, end: str) -> Array:
        """Patched metrics of a site, ``[n_item, n_layer, n]``, n along column ``end``."""
        rows = self.values[(self.values.site == site) & (self.values.direction == direction)]
        sizes = (len(self.items), int(rows.layer.max()) + 1, int(rows[end].max()) + 1)
        values = np.full(sizes, np.nan)
        values[rows.item, rows.layer, rows[end]] = rows.value
        return values

    def effects(
        self,
        site: str,
        direction: str = "denoise",
        end: str = "position",
        step: int | None = None,
        draws: Array | None = None,
    ) -> Array:
        """Share of the gap between clean and corrupted metric that each patch makes.

        A ratio of means over examples, so that an example on which the corruption does little
        can't blow it up. Denoising gives what a clean activation restores, noising what a
        corrupted one destroys: both are 1 for the whole gap.

        Args:
            site: ``resid``, ``attn``, ``mlp`` or ``head``.
            direction: ``denoise`` or ``noise``.
            end: the column along the last axis, ``position`` or ``head``.
            step: items of this denoising step only; by default all.
            draws: weights of the examples, ``[draws, n_example]``; by default equal ones, once.

        Returns:
            ``[draws, n_layer, n]``.
        """
        here = np.ones(len(self.items), dtype=bool) if step is None else self.items.step == step
        items = self.items[here]
        drawn = np.full((1, len(self.examples)), 1.0) if draws is None else draws
        weights = drawn[:, np.searchsorted(self.examples, items.example)]
        weights = weights * items.weight.to_numpy()
        clean, corrupted = items.clean.to_numpy(), items.corrupted.to_numpy()
        patched = self.array(site, direction, end)[here]
        base, sign = (corrupted, 1) if direction == "denoise" else (clean, -1)
        moved = np.tensordot(weights, sign * (patched - base[:, None, None]), axes=1)
        return np.asarray(moved / (weights @ (clean - corrupted))[:, None, None])


def wording(study: Study, task: str) -> list[int]:
    """Solved examples that are worded alike, so that their positions mean the same.

    Of the examples that ARM and MDM both solve (or, with the pool ``all``, of all), those of the
    most frequent template, order of names and length; at most as many as the budget says.
    """
    examples = study.examples(task, study.seed)

    def form(i: int) -> tuple[object, ...]:
        example = examples[i]
        named = (example.info.get(key) for key in ("template", "order"))
        return (len(example.clean), len(example.answer), *named)

    able = [i for i in solved(study, task, study.seed) if examples[i].scored]
    counts = Counter(form(i) for i in able)
    common = counts.most_common(1)[0][0] if counts else None
    return [i for i in able if form(i) == common][: study.budget.patching_examples]


def patched_tasks(study: Study) -> list[str]:
    """Tasks with at least 2 solved examples that are worded alike.

    Raises:
        ConfigError: there is no such task.
    """
    tasks = [task for task in study.pair.tasks if len(wording(study, task)) >= 2]
    if not tasks:
        raise ConfigError(
            f"ARM and MDM of {study.pair.name!r} solve no 2 examples of the same wording in "
            "common: train longer, draw more examples, or set pool = 'all'."
        )
    return tasks


def by_position(study: Study, task: str, role: Role) -> Patched:
    """Denoising by layer and position: residual stream, attention output and MLP output."""
    return _stored(study, task, role, POSITION_SITES, ("denoise",))


def by_head(study: Study, task: str, role: Role) -> Patched:
    """Single heads at all positions at once, denoised and noised."""
    return _stored(study, task, role, ("head",), DIRECTIONS)


def _stored(
    study: Study, task: str, role: Role, sites: Sequence[Site], directions: Sequence[Direction]
) -> Patched:
    metric, chosen = study.task(task).metric, wording(study, task)
    key = study.key(role, study.seed, task, ROOMS) | {
        "sites": list(sites),
        "directions": list(directions),
        "metric": metric,
        "pool": chosen,
    }

    def compute() -> dict[str, pd.DataFrame]:
        model, examples = study.model(role, study.seed), study.examples(task, study.seed)
        items = [item for i in chosen for item in model.readout.items(examples[i], i)]
        values = []
        for direction in directions:
            found = patch_nodes(
                model,
                items,
                sites=sites,
                direction=direction,
                metric=metric,
                by_position="head" not in sites,
                batch_size=study.budget.batch_size,
            )
            values += [_long(found, site, direction) for site in sites]
        reads = pd.Series([len(item.reads) for item in items])
        owner = pd.Series([item.example for item in items])
        frame = pd.DataFrame(
            {
                "example": owner,
                "step": [item.step for item in items],
                "weight": reads / reads.groupby(owner).transform("sum"),
                "clean": found.clean,
                "corrupted": found.corrupted,
            }
        )
        return {"values": pd.concat(values, ignore_index=True), "items": frame}

    frames = study.frames("patching", key, compute)
    return Patched(frames["values"], frames["items"])


def tokens(study: Study, task: str) -> pd.DataFrame:
    """What stands at each position, by the first example that is patched.

    Returns:
        One row per position of the canvas: ``position, token`` (text; an answer's token in
        brackets, as the MDM has a mask there), ``differs`` (in some example the corrupted prompt
        has another token here), ``answer`` (the prompt's last position and all after it).
    """
    chosen, examples = wording(study, task), study.examples(task, study.seed)
    tokenizer, first = study.model("arm", study.seed).tokenizer, examples[chosen[0]]
    texts = [tokenizer.decode([t]).strip() or "␣" for t in first.clean]
    texts += [f"[{tokenizer.decode([t]).strip()}]" for t in first.answer]
    differs = {p for i in chosen for p in examples[i].differ}
    return pd.DataFrame(
        {
            "position": range(len(texts)),
            "token": texts,
            "differs": [p in differs for p in range(len(texts))],
            "answer": [p >= len(first.clean) - 1 for p in range(len(texts))],
        }
    )


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


def _long(found: Patching, site: str, direction: str) -> pd.DataFrame:
    """Patched metrics of a site as rows."""
    values = found.patched[site]
    where = np.indices(values.shape).reshape(values.ndim, -1)
    return pd.DataFrame(
        {
            "site": site,
            "direction": direction,
            "item": where[0],
            "layer": where[1],
            "head": where[2] if site == "head" else -1,
            "position": where[-1] if site != "head" else -1,
            "value": values.ravel(),
        }
    )
