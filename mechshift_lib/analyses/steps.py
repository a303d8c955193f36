"""Does the MDM's circuit stay the same from denoising step to denoising step? (C5)

From step to step two things change: which answer position is read, and what is revealed already.
Another position asks for another token, which may need another circuit in any model. So the same
position is asked under different masks here, and what the ARM's circuit does from one position to
the next is the yardstick. Circuits are vectors of components, over the same examples; what two
halves of the examples have in common counts as all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from mechshift_lib.analyses import shift
from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.scores import edges_of, single_reads
from mechshift_lib.analyses.study import RESAMPLING_SEED, Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.comparison.noiseless import noiseless_cosine
from mechshift_lib.comparison.overlap import (
    component_count,
    component_overlap,
    component_scores,
    shared_attribution,
)
from mechshift_lib.comparison.similarity import corrected
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item, Order, left_to_right
from mechshift_lib.results.store import Frames
from mechshift_lib.tasks import Example

ROOMS = (
    "circuits",
    "comparison",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/steps",
)
MODELS = ("mdm", "arm")
#: What is revealed when a position is read.
STATES = ("nothing", "left", "others")
#: Random halves that a comparison is corrected by.
SPLITS = 10

#: Answer position and state; scores of each, ``[n_example, n_components]``, NaN where an example
#: has no metric there.
Key = tuple[int, str]
Parts = Mapping[Key, NDArray[np.float64]]


def orders(at: int, n_answer: int) -> dict[str, Order]:
    """Reveal orders by which an answer position is read in each state that differs from others."""
    others = [i for i in range(n_answer) if i != at]
    found: dict[str, Order] = {"nothing": [[at], others], "left": left_to_right(n_answer)}
    found["others"] = [others, [at]]
    if at == 0:
        del found["left"]  # nothing stands to its left
    if at == n_answer - 1:
        del found["others"]  # they all do
    return found


def asked(
    model: LoadedModel, example: Example, index: int, positions: Sequence[int]
) -> list[tuple[Key, Item]]:
    """The questions for an example: of an ARM each position once, of an MDM in all states."""
    if model.mask_id is None:
        reads = single_reads(model, example, index)
        return [((at, "left"), item) for item, at in reads if at in positions]
    return [
        ((at, state), item)
        for at in positions
        for state, order in orders(at, len(example.answer)).items()
        for item, read in single_reads(model, example, index, order)
        if read == at
    ]


def parts(study: Study, task: str, model: str, seed: int) -> Parts:
    """Component scores of a model (EAP-IG) at every answer position and in every state."""
    chosen, examples = pool(study, task, seed), study.examples(task, seed)
    loaded = study.model(model, seed)
    made = [(i, *one) for i in chosen for one in asked(loaded, examples[i], i, examples[i].scored)]
    found = attribute(
        loaded,
        [replace(item, example=number) for number, (_, _, item) in enumerate(made)],
        metric=study.task(task).metric,
        method="eap-ig",
        steps=study.budget.ig_steps,
        batch_size=study.budget.batch_size,
    )
    values = component_scores(edges_of(found.graph), found.by_example)
    grids: dict[Key, NDArray[np.float64]] = {}
    for (i, key, _), scores in zip(made, values, strict=True):
        empty = np.full((len(chosen), len(scores)), np.nan)
        grids.setdefault(key, empty)[chosen.index(i)] = scores
    return grids


def of_training(study: Study, task: str, model: str, seed: int) -> Frames:
    """:func:`rows_of` and :func:`mean_kept` of one model of one training, ``rows`` and ``mean``."""
    chosen = pool(study, task, seed)
    key = study.key(model, seed, task, ROOMS) | {"pool": chosen, "ig_steps": study.budget.ig_steps}

    def compute() -> Frames:
        found, same = parts(study, task, model, seed), model == "mdm"
        rows = rows_of(found, same)
        mean = [mean_kept(found, same)] if len(rows) else []
        return {"rows": rows, "mean": pd.DataFrame(mean, columns=["kept", "low", "high", "n"])}

    return study.frames("steps", key, compute)


def compared(found: Parts, same_position: bool) -> list[tuple[Key, Key]]:
    """Which circuits are compared: one position in a state and the next, or each with the next."""
    keys = sorted(found, key=lambda key: (key[0], STATES.index(key[1])))
    return [(a, b) for a, b in pairwise(keys) if a[0] == b[0] or not same_position]


def rows_of(found: Parts, same_position: bool) -> pd.DataFrame:
    """How much of one circuit is in the next.

    Returns:
        One row per comparison with enough examples: ``position, from, to`` (states or positions),
        ``kept`` (attribution to components that both share, of what halves share), ``cosine``
        (without noise), ``top`` (share of the top K components in both), ``k, n``.
    """
    rows = []
    at = int(same_position)  # what changes: the state, or the position
    for a, b in compared(found, same_position):
        first, second = _both(found, a, b)
        if len(first) < shift.FEWEST:
            continue
        k = component_count(first.shape[1])
        rows.append(
            {
                "position": a[0],
                "from": str(a[at]),
                "to": str(b[at]),
                "kept": _kept(first, second),
                "cosine": noiseless_cosine(first, second),
                "top": component_overlap(first.mean(0), second.mean(0), k).share,
                "k": k,
                "n": len(first),
            }
        )
    return pd.DataFrame(rows)


def _both(found: Parts, a: Key, b: Key) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of the examples that have a metric in both."""
    there = ~np.isnan(found[a]).any(1) & ~np.isnan(found[b]).any(1)
    return found[a][there], found[b][there]


def _kept(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return corrected(a, b, shared_attribution, splits=SPLITS, seed=RESAMPLING_SEED).value


def mean_kept(found: Parts, same_position: bool) -> dict[str, float]:
    """``kept`` of :func:`rows_of`, a mean over comparisons, with its interval over examples.

    Returns:
        ``kept, low, high`` (95 %, jackknife: one example left out at a time), ``n`` (examples).
    """

    def mean(of: Parts) -> float:
        pairs = [_both(of, *pair) for pair in compared(of, same_position)]
        kept = [_kept(a, b) for a, b in pairs if len(a) >= shift.FEWEST]
        return float(np.mean(kept)) if kept else float("nan")

    n = len(next(iter(found.values())))
    without = [{key: np.delete(x, i, axis=0) for key, x in found.items()} for i in range(n)]
    values, whole = np.array([mean(one) for one in without]), mean(found)
    error = np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())
    half = float(student.ppf(0.975, n - 1) * error)
    return {"kept": whole, "low": whole - half, "high": whole + half, "n": n}


def tables(study: Study) -> dict[str, pd.DataFrame]:
    """What stays of the circuit from state to state, and of the ARM's from position to position.

    Returns:
        ``rows``: ``task, seed, model`` and :func:`rows_of`; ``trainings``: ``task, seed, model``
        and :func:`mean_kept`. Empty where no answer has several scored tokens.
    """
    found: dict[str, list[pd.DataFrame]] = {"rows": [], "mean": []}
    for task in study.pair.tasks:
        for seed in shift.trainings(study, [task]):
            examples = study.examples(task, seed)
            if all(len(examples[i].scored) < 2 for i in pool(study, task, seed)):
                continue
            for model in MODELS:
                frames = of_training(study, task, model, seed)
                for name, made in found.items():
                    made.append(frames[name].assign(task=task, seed=seed, model=model))
    none = pd.DataFrame(columns=["task", "seed", "model", "kept", "low", "high", "n"])
    rows, trainings = (
        pd.concat(made, ignore_index=True) if made else none for made in found.values()
    )
    return {"rows": rows, "trainings": trainings}
