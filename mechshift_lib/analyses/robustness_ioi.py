"""The specification curve on IOI, a local task: described beside Countdown's, deciding nothing.

The paper's claim is that circuits of *global* tasks lie earlier in the MDM. Whether those of a
local task do so too, in as many ways to measure it, says whether what is found on Countdown is of
global tasks at all. Measure, sizes of circuits and estimators are those of
:mod:`mechshift_lib.analyses.robustness`. The answer is one token, so there is one reveal order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mechshift_lib.analyses import robustness, shift
from mechshift_lib.analyses.behaviour import pool
from mechshift_lib.analyses.ioi_wordings import PROMPTS, reworded
from mechshift_lib.analyses.robustness import ESTIMATORS, EXACT, FEWEST, MODELS, Setting
from mechshift_lib.analyses.scores import (
    Measured,
    Scores,
    assembled,
    clear_reads,
    scores,
    scores_key,
    single_reads,
)
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.plan import Plan
from mechshift_lib.comparison.noiseless import noiseless_cosine
from mechshift_lib.models.readout import Item
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames
from mechshift_lib.tasks import Example
from mechshift_lib.tasks.ioi import Ioi

KIND = "robustness-ioi"
ROOMS = (*robustness.ROOMS, "analyses/ioi_wordings", "analyses/robustness_ioi")
TASK = shift.LOCAL
#: One choice is changed at a time.
SETTINGS = (
    Setting(),
    *(Setting(prompt=prompt) for prompt in PROMPTS[1:]),
    *(Setting(estimator=estimator) for estimator in list(ESTIMATORS)[1:]),
)


def sentences(study: Study, seed: int) -> dict[int, dict[str, Example]]:
    """The first examples of the pool that can be put in each of :data:`PROMPTS`, by index."""
    task, examples = study.task(TASK), study.examples(TASK, seed)
    assert isinstance(task, Ioi)
    tokenizer = study.model("arm", seed).tokenizer
    found: dict[int, dict[str, Example]] = {}
    for i in pool(study, TASK, seed):
        made = {how: reworded(task, tokenizer, examples[i], how) for how in PROMPTS}
        there = {how: one for how, one in made.items() if one is not None}
        if len(there) == len(PROMPTS) and len(found) < study.budget.robustness_examples:
            found[i] = there
    return found


def measured(
    study: Study, seed: int, model: str, setting: Setting, given: dict[int, dict[str, Example]]
) -> Measured:
    """Scores of one model in one setting, over the sentences of :func:`sentences`."""
    loaded = study.model(model, seed)
    items: list[Item] = []
    rows: list[dict[str, int]] = []
    for i, wordings in given.items():
        for item, position in single_reads(loaded, wordings[setting.prompt], i):
            rows.append({"example": i, "position": position, "step": item.step})
            items.append(replace(item, example=len(items)))
    method, points, end = ESTIMATORS[setting.estimator]
    plan = Plan(
        metric=study.task(TASK).metric,
        method=method,
        steps=points,
        points=end,
        batch_size=study.budget.batch_size,
    )
    found = attribute(loaded, items, plan)
    effect = found.metric_clean - found.metric_corrupted
    return Measured(found.graph, pd.DataFrame(rows).assign(effect=effect), found.by_example)


def of_training(study: Study, seed: int) -> Frames:
    """Everything of one training.

    Returns:
        ``depth`` and ``rephrased``, as :func:`robustness.of_training` has them of Countdown.
    """
    models = [model for model in MODELS if study.has(model, seed)]
    exact = study.budget.estimator == "exact"
    keys = {model: scores_key(study, TASK, model, seed) for model in models}
    given = sentences(study, seed)
    key = study.key("arm", seed, TASK, ROOMS) | {
        "models": {name: one["models"][name] for name, one in keys.items()},
        "sentences": list(given),
        "prompts": PROMPTS,
        "circuits": [about_address("circuits", one) for one in keys.values()] if exact else None,
    }

    def compute() -> Frames:
        rows: list[dict[str, str | float]] = []
        alike: list[dict[str, str | float]] = []
        # Model by model: few are kept in memory.
        done = {
            (model, setting): measured(study, seed, model, setting, given)
            for model in models
            for setting in SETTINGS
        }
        for setting in SETTINGS:
            found = {model: done[model, setting] for model in models}
            clear = clear_reads([found[name].items for name in ("arm", "mdm")])
            made = {name: assembled(name, one, clear) for name, one in found.items()}
            rows += _depths(made, setting)
            if setting.estimator == Setting().estimator:
                usual = assembled("arm", done["arm", Setting()], clear)
                alike += _alike(usual, made, setting.prompt)
        if exact:
            whole = {model: scores(study, TASK, model, seed) for model in models}
            rows += _depths(whole, Setting(estimator=EXACT))
        return {"depth": pd.DataFrame(rows), "rephrased": pd.DataFrame(alike)}

    return study.frames(KIND, key, compute)


def _depths(found: dict[str, Scores], setting: Setting) -> list[dict[str, str | float]]:
    about = {
        "prompt": setting.prompt,
        "order": setting.order,
        "estimator": setting.estimator,
    }
    return [
        {"circuit": name, **about, "size": size, "depth": depth, "n": len(one.examples)}
        for name, one in found.items()
        for size, depth in robustness.depths(one)
    ]


def _alike(usual: Scores, found: dict[str, Scores], prompt: str) -> list[dict[str, str | float]]:
    """Cosines with the ARM's circuit of sentences as drawn, over the examples that both have."""
    rows: list[dict[str, str | float]] = []
    for name, one in found.items():
        common = np.intersect1d(usual.examples, one.examples)
        if (name == "arm" and prompt == PROMPTS[0]) or len(common) < shift.FEWEST:
            continue
        cosine = noiseless_cosine(usual.of(common), one.of(common))
        rows.append({"circuit": name, "prompt": prompt, "cosine": cosine, "n": len(common)})
    return rows


def asked(study: Study) -> list[int]:
    """Trainings with enough sentences that ARM and MDM solve and that can be put otherwise."""
    there = shift.trainings(study, [TASK]) if TASK in study.pair.tasks else []
    return [seed for seed in there if len(sentences(study, seed)) >= FEWEST]


def table(study: Study, name: str) -> pd.DataFrame:
    """``depth`` or ``rephrased`` of all trainings, with ``seed``."""
    parts = [of_training(study, seed)[name].assign(seed=seed) for seed in asked(study)]
    return pd.concat(parts, ignore_index=True)


def levels(found: pd.DataFrame) -> pd.DataFrame:
    """:func:`robustness.levels` of what can be chosen here: not the reveal order."""
    every = robustness.levels(found)
    choices = every.groupby("factor")["level"].transform("nunique")
    return every[choices > 1].reset_index(drop=True)


def rephrasing(depth: pd.DataFrame) -> float:
    """How far the ARM's own sources move when a sentence is put otherwise: mean |difference|."""
    arm = depth[(depth.circuit == "arm") & (depth.estimator == Setting().estimator)]
    wide = arm.pivot_table("depth", ["seed", "size"], "prompt")
    moved = wide[list(PROMPTS[1:])].sub(wide[PROMPTS[0]], axis=0).abs()
    return float(np.nanmean(moved.to_numpy()))
