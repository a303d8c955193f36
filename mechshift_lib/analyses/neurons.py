"""What single neurons stand for, and how many different things, in every training.

All models of a training read the same texts: examples that ARM and MDM both solve, with their
answers, and filler. What is judged of it is in "Neurons" in the methods.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.analyses.behaviour import solved
from mechshift_lib.analyses.shift import trainings
from mechshift_lib.analyses.study import EXAMPLES_SEED, RESAMPLING_SEED, Study
from mechshift_lib.circuits.attribution.neurons import SITES, Site, attribute_neurons
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.results.store import Frames
from mechshift_lib.semantics.explaining import (
    Explainer,
    Explanation,
    RuleExplainer,
    information,
    score,
)
from mechshift_lib.semantics.explanations import THRESHOLDS, relative_variance
from mechshift_lib.semantics.local_explainer import LocalExplainer
from mechshift_lib.semantics.neurons import looked_at, neuron_activations, rotated
from mechshift_lib.semantics.rules import CLASSES, SPECIAL, Text, class_of, places, rules_of
from mechshift_lib.tasks.filler import filler_text

ROOMS = (
    "circuits",
    "diffusion/samplers",
    "semantics",
    "analyses/behaviour",
    "analyses/neurons",
)
#: Models that are compared, where a training has them.
MODELS = ("arm", "mdm", "continued", "matched")
#: How texts are read: whole, or with masks in the place of the answers (MDMs only).
WHOLE, MASKED = "whole", "masked"
#: In which basis of the stream: its coordinates, or a random one.
OWN, RANDOM = "own", "random"
#: Random bases.
DRAWS = 2
#: Quantiles that activations are cut at to measure information.
BINS = 8
#: Examples of each task that attributions are taken over, at most.
ATTRIBUTED = 8
#: Neurons that are named, texts that each is shown with, and tokens around its strongest.
LISTED, CONTEXTS, AROUND = 2, 3, 2
#: Share of neurons whose scores without any rule to find lie below what is given as chance.
CHANCE = 0.99
#: Texts that a language model simulates neurons on: it reads each once a neuron.
SIMULATED = 8


def asked(study: Study) -> dict[int, list[str]]:
    """Trainings, and the tasks of which ARM and MDM solve enough examples in common there."""
    found: dict[int, list[str]] = defaultdict(list)
    for task in study.pair.tasks:
        for seed in trainings(study, [task]):
            found[seed].append(task)
    return {seed: found[seed] for seed in sorted(found)}


def tables(study: Study) -> Frames:
    """:func:`explained` of every model and training: its tables with ``seed, model``."""
    found = defaultdict(list)
    for seed in asked(study):
        for role in MODELS:
            if study.has(role, seed):
                for name, frame in of_model(study, role, seed).items():
                    found[name].append(frame.assign(seed=seed, model=role))
    return {name: pd.concat(frames, ignore_index=True) for name, frames in found.items()}


def of_model(study: Study, role: str, seed: int) -> Frames:
    """One model of one training (see :func:`explained`), from the store."""
    chosen = _chosen(study, seed)
    options = {task: study.pair.task_options.get(task, {}) for task in chosen}
    key = study.key(role, seed, "all", ROOMS) | {
        "tasks": options, "pool": chosen, "texts": study.budget.neuron_texts,
        "steps": study.budget.ig_steps,
    }  # fmt: skip

    def compute() -> Frames:
        model, texts = study.model(role, seed), read_texts(study, seed)
        attributed = _attributed(study, model, chosen, seed)
        return explained(model, texts, attributed, study.budget.batch_size)

    return study.frames("neurons", key, compute)


def _chosen(study: Study, seed: int) -> dict[str, list[int]]:
    """The examples of each task whose texts are read."""
    n = study.budget.neuron_texts
    return {task: solved(study, task, seed)[:n] for task in asked(study)[seed]}


def read_texts(study: Study, seed: int) -> list[Text]:
    """What all models of a training read: examples with their answers, and filler.

    Filler is drawn anew, so single sentences of it may have been met in training.
    """
    model = study.model("arm", seed)
    tokenizer, found = model.tokenizer, []
    special = set(tokenizer.all_special_ids)

    def add(ids: Sequence[int], kind: str, start: int | None) -> None:
        tokens = [SPECIAL if i in special else tokenizer.decode([i]).strip() for i in ids]
        found.append(Text(tuple(ids), tuple(tokens), kind, start))

    for task, chosen in _chosen(study, seed).items():
        examples = study.examples(task, seed)
        for i in chosen:
            one = examples[i]
            add((*one.clean, *one.answer), task, len(one.clean))
    rng = random.Random(EXAMPLES_SEED)
    for _ in range(study.budget.neuron_texts):
        ids = tokenizer(filler_text(rng))["input_ids"]
        add(ids, "filler", None)
    return found


def _attributed(
    study: Study, model: LoadedModel, chosen: Mapping[str, Sequence[int]], seed: int
) -> dict[Site, NDArray[np.float64]]:
    """Share of each neuron in all of its site's |attribution|, a mean over tasks."""
    found: dict[Site, NDArray[np.float64]] = {}
    for task, rows in chosen.items():
        examples, metric = study.examples(task, seed), study.task(task).metric
        items = [x for i in rows[:ATTRIBUTED] for x in model.readout.items(examples[i], i)]
        for site in SITES:
            size = np.abs(
                attribute_neurons(
                    model, items, site=site, metric=metric, steps=study.budget.ig_steps,
                    batch_size=study.budget.batch_size,
                ).astype(np.float64)
            )  # fmt: skip
            size = size[:, looked_at(model, site)]
            found[site] = found.get(site, 0) + size / size.sum() / len(chosen)
    return found


