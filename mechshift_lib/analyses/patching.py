"""Exact activation patching of a pair: which activation, at which position, carries the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import solved
from mechshift_lib.analyses.study import Study
from mechshift_lib.choices import DIRECTIONS, Direction
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.record import Patching, Site
from mechshift_lib.config import Role
from mechshift_lib.errors import ConfigError

ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour", "analyses/patching")

#: Sites that are patched at one position at a time.
POSITION_SITES: tuple[Site, ...] = ("resid", "attn", "mlp")

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
