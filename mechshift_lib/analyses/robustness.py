"""Does the shift of depth hang on how it is measured? A specification curve (C7).

The shift of C2 is measured again with one choice changed at a time: how a problem is put, what
corruption replaces, in which order the MDM reveals, how edges are scored; and each with circuits of
every size. What rephrasing alone does to the ARM is the yardstick.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mechshift_lib.analyses import shift
from mechshift_lib.analyses.behaviour import answers, pool
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
from mechshift_lib.comparison.depth import centre_of_mass
from mechshift_lib.comparison.noiseless import noiseless_cosine
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from mechshift_lib.comparison.overlap import REFERENCE_FRACTION, top_edges
from mechshift_lib.models.readout import Item, Order
from mechshift_lib.results.kept import about_address
from mechshift_lib.results.store import Frames
from mechshift_lib.tasks import Example
from mechshift_lib.tasks.countdown import Countdown
from mechshift_lib.tasks.rewording import PROMPTS, reworded

ROOMS = (
    "circuits",
    "comparison",
    "diffusion/samplers",
    "analyses/behaviour",
    "analyses/scores",
    "analyses/robustness",
)
TASK = shift.GLOBAL
#: Fewest problems of a training.
FEWEST = 3
MODELS = ("arm", "mdm", "continued")
ORDERS = ("from the left", "from the right", "in its own order", "all at once")
#: How edges are scored: name -> method, points, and which end of the path these leave out.
ESTIMATORS: dict[str, tuple[str, int, str]] = {
    "EAP-IG(5)": ("eap-ig", 5, "left"),
    "EAP-IG(5), 1 … m": ("eap-ig", 5, "right"),
    "EAP-IG(10)": ("eap-ig", 10, "left"),
    "EAP": ("eap", 1, "left"),
    "clean-corrupted": ("clean-corrupted", 1, "left"),
}
EXACT = "exact patching"
#: Sizes of circuits, as shares of all edges.
SIZES = (0.01, 0.02, REFERENCE_FRACTION, 0.1, 0.2, 1.0)
#: What can be chosen, and the columns that say what was.
FACTORS = ("prompt", "order", "estimator", "size")


@dataclass(frozen=True)
class Setting:
    """How scores are measured; everything else is as everywhere."""

    prompt: str = PROMPTS[0]
    order: str = ORDERS[0]
    estimator: str = next(iter(ESTIMATORS))


#: One choice is changed at a time.
SETTINGS = (
    Setting(),
    *(Setting(prompt=prompt) for prompt in PROMPTS[1:]),
    *(Setting(order=order) for order in ORDERS[1:]),
    *(Setting(estimator=estimator) for estimator in list(ESTIMATORS)[1:]),
)


def order_of(name: str, n_answer: int, own: Order) -> Order:
    """The denoising steps of a named order."""
    return {
        "from the left": [[i] for i in range(n_answer)],
        "from the right": [[i] for i in reversed(range(n_answer))],
        "in its own order": own,
        "all at once": [list(range(n_answer))],
    }[name]


def problems(study: Study, seed: int) -> dict[int, dict[str, Example]]:
    """The first examples of the pool that can be put in each of :data:`PROMPTS`, by index."""
    task, examples = study.task(TASK), study.examples(TASK, seed)
    assert isinstance(task, Countdown)
    tokenizer = study.model("arm", seed).tokenizer
    found: dict[int, dict[str, Example]] = {}
    for i in pool(study, TASK, seed):
        made = {how: reworded(task, tokenizer, examples[i], how) for how in PROMPTS}
        there = {how: one for how, one in made.items() if one is not None}
        if len(there) == len(PROMPTS) and len(found) < study.budget.robustness_examples:
            found[i] = there
    return found


def measured(study: Study, seed: int, model: str, setting: Setting) -> Measured:
    """Scores of one model in one setting."""
    loaded = study.model(model, seed)
    reveal = answers(study, TASK, "mdm", seed).reveal
    items: list[Item] = []
    rows: list[dict[str, int]] = []
    for i, wordings in problems(study, seed).items():
        example = wordings[setting.prompt]
        order = order_of(setting.order, len(example.answer), json.loads(reveal[i]))
        for item, position in single_reads(loaded, example, i, order):
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


def depths(found: Scores) -> list[tuple[float, float]]:
    """Size of the circuit and depth of its sources but the embedding, as C2 is measured."""
    embedded, n = found.edges.source < 0, len(found.edges)
    return [
        (size, float(centre_of_mass(found.mean, found.edges.source_depth, top & ~embedded)))
        for size in SIZES
        for top in [top_edges(found.mean, max(1, round(size * n)))]
    ]


def of_training(study: Study, seed: int) -> Frames:
    """Everything of one training.

    Returns:
        ``depth``: ``circuit`` and the columns of :data:`FACTORS`, ``depth`` (layers / number of
        layers), ``n`` (examples).
        ``rephrased``: ``circuit, prompt, cosine`` (without noise, with the ARM's circuit of the
        problems as drawn), ``n``.
    """
    models = [model for model in MODELS if study.has(model, seed)]
    exact = study.budget.estimator == "exact"
    keys = {model: scores_key(study, TASK, model, seed) for model in models}
    key = study.key("arm", seed, TASK, ROOMS) | {
        "models": {name: one["models"][name] for name, one in keys.items()},
        "problems": list(problems(study, seed)),
        "orders": answers(study, TASK, "mdm", seed).reveal.tolist(),
        "circuits": [about_address("circuits", one) for one in keys.values()] if exact else None,
    }

    def compute() -> Frames:
        rows, alike = [], []
        usual: Measured | None = None
        done: dict[tuple[str, Setting], Measured] = {}
        for setting in SETTINGS:
            found = {}
            for model in models:
                # ARMs have one order only.
                own = setting if model == "mdm" else replace(setting, order=ORDERS[0])
                if (model, own) not in done:
                    done[model, own] = measured(study, seed, model, own)
                found[model] = done[model, own]
            usual = found["arm"] if usual is None else usual
            clear = clear_reads([found[name].items for name in ("arm", "mdm")])
            made = {name: assembled(name, one, clear) for name, one in found.items()}
            rows += _rows(made, setting.prompt, setting.order, setting.estimator)
            if setting.order == ORDERS[0] and setting.estimator == Setting().estimator:
                alike += _alike(assembled("arm", usual, clear), made, setting.prompt)
        if exact:
            whole = {model: scores(study, TASK, model, seed) for model in models}
            rows += _rows(whole, PROMPTS[0], ORDERS[0], EXACT)
        return {"depth": pd.DataFrame(rows), "rephrased": pd.DataFrame(alike)}

    return study.frames("robustness", key, compute)


def _rows(
    found: dict[str, Scores], prompt: str, order: str, estimator: str
) -> list[dict[str, str | float]]:
    about = {"prompt": prompt, "order": order, "estimator": estimator}
    return [
        {"circuit": name, **about, "size": size, "depth": depth, "n": len(one.examples)}
        for name, one in found.items()
        for size, depth in depths(one)
    ]


def _alike(usual: Scores, found: dict[str, Scores], prompt: str) -> list[dict[str, str | float]]:
    """Cosines with the ARM's usual circuit, over the examples that both have."""
    rows: list[dict[str, str | float]] = []
    for name, one in found.items():
        common = np.intersect1d(usual.examples, one.examples)
        if (name == "arm" and prompt == PROMPTS[0]) or len(common) < shift.FEWEST:
            continue
        cosine = noiseless_cosine(usual.of(common), one.of(common))
        rows.append({"circuit": name, "prompt": prompt, "cosine": cosine, "n": len(common)})
    return rows