def explained(
    model: LoadedModel,
    texts: Sequence[Text],
    attributed: Mapping[Site, NDArray[np.float64]],
    batch_size: int,
) -> Frames:
    """Explain every neuron of a model by a rule, and score it on the texts it wasn't chosen on.

    Args:
        model: a loaded model.
        texts: what is read; every other text is of the same half.
        attributed: what each neuron weighs for the answers, ``[n_layers, width]`` of each site.
        batch_size: texts a pass.

    Returns:
        ``neurons``: one row per neuron: ``site`` (``stream`` or ``mlp``), ``layer, neuron, said``
        (its rule), ``more`` (whether it is larger where the rule is true), ``score, raw``
        (variance, first tokens included), ``relative`` (to the mean variance of its layer),
        ``information`` (with the token's class, bits), ``attributed``.
        ``sets``: one row per ``state`` (:data:`WHOLE` or :data:`MASKED`), ``site, basis``
        (:data:`OWN` or :data:`RANDOM`), ``draw`` and ``threshold``: ``neurons, explained`` (of
        them, from that score on), ``score, information`` (means over all), ``relative, raw``
        (means over those explained). ``counts``: how many neurons of such a set have each
        explanation: ``..., said, n``. ``top``: neurons with the largest attributions:
        ``site, layer, neuron, said, more, score, attributed, contexts``. ``check``: ``chance``,
        what scores reach without anything to find, ``positions, texts, rules``.
    """
    found = _Found()
    reading = _Reading.of(texts, texts)
    acts = neuron_activations(model, texts, batch_size)
    neurons = []
    for site in SITES:
        kept, said = reading.explain(acts[site])
        found.add(WHOLE, site, OWN, 0, kept)
        shape = acts[site].shape
        layer, neuron = (x.ravel() for x in np.indices((shape[0], shape[2])))
        neurons.append(
            kept.assign(
                site=site, layer=layer, neuron=looked_at(model, site)[neuron],
                attributed=attributed[site].ravel(), more=[x.inside > x.outside for x in said],
            )
        )  # fmt: skip
    for draw in range(DRAWS):
        turned = rotated(acts["stream"], RESAMPLING_SEED + draw)
        found.add(WHOLE, "stream", RANDOM, draw, reading.explain(turned)[0])
    chance = reading.explain(acts["stream"], moved=True)[0].score.quantile(CHANCE)
    if model.mask_id is not None:
        hidden = [text.masked(model.mask_id) for text in texts]
        masked = _Reading.of(hidden, texts)
        acts_masked = neuron_activations(model, hidden, batch_size)["stream"]
        found.add(MASKED, "stream", OWN, 0, masked.explain(acts_masked)[0])
    every = pd.concat(neurons, ignore_index=True)
    counted = {"chance": chance, "positions": len(reading.where), "texts": len(texts)}
    return {
        "neurons": every,
        "sets": pd.DataFrame(found.sets),
        "counts": pd.DataFrame(found.counts),
        "top": _top(every, acts, texts, reading),
        "check": pd.DataFrame([counted | {"rules": len(reading.explainer.rules.names)}]),
    }


