"""What each head and MLP writes into the logits, and how few do it, in every training.

In each training all models are asked the same questions, those that ARM and MDM both solve, and the
MDM reveals from the left, as the ARM writes. What is judged of it is in "Components" in the
methods.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.shift import FEWEST, trainings
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.questions.items import batches
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.components import (
    BIAS,
    Unembedding,
    logits_of,
    random_tokens_share,
    tokens_share,
    written,
)
from mechshift_lib.semantics.concentration import lorenz, measures
from mechshift_lib.semantics.roles import role_of

ROOMS = ("circuits", "diffusion/samplers", "semantics", "analyses/behaviour", "analyses/components")
#: Models that are compared, where a training has them.
MODELS = ("arm", "mdm", "continued", "matched")
#: What components write in: their own directions, or random ones of the same norm.
OWN, RANDOM = "own", "random"
#: Draws of random directions.
DRAWS = 20
#: How many tokens name a component, how many say its role, and how many components are listed.
NAMED, JUDGED, LISTED = 3, 10, 2
#: Logits of components that are looked at for one answer position: all of a small model's, those of
#: the first prompts of a large one's (never fewer than the least number of examples).
MOST_LOGITS = 120_000_000
#: The two readings that are judged: column -> what is spread.
READINGS = {
    "participation_free": "heads and MLPs that carry the answer",
    "tokens": "tokens that a component writes to",
}
#: Differences that are given over trainings: model, minus base.
DIFFERENCES = (("mdm", "arm"), ("continued", "arm"), ("mdm", "continued"), ("matched", "continued"))


def asked(study: Study) -> list[tuple[str, int]]:
    """Tasks and trainings of which ARM and MDM solve enough examples in common."""
    return [(task, seed) for task in study.pair.tasks for seed in trainings(study, [task])]


def tables(study: Study) -> Frames:
    """:func:`split` of every model, task and training: its tables with ``task, seed, model``."""
    wanted = [
        (task, seed, role)
        for task, seed in asked(study)
        for role in MODELS
        if study.has(role, seed)
    ]
    # One model after the other, as loading takes longer than asking.
    loaded = sorted(wanted, key=lambda one: (one[1], MODELS.index(one[2])))
    made = {one: of_model(study, one[0], one[2], one[1]) for one in loaded}
    found = defaultdict(list)
    for task, seed, role in wanted:
        for name, frame in made[task, seed, role].items():
            found[name].append(frame.assign(task=task, seed=seed, model=role))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}


def of_model(study: Study, task: str, role: str, seed: int) -> Frames:
    """One model on one task (see :func:`split`), from the store."""
    chosen = pool(study, task, seed)
    key = study.key(role, seed, task, ROOMS) | {"pool": chosen}

    def compute() -> Frames:
        model, examples = study.model(role, seed), study.examples(task, seed)
        readout = model.readout
        items = [item for i in chosen for item in readout.items(examples[i], i)]
        starts = {i: readout.read_position(len(examples[i].clean)) for i in chosen}
        return split(model, items, starts, study.budget.batch_size)

    return study.frames("components", key, compute)


def split(
    model: LoadedModel, items: Sequence[Item], starts: Mapping[int, int], batch_size: int
) -> Frames:
    """Split a model's logits into what its components write.

    Args:
        model: a loaded model.
        items: its questions.
        starts: example -> position at which its first answer token is read.
        batch_size: items a pass.

    Returns:
        ``answer``: one row per answer position and component: ``position, component, layer, kind``
        (``input``, ``head``, ``mlp`` or ``bias``), ``logits`` (of answer − distractor, a mean over
        examples), ``n`` (examples). ``spread``: one row per position and ``directions``
        (:data:`OWN` or :data:`RANDOM`): the measures of heads and MLPs
        (:mod:`mechshift_lib.semantics.concentration`) and ``tokens``, the share of the vocabulary
        that they write to. ``curve``: their Lorenz curves: ``position, directions, n, x`` (share
        of components), ``y``. ``lens``: one row per head and MLP: ``component, kind, layer,
        tokens`` (those that it adds most to), ``logit`` (to the first of them, a mean over
        examples and positions), ``scaled`` (beyond what it adds to all, in standard deviations of
        the model's logits), ``role``. ``check``: ``gap``, largest deviation of the sum of all
        components from the model's own difference of logits.
    """
    unembedding = Unembedding.of(model)
    read = _Reads()
    for batch in batches(items, batch_size):
        found = written(model, batch, unembedding)
        logits = model.logits(torch.tensor([list(item.clean) for item in batch])).float()
        drawn = found.of_random(DRAWS, RESAMPLING_SEED)
        read.names = found.names
        prompts = max(FEWEST, MOST_LOGITS // (len(found.names) * len(unembedding.weight)))
        flat = [(row, i, p) for row, item in enumerate(batch) for i, p in enumerate(item.reads)]
        for number, (row, i, position) in enumerate(flat):
            item, own = batch[row], found.answer[number]
            place, level = position - starts[item.example], logits[row, position]
            right, wrong = (level[list(x[i])].mean() for x in (item.answers, item.distractors))
            read.gap = max(read.gap, abs(float(right - wrong) - float(own.sum())))
            read.deviation.append(float(level.std()))
            read.answer[place].append(own)
            read.random[place].append(drawn[:, number])
            if len(read.tokens[place]) < prompts:
                read.tokens[place].append(_tokens(found.parts[number, 1:-1], unembedding))
            read.parts[place].append(found.parts[number])
    chance = random_tokens_share(model, unembedding, 10 * DRAWS, RESAMPLING_SEED)
    return _summed(read, chance) | {"lens": _lens(model, read, unembedding)}


class _Reads:
    """What was found at the reads, by answer position."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.answer: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        self.random: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        self.tokens: dict[int, list[float]] = defaultdict(list)
        self.parts: dict[int, list[Tensor]] = defaultdict(list)
        self.deviation: list[float] = []
        self.gap = 0.0

    @property
    def about(self) -> dict[str, list[Any]]:
        """Name, kind and layer (−1 for what has none) of each component."""
        bare = ("input", BIAS)
        kinds = [x if x in bare else {"a": "head", "m": "mlp"}[x[0]] for x in self.names]
        layers = [-1 if x in bare else int(x[1:].split(".")[0]) for x in self.names]
        return {"component": self.names, "kind": kinds, "layer": layers}


def _summed(read: _Reads, chance: float) -> Frames:
    """Tables by answer position; heads and MLPs are all but the first and the last component."""
    answer, spread, curve = [], [], []
    for place in sorted(read.answer):
        mean, n = np.mean(read.answer[place], axis=0), len(read.answer[place])
        answer.append(pd.DataFrame(read.about | {"position": place, "logits": mean, "n": n}))
        random = np.mean(read.random[place], axis=0)
        tokens = {OWN: float(np.mean(read.tokens[place])), RANDOM: chance}
        for directions, x in {OWN: mean[None], RANDOM: random}.items():
            alone, about = x[:, 1:-1], {"position": place, "directions": directions, "n": n}
            found = {name: float(value.mean()) for name, value in measures(alone).items()}
            spread.append(about | {"tokens": tokens[directions]} | found)
            y = lorenz(alone).mean(0)
            curve.append(pd.DataFrame(about | {"x": np.linspace(0, 1, len(y)), "y": y}))
    return {
        "answer": pd.concat(answer, ignore_index=True),
        "spread": pd.DataFrame(spread),
        "curve": pd.concat(curve, ignore_index=True),
        "check": pd.DataFrame([{"gap": read.gap}]),
    }


def _tokens(parts: Tensor, unembedding: Unembedding) -> float:
    """Share of the vocabulary that components write to, weighted by how much they write."""
    share, size = tokens_share(parts, unembedding)
    return float((share * size).sum() / size.sum())


def _lens(model: LoadedModel, read: _Reads, unembedding: Unembedding) -> pd.DataFrame:
    """What heads and MLPs add most to, in the mean over examples, then positions."""
    parts = torch.stack([torch.stack(read.parts[p]).mean(0) for p in sorted(read.parts)]).mean(0)
    logits = logits_of(parts, unembedding)[1:-1]
    best = logits.topk(min(JUDGED, logits.shape[-1]), dim=-1)
    beyond = (best.values[:, 0] - logits.mean(-1)) / float(np.mean(read.deviation))
    names = [[model.tokenizer.decode([i]).strip() for i in row] for row in best.indices.tolist()]
    table = pd.DataFrame(read.about).iloc[1:-1].reset_index(drop=True)
    return table.assign(
        tokens=[" ".join(row[:NAMED]) for row in names],
        logit=best.values[:, 0].double().cpu().numpy(),
        scaled=beyond.double().cpu().numpy(),
        role=[role_of(row) for row in names],
    )


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """Means over answer positions of the table ``spread``.

    Returns:
        One row per task, training, model and directions, with its measures and ``n``, the fewest
        examples at a position.
    """
    by = ["task", "seed", "model", "directions"]
    found = table.drop(columns="position").groupby(by, sort=False)
    return found.mean().assign(n=found.n.min()).reset_index()


def more(table: pd.DataFrame, reading: str) -> pd.DataFrame:
    """By how much each model is more spread than the ARM, a mean over a training's tasks.

    Args:
        table: of :func:`spread`.
        reading: a key of :data:`READINGS`.

    Returns:
        ``[seed, model]``, as shares of the components or tokens.
    """
    own = table[table.directions == OWN]
    wide = own.groupby(["seed", "model"])[reading].mean().unstack("model")
    return wide.drop(columns="arm").sub(wide["arm"], axis=0)


def over_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """Differences between models over trainings, for every task, beside those between ARMs.

    Args:
        table: of :func:`spread`.

    Returns:
        ``task, reading, model, base, difference, low, high, n`` (trainings). ``arm`` minus ``arm``
        is the mean absolute difference between two trainings, without an interval; ``n`` counts
        the trainings.
    """
    rows: list[dict[str, Any]] = []
    own = table[table.directions == OWN]
    for task, part in own.groupby("task", sort=False):
        for reading in READINGS:
            wide = part.pivot(index="seed", columns="model", values=reading)
            about = {"task": task, "reading": reading}
            rows += [about | found for found in differences(wide, DIFFERENCES)]
            apart = [abs(a - b) for a, b in combinations(wide["arm"], 2)]
            if apart:
                both = {"model": "arm", "base": "arm", "difference": float(np.mean(apart))}
                rows.append(about | both | {"low": np.nan, "high": np.nan, "n": len(wide)})
    columns = ["task", "reading", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def totals(table: pd.DataFrame) -> pd.DataFrame:
    """What each kind of component adds to answer − distractor, a mean over answer positions.

    Args:
        table: the table ``answer`` of :func:`tables`.

    Returns:
        One row per task and model, means over trainings: ``task, model, total, input, head, mlp,
        bias`` (logits), ``n`` (examples).
    """
    by = ["task", "seed", "model", "position"]
    n = table.groupby(["task", "model"], sort=False).n.min()
    kinds = table.groupby([*by, "kind"], sort=False).logits.sum().unstack("kind")
    means = kinds.groupby(["task", "seed", "model"], sort=False).mean()
    found = means.groupby(["task", "model"], sort=False).mean()
    return found.assign(total=found.sum(axis=1), n=n).reset_index()


def shown_grid(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Heads and MLPs of one training as shares of what all of them write, for the figure.

    Returns:
        ``task, model, component, layer, kind, share`` (signed, a mean over positions), ``n``.
    """
    own = table[(table.seed == seed) & table.kind.isin(["head", "mlp"])]
    by = own.groupby(["task", "model", "position"], sort=False).logits
    shares = own.assign(share=own.logits / by.transform(lambda x: x.abs().sum()))
    return shares.groupby(
        ["task", "model", "component", "layer", "kind"], sort=False, as_index=False
    ).agg(share=("share", "mean"), n=("n", "min"))


def strongest(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The components with the largest mean logits of one training: rows of the table ``lens``."""
    own = table[table.seed == seed].sort_values("logit", ascending=False)
    found = own.groupby(["task", "model"], sort=False).head(LISTED)
    tasks, models = list(dict.fromkeys(table.task)), list(MODELS)
    order = [
        (tasks.index(t), models.index(m)) for t, m in zip(found.task, found.model, strict=True)
    ]
    ranked = found.assign(at=order).sort_values(["at", "logit"], ascending=[True, False])
    return ranked.drop(columns="at").reset_index(drop=True)