def asked(study: Study) -> list[int]:
    """Trainings with enough problems that ARM and MDM solve and that can be put otherwise."""
    there = shift.trainings(study, [TASK]) if TASK in study.pair.tasks else []
    return [seed for seed in there if len(problems(study, seed)) >= FEWEST]


def table(study: Study, name: str) -> pd.DataFrame:
    """``depth`` or ``rephrased`` of all trainings, with ``seed``."""
    parts = [of_training(study, seed)[name].assign(seed=seed) for seed in asked(study)]
    return pd.concat(parts, ignore_index=True)


def earlier(depth: pd.DataFrame) -> pd.DataFrame:
    """How much earlier than the ARM's the sources of other circuits lie, in every setting.

    Returns:
        ``[seed, *FACTORS]`` × circuit, in layers / number of layers; ``beyond`` is the MDM's minus
        the control's, where there is one.
    """
    wide = depth.pivot_table("depth", ["seed", *FACTORS], "circuit", sort=False)
    found = wide.drop(columns="arm").rsub(wide["arm"], axis=0)
    if "continued" in found:
        found["beyond"] = found.mdm - found.continued
    return found.reset_index()


def curve(found: pd.DataFrame) -> pd.DataFrame:
    """One row per setting and size, ordered by what is found in it.

    Args:
        found: of :func:`earlier`.

    Returns:
        ``*FACTORS, value`` (mean over trainings, beyond the control where there is one), ``low,
        high`` (over trainings; NaN with too few), ``n`` (trainings), ``positive``.
    """
    name = judged(found)
    rows = []
    for chosen, part in found.groupby(list(FACTORS), sort=False):
        contrast = contrast_over_seeds(list(part[name]), name)
        rows.append([*chosen, contrast.effect, contrast.low, contrast.high, contrast.n])
    table = pd.DataFrame(rows, columns=[*FACTORS, "value", "low", "high", "n"])
    return table.assign(positive=table.value > 0).sort_values("value", ignore_index=True)


