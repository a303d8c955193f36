"""Where the plan is kept: attribution by position, and what is lost when nobody looks there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.circuits import studied_tasks
from mechshift_lib.analyses.faithfulness import held_out
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.cutting import cut_attention
from mechshift_lib.comparison.bootstrap import resample
from mechshift_lib.config import Role
from mechshift_lib.models.readout import Item

ROOMS = (
    "circuits",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/circuits",
    "analyses/faithfulness",
    "analyses/planning",
)
#: Where a token stands, seen from the token that is being read. ``own`` is the mask that is being
#: filled; ``waiting`` are masks that are filled later, all of them to its right here.
PLACES = ("prompt", "revealed", "own", "waiting")
#: Random sets of prompt positions that stand beside the waiting ones.
CONTROLS = 8

Array = NDArray[np.float64]


def places(item: Item, n_prompt: int, mask_id: int | None, shift: int) -> NDArray[np.int64]:
    """The place of every position of an item, an index into :data:`PLACES`, ``[pos]``.

    Args:
        item: the item.
        n_prompt: tokens of its prompt.
        mask_id: the MDM's mask token; None for an ARM, which has no masks.
        shift: 1 where token i is read at logits i − 1, else 0.
    """
    ids = np.array(item.clean)
    found = np.where(np.arange(len(ids)) < n_prompt, 0, 1)
    if mask_id is not None:
        found[(ids == mask_id) & (found == 1)] = PLACES.index("waiting")
        for read in item.reads:
            found[read + shift] = PLACES.index("own")
    return found


def _chosen(study: Study, task: str) -> list[int]:
    return held_out(study, task)[: study.budget.planning_examples]


def _items(study: Study, task: str, model: Role) -> tuple[list[Item], list[NDArray[np.int64]]]:
    loaded, examples = study.model(model, study.seed), study.examples(task, study.seed)
    items, where = [], []
    for index in _chosen(study, task):
        for item in loaded.readout.items(examples[index], index):
            shift = 0 if loaded.readout.name == "mask" else 1
            items.append(item)
            where.append(places(item, len(examples[index].clean), loaded.mask_id, shift))
    return items, where


def _key(study: Study, task: str, model: Role) -> dict:
    return study.key(model, study.seed, task, ROOMS) | {
        "metric": study.task(task).metric,
        "evaluated_on": _chosen(study, task),
        "ig_steps": study.budget.ig_steps,
    }


def attributed(study: Study, task: str, model: Role) -> pd.DataFrame:
    """Where a model reads what decides its answer: |score| of all edges by position of the reader.

    Returns:
        One row per item, layer of the reader (``n_layers``: the logits) and place: ``example, step,
        reads, layer, place, mass`` (summed |score|, units of the metric), ``positions``.
    """

    def compute() -> dict[str, pd.DataFrame]:
        loaded = study.model(model, study.seed)
        graph = Graph.for_model(loaded)
        layer = np.asarray(graph.layer_of_reader)[graph.reader_index]
        rows = []
        for item, where in zip(*_items(study, task, model), strict=True):
            found = attribute(
                loaded,
                [item],
                metric=study.task(task).metric,
                steps=study.budget.ig_steps,
                by_position=True,
            ).by_position
            assert found is not None
            for place in range(len(PLACES)):
                mass = np.abs(found[where == place]).sum(0, dtype=np.float64)
                by_layer = np.bincount(layer, weights=mass, minlength=graph.n_layers + 1)
                about = {"example": item.example, "step": item.step, "reads": len(item.reads)}
                rows += [
                    {**about, "layer": i, "place": PLACES[place], "mass": x}
                    | {"positions": int((where == place).sum())}
                    for i, x in enumerate(by_layer)
                ]
        return {"attributed": pd.DataFrame(rows)}

    return study.frames("planning", _key(study, task, model), compute)["attributed"]


def patched(study: Study, task: str) -> pd.DataFrame:
    """Exact patching of the waiting masks: the residual stream of the corrupted run, put into the
    MDM's clean run at one of them at a time.

    Returns:
        One row per item and layer: ``example, step, reads, layer, effect`` (metric lost, summed
        over the waiting positions), ``whole`` (clean − corrupted metric).
    """

    def compute() -> dict[str, pd.DataFrame]:
        loaded = study.model("mdm", study.seed)
        kept = [
            (item, where)
            for item, where in zip(*_items(study, task, "mdm"), strict=True)
            if (where == PLACES.index("waiting")).any()
        ]
        columns = ["example", "step", "reads", "layer", "effect", "whole"]
        if not kept:
            return {"patched": pd.DataFrame(columns=columns)}
        found = patch_nodes(
            loaded,
            [item for item, _ in kept],
            sites=("resid",),
            direction="noise",
            metric=study.task(task).metric,
        )
        rows = []
        for row, (item, where) in enumerate(kept):
            waiting = np.flatnonzero(where == PLACES.index("waiting"))
            lost = found.clean[row] - found.patched["resid"][row][:, waiting]
            about, whole = (item.example, item.step, len(item.reads)), found.clean[row]
            whole = whole - found.corrupted[row]
            rows += [(*about, layer, effect, whole) for layer, effect in enumerate(lost.sum(1))]
        return {"patched": pd.DataFrame(rows, columns=columns)}

    return study.frames("planning-patched", _key(study, task, "mdm"), compute)["patched"]


def cut(study: Study, task: str) -> pd.DataFrame:
    """The MDM while no other token may look at some positions.

    Only items with a waiting mask count. ``waiting`` cuts off all of these; ``control`` as many
    positions of the prompt, drawn at random (not the first token, nor one that is read);
    ``revealed`` the answer tokens that stand already, where there are any.

    Returns:
        One row per kind of cut, draw and item's example: ``kind, draw, example, value, correct``;
        ``kind`` ``none`` is the whole model.
    """

    def compute() -> dict[str, pd.DataFrame]:
        loaded = study.model("mdm", study.seed)
        kept = [
            (item, where)
            for item, where in zip(*_items(study, task, "mdm"), strict=True)
            if (where == PLACES.index("waiting")).any()
        ]
        columns = ["kind", "draw", "example", "value", "correct"]
        if not kept:
            return {"cut": pd.DataFrame(columns=columns)}
        names = [("none", 0), ("waiting", 0), ("revealed", 0)]
        names += [("control", draw) for draw in range(CONTROLS)]
        cuts = [[_positions(item, where, *name) for item, where in kept] for name in names]
        found = cut_attention(
            loaded, [item for item, _ in kept], cuts, metric=study.task(task).metric
        )
        row, example = (index.ravel() for index in np.indices(found.values.shape))
        frame = pd.DataFrame(
            {
                "kind": np.array([kind for kind, _ in names])[row],
                "draw": np.array([draw for _, draw in names])[row],
                "example": found.examples[example],
                "value": found.values.ravel(),
                "correct": found.correct.ravel(),
            }
        )
        return {"cut": frame[columns]}

    return study.frames("planning-cut", _key(study, task, "mdm"), compute)["cut"]


def _positions(item: Item, where: NDArray[np.int64], kind: str, draw: int) -> list[int]:
    waiting = np.flatnonzero(where == PLACES.index("waiting"))
    if kind == "none":
        return []
    if kind != "control":
        read = set(item.reads)  # a read sees itself
        chosen = np.flatnonzero(where == PLACES.index(kind))
        return [p for p in chosen.tolist() if p not in read]
    free = [p for p in np.flatnonzero(where == 0).tolist() if p > 0 and p not in item.reads]
    rng = np.random.default_rng([RESAMPLING_SEED, draw, item.example, item.step])
    return sorted(rng.permutation(free)[: len(waiting)].tolist())


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
        ``cuts``: ``task, kind, lost, low, high, n``: accuracy lost; kind ``excess`` is ``waiting``
        minus ``control``.
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
        "cuts": ["task", "kind", "lost", "low", "high", "n"],
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
    grid = runs.pivot(index=["kind", "draw"], columns="example", values="correct")
    lost = grid.loc[("none", 0)] - grid.groupby(level="kind", sort=False).mean()
    kinds = {kind: lost.loc[kind].to_numpy() for kind in lost.index if kind != "none"}
    kinds["excess"] = kinds["waiting"] - kinds["control"]
    return [{"kind": kind, **_spread(x, "lost", draws)} for kind, x in kinds.items()]


def _weights(n: int, draws: int) -> Array:
    equal = np.full((1, n), 1 / n)
    return np.concatenate([equal, resample(n, draws, RESAMPLING_SEED)])


def _spread(values: Sequence[float] | Array, name: str, draws: int) -> dict[str, float]:
    """Mean with its bootstrap interval, and the number of examples."""
    drawn = _weights(len(values), draws) @ np.asarray(values)
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    return {name: float(drawn[0]), "low": float(low), "high": float(high), "n": len(values)}
