"""Where the plan is kept: attribution by position, and what is lost when nobody looks there."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.faithfulness import held_out
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.cutting import cut_attention
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
        One row per kind of cut, draw and item's example: ``kind, draw, example, value, correct``,
        and ``positions``, how many the cut takes away in all items; ``kind`` ``none`` is the whole
        model.
    """

    def compute() -> dict[str, pd.DataFrame]:
        loaded = study.model("mdm", study.seed)
        kept = [
            (item, where)
            for item, where in zip(*_items(study, task, "mdm"), strict=True)
            if (where == PLACES.index("waiting")).any()
        ]
        columns = ["kind", "draw", "example", "value", "correct", "positions"]
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
                "positions": np.array([sum(map(len, one)) for one in cuts])[row],
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