def each_training(table: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """What every training gives for the rows of :func:`curve`, ``[setting, seed]``."""
    wide = found.pivot_table(judged(found), list(FACTORS), "seed")
    return wide.reindex(pd.MultiIndex.from_frame(table[list(FACTORS)]))


def judged(found: pd.DataFrame) -> str:
    """Which column is told: beyond the control, where there is one."""
    return "beyond" if "beyond" in found else "mdm"


def levels(found: pd.DataFrame) -> pd.DataFrame:
    """What is found with each choice, in every training: a mean over the other choices.

    Args:
        found: of :func:`earlier`.

    Returns:
        ``factor, level, said`` (in words), ``seed, value``.
    """
    frames = []
    for factor in FACTORS:
        means = found.groupby([factor, "seed"], sort=False)[judged(found)].mean().rename("value")
        frames.append(means.reset_index().rename(columns={factor: "level"}).assign(factor=factor))
    table = pd.concat(frames, ignore_index=True)
    table["said"] = [said(row.factor, row.level) for row in table.itertuples()]
    return table[["factor", "level", "said", "seed", "value"]]


def said(factor: str, level: object) -> str:
    """A choice in words."""
    if factor == "size":
        assert isinstance(level, float)
        return f"{100 * level:g} % of edges" if level < 1 else "all edges"
    return f"revealed {level}" if factor == "order" else str(level)


def rephrasing(depth: pd.DataFrame) -> float:
    """How far the ARM's own sources move when a problem is put otherwise: mean |difference|."""
    arm = depth[(depth.circuit == "arm") & (depth.estimator == Setting().estimator)]
    wide = arm[arm.order == ORDERS[0]].pivot_table("depth", ["seed", "size"], "prompt")
    moved = wide[list(PROMPTS[1:])].sub(wide[PROMPTS[0]], axis=0).abs()
    return float(np.nanmean(moved.to_numpy()))


def room(depth: pd.DataFrame, least: float) -> bool:
    """Whether the ARM's circuit lies deep enough in every training to move ``least`` earlier."""
    arm = depth[(depth.circuit == "arm") & (depth.estimator == Setting().estimator)]
    own = arm[(arm.prompt == PROMPTS[0]) & (arm["size"] == REFERENCE_FRACTION)].depth
    return bool(len(own)) and not own.isna().any() and float(own.min()) >= least