class _Reading:
    """Texts, their rules, and the halves on which explanations are made and scored."""

    def __init__(
        self, where: NDArray[np.int64], rows: NDArray[np.int64], halves: NDArray[np.int64],
        classes: NDArray[np.int64], explainer: RuleExplainer,
    ) -> None:  # fmt: skip
        self.where, self.rows, self.classes = where, rows, classes
        self.halves = [np.flatnonzero(halves == half) for half in (0, 1)]
        self.explainer = explainer

    @classmethod
    def of(cls, texts: Sequence[Text], whole: Sequence[Text]) -> _Reading:
        """Every other text of a kind is explained on, the others are predicted.

        Args:
            texts: what is read.
            whole: the same texts with nothing masked, by whose kinds they are shared out.
        """
        where, half = places(texts), []
        number: dict[str, int] = defaultdict(int)
        for text in whole:
            half.append(number[text.kind] % 2)
            number[text.kind] += 1
        halves = np.array(half)[where[:, 0]]
        lengths = np.array([len(text.ids) for text in texts])
        rows = (np.cumsum(lengths) - lengths)[where[:, 0]] + where[:, 1]
        names = [CLASSES.index(class_of(texts[i].tokens[p])) for i, p in where.tolist()]
        explainer = RuleExplainer(rules_of(texts, halves))
        return cls(where, rows, halves, np.array(names), explainer)

    def explain(
        self, activations: NDArray[np.float32], *, moved: bool = False
    ) -> tuple[pd.DataFrame, list[Explanation]]:
        """Explain neurons on one half and score that on the other.

        Args:
            activations: ``[n_layers, n_token, width]``.
            moved: put the texts of each half in an order of its own, so that what a rule finds on
                one half isn't there on the other.

        Returns:
            One row a neuron: ``said, score, raw, relative, information``.
        """
        first, second = self.halves
        at = [activations[:, self.rows[half]] for half in (first, second)]
        if moved:
            at = [x[:, self._reordered(half)] for x, half in zip(at, (first, second), strict=True)]
        flat = [x.transpose(1, 0, 2).reshape(x.shape[1], -1) for x in at]
        said = self.explainer.explain(flat[0], first)
        both = activations[:, self.rows]
        wide = both.transpose(1, 0, 2).reshape(len(self.rows), -1)
        found = {
            "said": [one.said for one in said],
            "score": score(self.explainer.simulate(said, second), flat[1]),
            "raw": activations.var(1, dtype=np.float64).ravel(),
            "relative": np.concatenate([relative_variance(x) for x in both]),
            "information": np.nan if moved else information(self.classes, wide, BINS),
        }
        return pd.DataFrame(found), said

    def _reordered(self, half: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of a half, its texts in another order that the other half doesn't share."""
        text = self.where[half, 0]
        order = np.random.default_rng([RESAMPLING_SEED, int(half[0])]).permutation(np.unique(text))
        return np.concatenate([np.flatnonzero(text == one) for one in order])


class _Found:
    """Sets of neurons and how many of each have which explanation."""

    def __init__(self) -> None:
        self.sets: list[dict[str, Any]] = []
        self.counts: list[dict[str, Any]] = []

    def add(self, state: str, site: Site, basis: str, draw: int, kept: pd.DataFrame) -> None:
        for threshold in THRESHOLDS:
            about = {"state": state, "site": site, "basis": basis, "draw": draw}
            about["threshold"] = threshold
            good = kept[kept.score >= threshold]
            means = {name: kept[name].mean() for name in ("score", "information")}
            means |= {name: good[name].mean() for name in ("relative", "raw")}
            self.sets.append(about | {"neurons": len(kept), "explained": len(good)} | means)
            for said, n in good.said.value_counts(sort=False).items():
                self.counts.append(about | {"said": said, "n": n})


def _top(
    neurons: pd.DataFrame,
    acts: Mapping[Site, NDArray[np.float32]],
    texts: Sequence[Text],
    reading: _Reading,
) -> pd.DataFrame:
    """The neurons that weigh most, and where they are strongest, in the way of their rule."""
    ranked = neurons.sort_values("attributed", ascending=False, kind="stable")
    top = ranked.groupby("site", sort=False).head(LISTED).copy()
    column = neurons.groupby(["site", "layer"]).cumcount()
    contexts = []
    for index, row in top.iterrows():
        x = acts[row.site][row.layer][:, column[index]][reading.rows]  # type: ignore[index]
        order = np.argsort(-x if row.more else x, kind="stable")
        seen: dict[tuple[str, ...], str] = {}
        for text, p in reading.where[order].tolist():
            tokens = texts[text].tokens
            near = [*tokens[max(1, p - AROUND) : p], f"[{tokens[p]}]", *tokens[p + 1 :][:AROUND]]
            seen.setdefault(tuple(near), " ".join(near))
            if len(seen) == CONTEXTS:
                break
        contexts.append(" … ".join(seen.values()))
    columns = ["site", "layer", "neuron", "said", "more", "score", "attributed"]
    return top[columns].assign(contexts=contexts).reset_index(drop=True)


def second_opinion(study: Study, seed: int, folder: str, top: pd.DataFrame) -> pd.DataFrame:
    """What a local language model says of the coordinates that weigh most, beside their rules.

    Args:
        study: the study.
        seed: the training.
        folder: of a causal language model; nothing is downloaded.
        top: the table ``top`` of :func:`tables`.

    Returns:
        ``model, layer, neuron, said`` (by it), ``score, rule, rule_score``.

    Raises:
        ModelError: there is no such model.
    """
    texts, rows = read_texts(study, seed), []
    reading = _Reading.of(texts, texts)
    explainer: Explainer = LocalExplainer(Path(folder), texts, reading.where)
    first, second = reading.halves
    asked_of = np.unique(reading.where[second, 0])[:: max(1, len(texts) // (2 * SIMULATED))]
    second = second[np.isin(reading.where[second, 0], asked_of)]
    here = top[(top.seed == seed) & (top.site == "stream")]
    for role, part in here.groupby("model", sort=False):
        model = study.model(str(role), seed)
        acts = neuron_activations(model, texts, study.budget.batch_size)["stream"]
        columns = np.searchsorted(looked_at(model, "stream"), part.neuron)
        x = np.stack([acts[n][:, c] for n, c in zip(part.layer, columns, strict=True)], axis=1)
        x = x[reading.rows].astype(np.float64)
        said = explainer.explain(x[first], first)
        scores = score(explainer.simulate(said, second), x[second])
        for row, one, value in zip(part.itertuples(), said, scores, strict=True):
            rows.append(
                {"model": role, "layer": row.layer, "neuron": row.neuron, "said": one.said}
                | {"score": value, "rule": row.said, "rule_score": row.score}
            )
    return pd.DataFrame(rows)
