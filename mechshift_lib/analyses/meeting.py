"""Where circuits and meanings meet: do components keep their place, and what they write?

A head's or MLP's **place** is its share of the circuit: of the absolute scores of all edges that it
writes or reads, at one answer position. Its **meaning** is what it writes to the logits there,
question by question. Of both it is asked how much of the ARM's is left in a model trained on from
it. "Place and meaning" in the methods says more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.analyses import components, lens_tables, probe_tables
from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.scores import Scores, scores, scores_key
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.questions.items import batches
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.comparison.overlap import component_scores
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.results.kept import about_address
from mechshift_lib.semantics.components import Unembedding, written
from mechshift_lib.semantics.meaning import alike

ROOMS = (
    "circuits",
    "comparison/overlap",
    "diffusion/samplers",
    "semantics",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/meeting",
)
#: Models whose components are compared with the ARM's, where a training has them.
COMPARED = ("mdm", "continued", "matched")
#: Differences that are given over trainings: model, minus base.
DIFFERENCES = (("mdm", "continued"), ("matched", "continued"))
#: What is asked of components -> whether all of it is kept at 1.
READINGS = ("place", "meaning")
#: Parts of an answer: its first token, in which a plan would show, and all that follow.
FIRST, LATER = "first token", "later tokens"
#: Instruments that are set side by side by depth.
INSTRUMENTS = ("circuit", "writing", "lens", "probe")

Array = NDArray[np.float64]


def asked(study: Study) -> list[tuple[str, int]]:
    """Tasks and trainings of which there are circuits and components to compare."""
    return components.asked(study)


def tables(study: Study) -> pd.DataFrame:
    """:func:`of_training` of every task and training, with ``task, seed``."""
    # One training after the other, as loading models takes longer than asking them.
    order = sorted(asked(study), key=lambda one: one[1])
    made = {one: of_training(study, *one) for one in order}
    frames = [made[one].assign(task=one[0], seed=one[1]) for one in asked(study)]
    return pd.concat(frames, ignore_index=True)


def of_training(study: Study, task: str, seed: int) -> pd.DataFrame:
    """Place and meaning of every head and MLP of one training, model by model.

    Returns:
        One row per model of :data:`COMPARED`, answer position and component: ``model, position,
        component, kind, layer, own`` (its share of the ARM's circuit), ``place`` (of this
        model's), ``meaning`` (cosine of what it writes with what it writes in the ARM),
        ``others`` (mean cosine of the ARM's with this model's other components of the kind),
        ``n`` (examples).
    """
    models = [m for m in COMPARED if study.has(m, seed)]
    keys = {m: scores_key(study, task, m, seed) for m in ("arm", *models)}
    key = study.key("arm", seed, task, ROOMS) | {
        "pool": pool(study, task, seed),
        "models": {m: one["models"][one["role"]] for m, one in keys.items()},
        "circuits": {m: about_address("circuits", one) for m, one in keys.items()},
        "role": "all",
    }

    def compute() -> dict[str, pd.DataFrame]:
        circuits = {m: scores(study, task, m, seed) for m in keys}
        places = {
            m: dict(zip(found.reads, place(found), strict=True)) for m, found in circuits.items()
        }
        weight, own = _parts(study, task, "arm", seed)
        rows: list[pd.DataFrame] = []
        for model in models:
            other_weight, other = _parts(study, task, model, seed)
            # A model without an effect at an answer position has no circuit there.
            for read in (read for read in places["arm"] if read in places[model]):
                at, shares = int(read), {"own": places["arm"][read], "place": places[model][read]}
                found = _compared(circuits["arm"], own[at], weight, other[at], other_weight)
                rows.append(found.assign(model=model, position=at, **shares))
        return {"meeting": pd.concat(rows, ignore_index=True)}

    return study.frames("meeting", key, compute)["meeting"]


def place(found: Scores) -> Array:
    """Each component's share of a circuit at every read, ``[n_read, n_component]``.

    The absolute mean scores of the edges that it writes or reads; over components they sum to 1.
    """
    size = np.abs(np.nanmean(found.by_read, axis=1, dtype=np.float64))
    shares = component_scores(found.edges, size)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


#: What components add, by answer position: ``[n_example, n_component, d_model]``, heads and MLPs.
Parts = dict[int, Tensor]


def _parts(study: Study, task: str, role: str, seed: int) -> tuple[Tensor, Parts]:
    """The centred unembedding of a model, and what its heads and MLPs write by answer position."""
    model, examples = study.model(role, seed), study.examples(task, seed)
    chosen = pool(study, task, seed)
    items = [item for i in chosen for item in model.readout.items(examples[i], i)]
    starts = {i: model.readout.read_position(len(examples[i].clean)) for i in chosen}
    unembedding = Unembedding.of(model)
    return unembedding.centred, parts(model, items, starts, unembedding, study.budget.batch_size)


def parts(
    model: LoadedModel,
    items: Sequence[Item],
    starts: dict[int, int],
    unembedding: Unembedding,
    batch_size: int,
) -> Parts:
    """What heads and MLPs write at each answer position, examples in the order of their index."""
    found: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
    for batch in batches(items, batch_size):
        each = written(model, batch, unembedding).parts[:, 1:-1]
        flat = [(item.example, p - starts[item.example]) for item in batch for p in item.reads]
        for (example, position), one in zip(flat, each, strict=True):
            found[position].append((example, one))
    return {
        position: torch.stack([one for _, one in sorted(rows, key=lambda row: row[0])])
        for position, rows in found.items()
    }


def _compared(
    circuit: Scores, own: Tensor, weight: Tensor, other: Tensor, other_weight: Tensor
) -> pd.DataFrame:
    """``component, kind, layer, meaning, others, n`` at one answer position."""
    edges = circuit.edges
    cosine = alike(own, weight, other, other_weight).cpu().numpy()
    # Components write in the order of the graph; the edges' list of them may have another.
    names = circuit.graph.sources[1:]
    order = [names.index(name) for name in edges.components]
    cosine = cosine[np.ix_(order, order)]
    kind = np.where(np.asarray(edges.component_head) < 0, "mlp", "head")
    same = (kind[:, None] == kind) & ~np.eye(len(kind), dtype=bool)
    return pd.DataFrame(
        {
            "component": edges.components,
            "kind": kind,
            "layer": edges.component_layer,
            "meaning": np.diag(cosine),
            "others": (cosine * same).sum(1) / np.maximum(same.sum(1), 1),
            "n": len(own),
        }
    )


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """How much of the ARM's places and meanings is left, by part of the answer.

    ``place``: what the shares of the circuits have in common, Σ min(ARM's, model's), 1 where they
    are the same. ``meaning`` and ``others``: mean cosines, each component weighed by its share of
    the ARM's circuit.

    Args:
        table: of :func:`tables`.

    Returns:
        One row per task, training, model and part of the answer (:data:`FIRST`, :data:`LATER`):
        ``task, seed, model, part, place, meaning, others, n`` (examples).
    """
    weighed = table.assign(
        part=np.where(table.position == 0, FIRST, LATER),
        place=np.minimum(table.own, table.place),
        meaning=table.own * table.meaning,
        others=table.own * table.others,
    )
    by = ["task", "seed", "model", "part"]
    values = ["place", "meaning", "others"]
    reads = weighed.groupby([*by, "position"], sort=False)[values].sum()
    n = weighed.groupby(by, sort=False).n.min()
    return reads.groupby(by, sort=False).mean().assign(n=n).reset_index()


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """Differences between models in what they keep, over trainings.

    Args:
        table: of :func:`kept`.

    Returns:
        ``task, part, reading, model, base, difference, low, high, n`` (trainings).
    """
    rows: list[dict[str, Any]] = []
    for (task, part), here in table.groupby(["task", "part"], sort=False):
        for reading in READINGS:
            wide = here.pivot(index="seed", columns="model", values=reading)
            about = {"task": task, "part": part, "reading": reading}
            rows += [about | found for found in differences(wide, DIFFERENCES)]
    columns = ["task", "part", "reading", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def shown(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Components of one training at the first answer token, for the figure.

    Returns:
        ``task, model, component, kind, layer, own, left`` (share of its own place that is left),
        ``meaning, n``.
    """
    here = table[(table.seed == seed) & (table.position == 0)]
    left = np.minimum(here.place / here.own.where(here.own > 0), 1.0)
    return here.assign(left=left).drop(columns=["position", "others", "place", "seed"])


def by_depth(study: Study) -> pd.DataFrame:
    """Four instruments along the layers: how much of each is done at a layer's input.

    ``circuit``: share of the places of all layers before; ``writing``: of the direct contributions
    to answer − distractor; ``lens``: probability of the answer; ``probe``: accuracy for the token
    that is read next (first training only). All are means over answer positions.

    Returns:
        ``task, seed, model, instrument, layer`` (0: the embedding, last: the whole model),
        ``depth`` (layer / number of layers), ``value``, ``n`` (examples).
    """
    frames = [_circuits_by_depth(study), _writing_by_depth(study)]
    lens = lens_tables.by_layer(study)
    lens = lens[lens["read"] == lens_tables.main_read(lens)]
    frames.append(lens.assign(instrument="lens", value=lens.probability))
    probe = probe_tables.layer_table(study)
    last = probe.groupby("task").layer.transform("max")
    frames.append(
        probe.assign(
            instrument="probe", value=probe.accuracy, depth=probe.layer / last, seed=study.seed
        )
    )
    columns = ["task", "seed", "model", "instrument", "layer", "depth", "value", "n"]
    table = pd.concat([frame[columns] for frame in frames], ignore_index=True)
    tasks = list(dict.fromkeys(task for task, _ in asked(study)))
    models = [m for m in ("arm", *COMPARED) if m in study.pair.roles]
    return table[table.task.isin(tasks) & table.model.isin(models)].reset_index(drop=True)


def _circuits_by_depth(study: Study) -> pd.DataFrame:
    frames = []
    for task, seed in asked(study):
        for model in study.pair.roles:
            if study.has(model, seed):
                found = scores(study, task, model, seed)
                shares = place(found).mean(axis=0)
                layers = np.bincount(
                    found.edges.component_layer, weights=shares, minlength=found.graph.n_layers
                ).astype(np.float64)
                about = {"task": task, "seed": seed, "model": model, "n": len(found.examples)}
                frames.append(_cumulated(layers, about | {"instrument": "circuit"}))
    return pd.concat(frames, ignore_index=True)


def _writing_by_depth(study: Study) -> pd.DataFrame:
    table = components.tables(study)["answer"]
    table = table[table.kind.isin(["head", "mlp"])].assign(size=lambda x: x.logits.abs())
    by = ["task", "seed", "model"]
    layers = table.groupby([*by, "position", "layer"], sort=False)["size"].sum()
    shares = layers / layers.groupby([*by, "position"], sort=False).transform("sum")
    means = shares.groupby([*by, "layer"], sort=False).mean().unstack("layer").sort_index(axis=1)
    n = table.groupby(by, sort=False).n.min()
    frames = [
        _cumulated(row.to_numpy(), dict(zip(by, key, strict=True), n=n[key], instrument="writing"))
        for key, row in means.iterrows()
    ]
    return pd.concat(frames, ignore_index=True)


def _cumulated(layers: Array, about: dict[str, Any]) -> pd.DataFrame:
    value = np.concatenate([[0.0], np.cumsum(layers)])
    layer = np.arange(len(value))
    return pd.DataFrame({"layer": layer, "depth": layer / len(layers), "value": value}).assign(
        **about
    )


def halves(table: pd.DataFrame) -> pd.DataFrame:
    """At which depth each instrument passes half of where it ends, between layers by a line.

    Args:
        table: of :func:`by_depth`.

    Returns:
        ``task, model, instrument, depth`` (mean over trainings), ``least, most``, ``seeds``
        (trainings), ``n`` (examples).
    """
    rows = []
    for key, part in table.groupby(["task", "seed", "model", "instrument"], sort=False):
        curve = part.sort_values("layer")
        rows.append((*key, half_way(curve.depth.to_numpy(), curve.value.to_numpy()), part.n.min()))
    each = pd.DataFrame(rows, columns=["task", "seed", "model", "instrument", "depth", "n"])
    found = each.groupby(["task", "model", "instrument"], sort=False)
    return found.agg(
        least=("depth", "min"),
        most=("depth", "max"),
        seeds=("seed", "nunique"),
        n=("n", "min"),
        depth=("depth", "mean"),
    ).reset_index()


def half_way(depth: Array, value: Array) -> float:
    """Where a curve first passes the middle between where it starts and where it ends."""
    middle = (value[0] + value[-1]) / 2
    rising = value if value[-1] >= value[0] else 2 * middle - value
    after = int(np.argmax(rising >= middle))
    if after == 0:
        return float(depth[0])
    step = (middle - rising[after - 1]) / (rising[after] - rising[after - 1])
    return float(depth[after - 1] + step * (depth[after] - depth[after - 1]))
