"""What can be read from the residual stream, where and when: answer, later tokens, step.

A **cell** is one activation and one label: which model, task, denoising step, place, layer and
label. At step s the first s tokens of the right answer are given, to the ARM by teacher forcing and
to the MDM on its canvas. Places are

- ``now``: the position at which answer token s is read;
- ``own``: the position at which the labelled later token will be read (a MASK's place; only an MDM
  has one before the token is written);
- ``prompt-end``: the position at which the first answer token is read, whatever the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.config import Role
from mechshift_lib.semantics.activations import predictions_without, stream_at
from mechshift_lib.semantics.probes import (
    Split,
    control_labels,
    directions,
    fit_probes,
    shuffled_labels,
    split_examples,
    word_features,
)
from mechshift_lib.tasks import Example

ROOMS = ("circuits", "semantics", "comparison/bootstrap", "analyses/probes")
#: Classes that a number is sorted into, of equal size.
QUARTERS = 4

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
#: Place, step and activations of every layer, ``[n_layers + 1, n, d_model]``.
Activations = tuple[str, int, NDArray[np.floating]]
#: Random splits of the examples that later tokens are read over.
SPLITS = 5


@dataclass(frozen=True)
class Probed:
    """Probes of one model, or of the input itself, on one task.

    Attributes:
        cells: one row a cell: ``place, step, target, layer, validation, accuracy, control,
            shuffled, classes``. The target is the index of an answer token, :data:`STEP` or
            :data:`NUMBER`.
        hits: share of each held-out example's labels that were guessed (of a token 0 or 1),
            ``[n_cell, n_test]``.
    """

    cells: pd.DataFrame
    hits: Array


#: Targets that aren't answer tokens: the denoising step, and Countdown's target number.
STEP, NUMBER = -1, -2


def n_answer(examples: list[Example]) -> int:
    """Answer tokens that every example has."""
    return min(len(example.answer) for example in examples)


def token_labels(examples: list[Example]) -> dict[int, Labels]:
    """Label of each answer token: the token; where many are right, how many, in quarters."""
    labels = {}
    for j in range(n_answer(examples)):
        right = np.array([len(example.answers[j]) for example in examples])
        tokens = np.array([example.answer[j] for example in examples])
        labels[j] = quarters(right) if (right > 1).any() else tokens
    return labels


def quarters(values: NDArray[np.int64]) -> Labels:
    """Which quarter of the values each one belongs to, 0 to 3."""
    cuts = np.quantile(values, np.arange(1, QUARTERS) / QUARTERS)
    return np.searchsorted(cuts, values, side="left").astype(np.int64)


def words(examples: list[Example]) -> Labels:
    """The word that the control task goes by: the prompt position with the most different ones."""
    shortest = min(len(example.clean) for example in examples)
    ids = np.array([example.clean[-shortest:] for example in examples])
    return np.asarray(ids[:, np.argmax([len(np.unique(column)) for column in ids.T])])


def probed(study: Study, task: str, role: Role) -> Probed:
    """Probes at every layer, step and place of a model, over all held-out examples."""

    def compute() -> dict[str, pd.DataFrame]:
        examples = study.examples(task, study.seed)
        return _frames(_cells(_activations(study, task, role), examples), examples)

    return _read(study.frames("probes", study.key(role, study.seed, task, ROOMS), compute))


def probed_input(study: Study, task: str) -> Probed:
    """The same probes on the input itself: which token stands where (layer 0, place ``input``)."""

    def compute() -> dict[str, pd.DataFrame]:
        examples = study.examples(task, study.seed)
        return _frames(_cells(_inputs(examples), examples), examples)

    return _read(study.frames("probes-input", study.key("arm", study.seed, task, ROOMS), compute))


def later(study: Study, task: str, role: Role, seed: int) -> dict[str, pd.DataFrame]:
    """How well later answer tokens are read from a model of one training, over several splits.

    Returns:
        ``later``: one row per place and split: ``place, split, accuracy``, a mean over steps, later
        tokens and held-out examples; for each token the layer is the one that validation prefers.
        ``cells``: the same of every layer: ``place, step, target, layer, accuracy``, a mean over
        splits; no layer is chosen.
    """

    def compute() -> dict[str, pd.DataFrame]:
        examples = study.examples(task, seed)
        return _over_splits(list(_activations(study, task, role, seed)), examples)

    key = study.key(role, seed, task, ROOMS) | {"splits": SPLITS}
    return study.frames("later", key, compute)


def later_input(study: Study, task: str) -> dict[str, pd.DataFrame]:
    """The same from the input itself (place ``input``)."""

    def compute() -> dict[str, pd.DataFrame]:
        examples = study.examples(task, study.seed)
        return _over_splits(list(_inputs(examples)), examples)

    key = study.key("arm", study.seed, task, ROOMS) | {"splits": SPLITS}
    return study.frames("later-input", key, compute)


def _over_splits(
    activations: list[Activations], examples: list[Example]
) -> dict[str, pd.DataFrame]:
    tokens, rows, cells = token_labels(examples), [], []
    for number in range(SPLITS):
        split = split_examples(len(examples), RESAMPLING_SEED + number)
        read: dict[str, list[float]] = {}
        for place, step, layers in activations:
            name, _, own = place.partition("+")
            wanted = {int(own)} if own else {j for j in tokens if j > step}
            targets = [j for j in sorted(wanted) if place != "prompt-end"]
            targets = [j for j in targets if len(np.unique(tokens[j][split.train])) > 1]
            labels = [tokens[j] for j in targets]
            by_layer = [fit_probes(features, labels, split) for features in layers if labels]
            for target, probes in zip(targets, zip(*by_layer, strict=True), strict=True):
                best = max(probes, key=lambda probe: probe.validation)  # of equals the first
                read.setdefault(name, []).append(best.accuracy)
                cells += [(name, step, target, k, p.accuracy) for k, p in enumerate(probes)]
        rows += [(place, number, float(np.mean(found))) for place, found in read.items()]
    about = ["place", "step", "target", "layer"]
    each = pd.DataFrame(cells, columns=[*about, "accuracy"])
    return {
        "later": pd.DataFrame(rows, columns=["place", "split", "accuracy"]),
        "cells": each.groupby(about, as_index=False, sort=False).accuracy.mean(),
    }


def _read(frames: dict[str, pd.DataFrame]) -> Probed:
    return Probed(frames["cells"], frames["hits"].to_numpy(dtype=float).T)


def _split(examples: list[Example]) -> Split:
    return split_examples(len(examples), RESAMPLING_SEED)


def _inputs(examples: list[Example]) -> Iterator[Activations]:
    """Which token stands where, as the activations of one layer at place ``input``."""
    longest = max(len(example.clean) for example in examples)
    for step in range(n_answer(examples)):
        seen = [(*e.clean, *e.answer[:step]) for e in examples]
        # From the end, as that is where answers stand.
        ids = np.array([(-1,) * (longest + step - len(one)) + one for one in seen])
        yield "input", step, word_features(ids)[None]


def _activations(
    study: Study, task: str, role: Role, seed: int | None = None
) -> Iterator[Activations]:
    """Place, step and activations ``[n_layers + 1, n, d_model]``, one after the other.

    ``own+j`` is the place of token j. One step is in memory at a time.
    """
    seed = study.seed if seed is None else seed
    model, examples = study.model(role, seed), study.examples(task, seed)
    n, size = n_answer(examples), study.budget.batch_size
    read = model.readout.read_position
    places = [[read(len(e.clean) + j) for j in range(n)] for e in examples]
    if model.mask_id is None:
        inputs = [(*e.clean, *e.answer[: n - 1]) for e in examples]
        found = stream_at(model, inputs, places, size)
        for step in range(n):
            yield "now", step, found[:, :, step]
        return
    ends = []
    for step in range(n):
        masks = (model.mask_id,) * (n - step)
        inputs = [(*e.clean, *e.answer[:step], *masks) for e in examples]
        found = stream_at(model, inputs, places, size)
        yield "now", step, found[:, :, step]
        for j in range(step + 1, n):
            yield f"own+{j}", step, found[:, :, j]
        ends.append(found[:, :, 0])
    if n > 1:
        yield "prompt-end", STEP, np.concatenate(ends, axis=1)


def _cells(activations: Iterator[Activations], examples: list[Example]) -> list[tuple[dict, Array]]:
    """Every cell with its held-out hits; a label with one class among the trained has none."""
    tokens, split, word = token_labels(examples), _split(examples), words(examples)
    number = (
        {NUMBER: quarters(np.array([e.info["target"] for e in examples]))}
        if all("target" in e.info for e in examples)
        else {}
    )
    found = []
    for place, step, layers in activations:
        if place == "prompt-end":
            n_step = layers.shape[1] // len(examples)
            labels = {STEP: np.repeat(np.arange(n_step), len(examples))}
            part, by = _repeated(split, len(examples), n_step), np.tile(word, n_step)
        else:
            ahead = {j: y for j, y in tokens.items() if j >= step} | number
            own = int(place.split("+")[1]) if "+" in place else None
            labels = ahead if own is None else {own: tokens[own]}
            part, by, n_step = split, word, 1
        labels = {t: y for t, y in labels.items() if len(np.unique(y[part.train])) > 1}
        fitted = list(labels.values())
        controls = [control_labels(by, y, RESAMPLING_SEED) for y in fitted]
        shuffled = [shuffled_labels(y, RESAMPLING_SEED) for y in fitted]
        usable = [len(np.unique(y[part.train])) > 1 for y in (*controls, *shuffled)]
        rest = [y for y, use in zip((*controls, *shuffled), usable, strict=True) if use]
        for layer, features in enumerate(layers):
            probes = fit_probes(features, [*fitted, *rest], part)
            others = iter(probes[len(fitted) :])
            chance = [next(others).accuracy if use else np.nan for use in usable]
            for i, target in enumerate(labels):
                row = {"place": place.split("+")[0], "step": step, "target": target}
                row |= {"layer": layer, "validation": probes[i].validation}
                row |= {"accuracy": probes[i].accuracy, "control": chance[i]}
                row |= {"shuffled": chance[len(fitted) + i], "classes": len(probes[i].classes)}
                found.append((row, probes[i].correct.reshape(n_step, -1).mean(0)))
    return found


def _repeated(split: Split, n: int, times: int) -> Split:
    """The same split of examples that occur several times, one time after the other."""
    parts = (split.train, split.validation, split.test)
    return Split(*(np.concatenate([part + n * k for k in range(times)]) for part in parts))


def _frames(found: list[tuple[dict, Array]], examples: list[Example]) -> dict[str, pd.DataFrame]:
    hits = pd.DataFrame(
        np.array([hit for _, hit in found]).T, columns=[str(i) for i in range(len(found))]
    )
    return {"cells": pd.DataFrame([row for row, _ in found]), "hits": hits}


def amnesic(study: Study, task: str, role: Role) -> pd.DataFrame:
    """Is the first answer token still predicted once its directions are taken out?

    The directions of the label (class means of the fitted examples) are taken out where the token
    is read, at the input of one layer; as control those of shuffled labels, as many.

    Returns:
        One row per layer and held-out example: ``layer, rank, whole, without, control``; the last
        three say whether the predicted token is a right one. Empty where the label has one class.
    """

    def compute() -> dict[str, pd.DataFrame]:
        model, examples = study.model(role, study.seed), study.examples(task, study.seed)
        labels, split = token_labels(examples)[0], _split(examples)
        columns = ["layer", "rank", "whole", "without", "control"]
        if len(np.unique(labels[split.fitted])) < 2:
            return {"amnesic": pd.DataFrame(columns=columns)}
        masks = () if model.mask_id is None else (model.mask_id,) * n_answer(examples)
        inputs = [(*e.clean, *masks) for e in examples]
        places = [model.readout.read_position(len(e.clean)) for e in examples]
        stream = stream_at(model, inputs, [[p] for p in places], study.budget.batch_size)
        known = stream[:, split.fitted, 0].astype(float)
        own = labels[split.fitted]
        other = shuffled_labels(own, RESAMPLING_SEED)
        layers = range(1, model.n_layers)
        bases = [(k, directions(known[k], y)) for k in layers for y in (own, other)]
        means = [known[k].mean(0) for k, _ in bases]
        asked = [inputs[i] for i in split.test], [places[i] for i in split.test]
        tokens = predictions_without(model, *asked, bases, means, study.budget.batch_size)
        answers = [examples[i].answers[0] for i in split.test]
        right = np.array([[t in a for t, a in zip(row, answers, strict=True)] for row in tokens])
        frames = [
            pd.DataFrame({"layer": k, "rank": len(bases[2 * i][1]), "whole": right[0]})
            .assign(without=right[1 + 2 * i], control=right[2 + 2 * i])
            for i, k in enumerate(layers)
        ]  # fmt: skip
        return {"amnesic": pd.concat(frames, ignore_index=True)}

    key = study.key(role, study.seed, task, ROOMS)
    return study.frames("amnesic", key, compute)["amnesic"]
