"""How the models of a pair were made: steps, tokens, rates, losses, and how far each moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.analyses.study import Study
from mechshift_lib.config import Role
from mechshift_lib.diffusion.logs import log_of, logged_in
from mechshift_lib.diffusion.loop import displacement
from mechshift_lib.diffusion.recipe import recipe_of
from mechshift_lib.models.loading import load_model


def training_table(study: Study) -> pd.DataFrame:
    """What is known of each model's training, from its log, the pair's recipe and the weights.

    Returns:
        One row per role and seed: ``role, seed, steps, tokens, peak, end`` (learning rate: the
        recipe's highest, the log's last), ``third, last`` (mean loss of the third and of the last
        quarter of the steps, each in its own objective), ``moved, share`` (Euclidean norm of the
        weights' change from the ARM, and as a share of the ARM's own norm). NaN where it isn't
        known; the ARM itself has no row where it has no log.
    """
    rows = []
    for seed in study.pair.seeds:
        for role in study.pair.roles:
            logged = logged_in(log_of(study.pair, role, seed, study.root))
            if role == "arm" and not logged:
                continue
            row: dict[str, Any] = {"role": role, "seed": seed, "peak": _peak(study, role)}
            moved = {} if role == "arm" else _moved(study, role, seed)
            rows.append(row | logged | moved)
    names = ["role", "seed", "steps", "tokens", "peak", "end", "third", "last", "moved", "share"]
    return pd.DataFrame(rows, columns=names)


def _peak(study: Study, role: Role) -> float:
    """The recipe's highest learning rate; NaN where the model isn't made here."""
    if not study.pair.training:
        return np.nan
    recipe = recipe_of(study.pair)
    if role == "arm":
        return np.nan if recipe.arm is None else recipe.arm.lr
    return recipe.post.lr


def _moved(study: Study, role: Role, seed: int) -> dict[str, float]:
    """How far a model's weights are from the ARM's that it was made from."""
    key = {
        "pair": study.pair.name,
        "seed": [seed],
        "models": {one: study.key(one, seed, "", ())["models"][one] for one in ("arm", role)},
        "code": study.key("arm", seed, "", ("diffusion/loop", "analyses/training"))["code"],
    }

    def compute() -> dict[str, pd.DataFrame]:
        # As they are stored: grouped heads written out for each query would count several times.
        stored = {"quantization": None, "device_map": None, "max_memory": None}
        origin, now = (
            dict(
                load_model(
                    spec.model_copy(update=stored), kv="grouped", root=study.root
                ).hf.named_parameters()
            )
            for spec in (study.pair.model("arm", seed), study.pair.model(role, seed))
        )
        same = [
            name for name, one in origin.items() if name in now and now[name].shape == one.shape
        ]
        if len(same) < max(len(origin), len(now)):  # other tensors: there is no such distance
            return {"moved": pd.DataFrame({"moved": [np.nan], "share": [np.nan]})}
        start = [origin[name] for name in same]
        moved = displacement([now[name] for name in same], start)
        size = displacement(start, [0 * one for one in start])
        return {"moved": pd.DataFrame({"moved": [moved], "share": [moved / size]})}

    return {k: float(v) for k, v in study.frames("training", key, compute)["moved"].iloc[0].items()}
