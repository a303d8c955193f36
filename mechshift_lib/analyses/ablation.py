"""Does the MDM's global task hang on early structures? Targeted ablations with controls (C6).

In every training each model loses its own strongest early heads, or random others of the same
layers, and writes the whole answer itself. What a claim is about is one number a training: how
much more accuracy the early heads cost than the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechshift_lib.analyses import shift
from mechshift_lib.analyses.behaviour import DEFAULT_ORDER, pool, solved
from mechshift_lib.analyses.scores import scores, scores_key
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.evaluation.node_sets import answers_without, intact_answers
from mechshift_lib.comparison.controls import disjoint_sets, strongest, third_of
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, component_scores, top_edges
from mechshift_lib.comparison.proportions import clopper_pearson
from mechshift_lib.results.kept import about_address

ROOMS = (
    "circuits",
    "comparison/controls",
    "comparison/overlap",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/ablation",
)
TASKS = (shift.LOCAL, shift.GLOBAL)
MODELS = ("arm", "mdm", "continued", "matched")
#: Heads that are ablated at once, at most: half of a layer's, so that as many others are left.
HEADS = 3
#: Which heads are ablated, under which ablation: the paper's first; the gentler one has the sets
#: that the claim is about only.
KINDS = {"zero": ("early", "random", "later"), "mean": ("early", "random")}


@dataclass(frozen=True)
class Sets:
    """Heads that a model loses.

    Attributes:
        early: of the first third of the layers, those of the largest |score| in its circuit.
        later: as many of the other layers.
        random: sets without any of the early heads, as many in each layer.
        mass: share of the heads' summed |score| that the early ones have.
    """

    early: list[str]
    later: list[str]
    random: list[list[str]]
    mass: float


def chosen_sets(study: Study, task: str, model: str, seed: int) -> Sets:
    """The sets of heads of a model, from its own circuit at the reference budget.

    Raises:
        CircuitError: the model has too few heads for sets beside the early ones.
    """
    found = scores(study, task, model, seed)
    count = max(1, round(REFERENCE_FRACTION * len(found.edges)))
    values = component_scores(found.edges, found.mean, top_edges(found.mean, count))
    is_head = found.edges.component_head >= 0
    names = np.array(found.edges.components)[is_head]
    layers, values = found.edges.component_layer[is_head], values[is_head]
    first = third_of(layers, found.graph.n_layers) == 0
    k = max(1, min(HEADS, found.graph.n_heads // 2, int((~first).sum())))
    early = strongest(values, first, k)
    random = disjoint_sets(early, layers, study.budget.ablation_draws, RESAMPLING_SEED)
    whole = float(np.abs(values).sum())
    return Sets(
        early=names[early].tolist(),
        later=names[strongest(values, ~first, k)].tolist(),
        random=[names[one].tolist() for one in random],
        mass=float(np.abs(values[early]).sum()) / whole if whole else 0.0,
    )


def held_out(study: Study, task: str, seed: int) -> list[int]:
    """Examples that ARM and MDM solve and no circuit was found on; where fewer than 2 are left,
    those that circuits were found on.
    """
    found_on = pool(study, task, seed)
    rest = solved(study, task, seed)[len(found_on) :]
    return (rest if len(rest) >= 2 else found_on)[: study.budget.ablation_examples]


def answered(study: Study, task: str, model: str, seed: int) -> pd.DataFrame:
    """Which examples a model still solves without each set of heads.

    Every example meets one of the random sets, each set as many examples.

    Returns:
        One row per ablation, kind of set and example: ``ablation, kind, example, correct``; kind
        ``none`` is the whole model.
    """
    chosen, sets = held_out(study, task, seed), chosen_sets(study, task, model, seed)
    circuit = scores_key(study, task, model, seed)
    key = study.key(model, seed, task, ROOMS) | {
        "circuit": about_address("circuits", circuit),
        "random": sets.random,
        "evaluated_on": chosen,
    }

    def compute() -> dict[str, pd.DataFrame]:
        loaded, examples = study.model(model, seed), study.examples(task, seed)
        prompts = [examples[i].clean for i in chosen]
        lengths, size = [len(examples[i].answer) for i in chosen], 2 * study.budget.batch_size
        whole = intact_answers(loaded, prompts, lengths, order=DEFAULT_ORDER, batch_size=size)
        turn = np.random.default_rng(RESAMPLING_SEED).permutation(len(chosen))
        nodes = {
            "early": [sets.early] * len(chosen),
            "later": [sets.later] * len(chosen),
            "random": [sets.random[i % len(sets.random)] for i in turn],
        }
        given = {("none", "none"): whole.answers}
        for ablation, kinds in KINDS.items():
            means = whole.means if ablation == "mean" else None
            for kind in kinds:
                given[ablation, kind] = answers_without(
                    loaded,
                    prompts,
                    lengths,
                    nodes[kind],
                    means=means,
                    order=DEFAULT_ORDER,
                    batch_size=size,
                )
        scorer, tokenizer = study.task(task), loaded.tokenizer
        rows = [
            (ablation, kind, i, scorer.score(examples[i], answer, tokenizer))
            for (ablation, kind), answers in given.items()
            for i, answer in zip(chosen, answers, strict=True)
        ]
        columns = ["ablation", "kind", "example", "correct"]
        return {"ablated": pd.DataFrame(rows, columns=columns)}

    return study.frames("ablation", key, compute)["ablated"]


def accuracies(found: pd.DataFrame) -> pd.DataFrame:
    """What is left of a model's accuracy, from :func:`answered`.

    Returns:
        ``ablation, kind, right, n, accuracy, low, high`` (Clopper and Pearson), ``lost`` (of the
        whole model's accuracy).
    """
    counts = found.groupby(["ablation", "kind"], sort=False).correct
    table = counts.agg(right="sum", n="size").reset_index()
    table["accuracy"] = table.right / table.n
    ends = [clopper_pearson(int(r), int(n)) for r, n in zip(table.right, table.n, strict=True)]
    table["low"], table["high"] = zip(*ends, strict=True)
    whole = float(table.accuracy[table.kind == "none"].iloc[0])
    return table.assign(lost=whole - table.accuracy)


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """Accuracy without early heads and without others, in every training, and over trainings.

    Returns:
        ``sets``: ``task, seed, model, early`` (heads, joined by ``+``), ``later, mass, random``
        (number of sets).
        ``accuracies``: :func:`accuracies` with ``task, seed, model``.
        ``more``: ``task, seed, model, ablation, against, n, more``: how much more accuracy the
        early heads cost than ``random`` or ``later`` ones.
        ``contrasts``: ``task, ablation, against`` and :func:`shift.contrast_table` of ``more``.
    """
    sets, left = [], []
    for task in (name for name in TASKS if name in study.pair.tasks):
        for seed in shift.trainings(study, [task]):
            for model in (name for name in MODELS if study.has(name, seed)):
                about = {"task": task, "seed": seed, "model": model}
                one = chosen_sets(study, task, model, seed)
                heads = {"early": "+".join(one.early), "later": "+".join(one.later)}
                sets.append({**about, **heads, "mass": one.mass, "random": len(one.random)})
                left.append(accuracies(answered(study, task, model, seed)).assign(**about))
    columns = ["task", "seed", "model", "ablation", "n", "kind", "lost"]
    accuracy = pd.concat(left, ignore_index=True) if left else pd.DataFrame(columns=columns)
    more = beyond(accuracy)
    return {
        "sets": pd.DataFrame(sets),
        "accuracies": accuracy,
        "more": more,
        "contrasts": contrasts(more),
    }


def beyond(table: pd.DataFrame) -> pd.DataFrame:
    """``more`` of :func:`tables`, from its ``accuracies``."""
    by = ["task", "seed", "model", "ablation", "n"]
    lost = table[table.kind != "none"].pivot_table("lost", by, "kind", sort=False)
    frames = [
        (lost.early - lost[kind]).dropna().rename("more").reset_index().assign(against=kind)
        for kind in ("random", "later")
        if kind in lost
    ]
    columns = [*by, "more", "against"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def contrasts(more: pd.DataFrame) -> pd.DataFrame:
    """``contrasts`` of :func:`tables`, from its ``more``."""
    by = ["task", "ablation", "against"]
    found = [
        shift.contrast_table(in_trainings(more, *names)).assign(**dict(zip(by, names, strict=True)))
        for names in more[by].drop_duplicates().itertuples(index=False)
    ]
    columns = ["contrast", "value", "low", "high", "n", "flips", *by]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def in_trainings(more: pd.DataFrame, task: str, ablation: str, against: str) -> pd.DataFrame:
    """How much more the early heads cost, ``[seed, model]``."""
    chosen = (more.task == task) & (more.ablation == ablation) & (more.against == against)
    return more[chosen].pivot_table("more", "seed", "model")
