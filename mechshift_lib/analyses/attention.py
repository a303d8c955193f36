"""What heads look at in every training, and how far the MDM's have moved from the ARM's.

In each training all models are asked the same questions, those that ARM and MDM both solve, and the
MDM reveals from the left, as the ARM writes: where an answer token is read, both have the same
tokens to the left. A head of the MDM is compared with the ARM's head that it was made from, and so
is a head of the control; heads of different trainings have nothing to do with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.shift import FEWEST, trainings
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.questions.items import batches
from mechshift_lib.circuits.tracing.patterns import attention_patterns
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.attention import (
    CLASSES,
    Array,
    Told,
    allowed,
    between_heads,
    exclusive,
    masses,
    total_variation,
    uniform,
    within,
)
from mechshift_lib.tasks import Example

ROOMS = ("circuits", "diffusion/samplers", "semantics", "analyses/behaviour", "analyses/attention")
#: Models that are compared, where a training has them; the first is what the others came from.
MODELS = ("arm", "mdm", "continued", "matched")
#: Queries: where answer tokens are read, or all of the prompt but its first.
READS, PROMPT = "reads", "prompt"


def asked(study: Study) -> dict[int, list[str]]:
    """Trainings -> tasks of which ARM and MDM solve enough examples in common."""
    found = defaultdict(list)
    for task in study.pair.tasks:
        for seed in trainings(study, [task]):
            found[seed].append(task)
    return dict(sorted(found.items()))


def tables(study: Study) -> Frames:
    """:func:`of_training` of every training, with ``seed``."""
    made = {seed: of_training(study, seed, tasks) for seed, tasks in asked(study).items()}
    names = next(iter(made.values()))
    return {
        name: pd.concat(
            [frames[name].assign(seed=seed) for seed, frames in made.items()], ignore_index=True
        )
        for name in names
    }


def of_training(study: Study, seed: int, tasks: Sequence[str]) -> Frames:
    """Everything of one training.

    Returns:
        ``heads``: ``task, model, queries`` (:data:`READS` or :data:`PROMPT`), ``layer, head,
        looked`` (at which class of keys), ``mass`` (attention that the class gets, a mean over
        queries that see such a key; NaN where fewer than :data:`FEWEST` examples have one),
        ``uniform`` (what it would get if a query looked alike at all it may look at), ``part``
        (attention that it gets where every key is in one class alone, a mean over all queries),
        ``n`` (examples), ``having`` (examples that have such a key).
        ``tokens``: at reads, ``task, model, layer, head, token`` (the one that gets most attention,
        wherever it stands), ``share`` (of the attention, a mean over reads).
        ``steps``: at reads, ``task, model, position`` (of the answer), ``looked, mass, uniform``
        (means over heads), ``n``.
        ``moved``: of every model but the ARM, means over reads, ``task, model, layer, head, whole``
        (total variation distance from the ARM's head), ``shared`` (over keys that both may look
        at), ``classes`` (of ``part``), ``nearest`` (``shared``, to the closest other head of its
        layer in the ARM), ``between`` (``shared``, between this and the other heads of its layer,
        all in the ARM), ``n``.
    """
    roles = [role for role in MODELS if study.has(role, seed)]
    chosen = {task: pool(study, task, seed) for task in tasks}
    keys = {task: study.key("arm", seed, task, ROOMS) for task in tasks}
    key = keys[tasks[0]] | {
        "task": list(tasks),
        "options": [one["options"] for one in keys.values()],
        "models": {role: study.key(role, seed, tasks[0], ROOMS)["models"][role] for role in roles},
        "pool": chosen,
    }

    def compute() -> Frames:
        found = defaultdict(list)
        first: dict[str, Looks] = {}
        for role in roles:
            model = study.model(role, seed)
            for task in tasks:
                about, size = {"task": task, "model": role}, study.budget.batch_size
                looks = look(model, study.examples(task, seed), chosen[task], size)
                base = first.setdefault(task, looks)
                found["heads"].append(looks.heads().assign(**about))
                found["tokens"].append(looks.tokens(model).assign(**about))
                found["steps"].append(looks.steps().assign(**about))
                looks.prompt.clear()
                if looks is not base:
                    found["moved"].append(compare(base, looks).assign(**about))
        return {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}

    return study.frames("attention", key, compute)


@dataclass(frozen=True)
class Look:
    """One query of one example.

    Attributes:
        example: number of the example.
        query: its position.
        ids: the input, ``[pos]``.
        pattern: weights of its keys in every head, ``[n_layers, n_heads, pos]``.
        classes: which keys are in which class, ``[n_class, pos]``.
        seen: which keys it may look at, ``[pos]``.
    """

    example: int
    query: int
    ids: NDArray[np.int64]
    pattern: Array
    classes: NDArray[np.bool_]
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class Looks:
    """What one model looks at on one task.

    Attributes:
        reads: answer position and example -> the query that is read there.
        prompt: queries of the prompt, its first token left out, while the whole answer waits.
    """

    reads: dict[tuple[int, int], Look]
    prompt: list[Look]

    def heads(self) -> pd.DataFrame:
        """The table ``heads`` of :func:`of_training`: every query weighs the same."""
        by = {READS: list(self.reads.values()), PROMPT: self.prompt}
        frames = [_by_head(looks).assign(queries=name) for name, looks in by.items()]
        return pd.concat(frames, ignore_index=True)

    def tokens(self, model: LoadedModel) -> pd.DataFrame:
        """The table ``tokens``."""
        looks = list(self.reads.values())
        names, at = np.unique(np.concatenate([x.ids for x in looks]), return_inverse=True)
        which = np.split(at, np.cumsum([len(x.ids) for x in looks])[:-1])
        total = sum(
            masses(x.pattern, np.arange(len(names))[:, None] == w)
            for x, w in zip(looks, which, strict=True)
        )
        share = np.asarray(total) / len(looks)
        layer, head = (x.ravel() for x in np.indices(share.shape[:2]))
        most = names[share.argmax(-1)].ravel().tolist()
        decoded = [model.tokenizer.decode([token]).strip() or "␣" for token in most]
        found = {"layer": layer, "head": head, "token": decoded, "share": share.max(-1).ravel()}
        return pd.DataFrame(found)

    def steps(self) -> pd.DataFrame:
        """The table ``steps``."""
        frames = []
        for position in sorted({position for position, _ in self.reads}):
            found = _by_head([look for (p, _), look in self.reads.items() if p == position])
            means = found.groupby("looked", sort=False, as_index=False)[["mass", "uniform", "n"]]
            frames.append(means.mean().assign(position=position))
        return pd.concat(frames, ignore_index=True).astype({"n": int})


def look(
    model: LoadedModel, examples: Sequence[Example], chosen: Sequence[int], batch_size: int
) -> Looks:
    """Ask a model the chosen examples and keep what its queries look at."""
    reads: dict[tuple[int, int], Look] = {}
    prompt: dict[int, list[Look]] = {}
    items = [item for i in chosen for item in model.readout.items(examples[i], i)]
    for batch in batches(items, batch_size):
        ids = torch.tensor([list(item.clean) for item in batch], device=model.device)
        patterns = attention_patterns(model, ids).float().cpu().numpy()
        for item, pattern in zip(batch, patterns, strict=True):
            example, told = examples[item.example], _told(model, examples[item.example], item)

            def at(
                query: int,
                answers: Sequence[int] = (),
                distractors: Sequence[int] = (),
                *,
                told: Told = told,
                pattern: Array = pattern,
                number: int = item.example,
            ) -> Look:
                classes = told.classes(query, answers, distractors)
                seen = allowed(query, len(told.ids), model.attention)
                told_ids = np.asarray(told.ids)
                return Look(number, query, told_ids, pattern[:, :, query], classes, seen)

            start = model.readout.read_position(len(example.clean))
            for query, right, wrong in zip(item.reads, item.answers, item.distractors, strict=True):
                reads[query - start, item.example] = at(query, right, wrong)
            if item.example not in prompt:  # the first question: the whole answer waits
                prompt[item.example] = [at(query) for query in range(1, len(example.clean))]
    return Looks(dict(sorted(reads.items())), [one for i in chosen for one in prompt[i]])


def compare(base: Looks, other: Looks) -> pd.DataFrame:
    """The table ``moved`` of :func:`of_training`: a model's heads from those that they came from.

    Args:
        base: the ARM.
        other: the model, asked the same.
    """
    whole, to, among = [], [], []
    for where, one in base.reads.items():
        two = other.reads[where]
        keys = min(one.query, two.query) + 1  # the ARM sees none to the right
        own, moved = within(one.pattern, keys), within(two.pattern, keys)
        whole.append(total_variation(one.pattern, two.pattern))
        to.append(between_heads(own, moved))
        among.append(between_heads(own, own))
    parts = [_parts(list(looks.reads.values())) for looks in (base, other)]
    distance, across = np.mean(whole, axis=0), np.mean(to, axis=0)
    layers, heads = distance.shape
    others = ~np.eye(heads, dtype=bool)
    layer, head = np.indices((layers, heads))
    table = pd.DataFrame(
        {
            "layer": layer.ravel(),
            "head": head.ravel(),
            "whole": distance.ravel(),
            "shared": across[:, ~others].ravel(),
            "classes": total_variation(*parts).ravel(),
            "n": len({one.example for one in base.reads.values()}),
        }
    )
    if heads == 1:
        return table.assign(nearest=np.nan, between=np.nan)
    nearest = np.where(others, across, np.inf).min(1)  # of the ARM's other heads
    apart = np.where(others, np.mean(among, axis=0), 0).sum(-1) / (heads - 1)
    return table.assign(nearest=nearest.ravel(), between=apart.ravel())


def _told(model: LoadedModel, example: Example, item: Item) -> Told:
    answer = set(example.answer)
    given = [p for p, token in enumerate(example.clean) if token in answer]
    return Told(item.clean, model.mask_id, example.differ, given)


def _parts(looks: Sequence[Look]) -> Array:
    """Mean attention of every head with each key in one class alone, ``[..., n_class]``."""
    found: Array = np.mean([masses(x.pattern, exclusive(x.classes)) for x in looks], axis=0)
    return found


def _by_head(looks: Sequence[Look]) -> pd.DataFrame:
    """One row per head and class (see :func:`of_training`)."""
    there = np.stack([(x.classes & x.seen).any(-1) for x in looks])  # [look, class]
    example = np.array([x.example for x in looks])
    having = np.array([len(set(example[has])) for has in there.T])
    n = np.where(having < FEWEST, np.nan, there.sum(0))
    total = sum(masses(x.pattern, x.classes) * has for x, has in zip(looks, there, strict=True))
    even = sum(uniform(x.classes, x.seen) * has for x, has in zip(looks, there, strict=True))
    mass, part = np.asarray(total) / n, _parts(looks)
    layer, head, at = (x.ravel() for x in np.indices(mass.shape))
    return pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "looked": [CLASSES[i] for i in at],
            "mass": mass.ravel(),
            "uniform": (np.asarray(even) / n)[at],
            "part": part.ravel(),
            "n": len(set(example)),
            "having": having[at],
        }
    )
