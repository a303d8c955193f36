"""By which signal a model knows IOI's subject: interchanges at its second mention, by layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mechshift_lib.analyses.behaviour import solved
from mechshift_lib.analyses.study import Study
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.comparison.over_seeds import differences
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.tasks import Example
from mechshift_lib.tasks.signals import Interchange, interchanges

ROOMS = ("circuits", "diffusion/samplers", "analyses/behaviour", "analyses/signals")
TASK = "ioi"
#: Differences that are judged over seeds: model, minus base.
DIFFERENCES = (("mdm", "arm"), ("mdm", "continued"), ("matched", "continued"))


def usable(study: Study) -> list[int]:
    """Training seeds whose ARM and MDM both solve at least 2 examples of IOI."""
    if TASK not in study.pair.tasks:
        return []
    return [s for s in study.pair.seeds if len(solved(study, TASK, s)) >= 2]


def switched(study: Study, role: str, seed: int) -> pd.DataFrame:
    """How far the answer switches to the subject when one signal is the donor's.

    The stream at the second mention, before each layer and behind the last, is replaced by the
    donor's. ``switched`` is the metric lost, as a share of twice the clean metric: 0 if nothing
    changes, 1 if the two names change roles. A ratio of means over examples.

    Returns:
        One row per signal and layer: ``signal, layer, switched, n``.
    """
    chosen = solved(study, TASK, seed)[: study.budget.signal_examples]
    key = study.key(role, seed, TASK, ROOMS) | {"pool": chosen}

    def compute() -> dict[str, pd.DataFrame]:
        model, examples = study.model(role, seed), study.examples(TASK, seed)
        made = [
            (one, examples[i])
            for i in chosen
            for one in interchanges(model.tokenizer, examples[i], i)
        ]
        return {"signals": measured(model, made)}

    return study.frames("signals", key, compute)["signals"]


def measured(model: LoadedModel, made: list[tuple[Interchange, Example]]) -> pd.DataFrame:
    """The table of :func:`switched` for one model."""
    items = []
    for one, example in made:
        asked = replace(example, clean=one.base, corrupted=one.donor)
        [item] = model.readout.items(asked, one.example)
        items.append(item)
    places = [one.at for one, _ in made]
    found = patch_nodes(model, items, sites=("resid",), direction="noise", only=places)
    after = found.patched["resid"][np.arange(len(items)), :, places]
    rows = []
    for signal in dict.fromkeys(one.signal for one, _ in made):
        of = np.array([one.signal == signal for one, _ in made])
        clean = found.clean[of]
        share = (clean[:, None] - after[of]).mean(0) / (2 * clean.mean())
        rows += [
            {"signal": signal, "layer": layer, "switched": float(value), "n": int(of.sum())}
            for layer, value in enumerate(share)
        ]
    return pd.DataFrame(rows)


def by_seed(study: Study) -> pd.DataFrame:
    """:func:`switched` of every model of every training: ``seed, model`` and its columns."""
    frames = [
        switched(study, role, seed).assign(seed=seed, model=role)
        for seed in usable(study)
        for role in study.models(seed)
    ]
    table = pd.concat(frames, ignore_index=True)
    return table[["seed", "model", "signal", "layer", "switched", "n"]]


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Differences between models over trainings, of the mean over layers: no layer is picked.

    Returns:
        ``signal, model, base, difference, low, high`` (t interval over seeds, NaN with one), ``n``
        (seeds).
    """
    means = table.groupby(["signal", "seed", "model"], sort=False).switched.mean().reset_index()
    rows = []
    for signal, part in means.groupby("signal", sort=False):
        wide = part.pivot(index="seed", columns="model", values="switched")
        rows += [{"signal": signal} | found for found in differences(wide, DIFFERENCES)]
    columns = ["signal", "model", "base", "difference", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)
