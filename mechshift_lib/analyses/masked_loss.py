"""How well an MDM predicts what is masked, by how much is masked: what its training log ends with.

General text is what the published model wrote itself; tiny models have none, and are asked whole
texts of their tasks only.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.analyses.study import Study
from mechshift_lib.config import Role
from mechshift_lib.diffusion.evaluation import BLANKS, RATIO_BINS
from mechshift_lib.diffusion.logs import log_of

#: Field of a training log -> what is masked in which texts.
TEXTS = {"mask_loss": "answers", "text_loss": "task texts", "general_loss": "general text"}


def losses_table(study: Study) -> pd.DataFrame:
    """Mask-prediction loss at the end of every training, by bin of the mask ratio.

    Returns:
        One row per training, kind of text and bin: ``seed, text, low, high`` (the bin),
        ``loss`` (mean cross-entropy of masked tokens, nats), ``right`` (share of them whose
        likeliest token is the right one; general text only). Empty without logs.
    """
    rows = []
    for seed in study.pair.seeds:
        last = _last(study, "mdm", seed)
        for field, text in TEXTS.items():
            shares = last.get("general_right") if field == "general_loss" else None
            for number, (low, high) in enumerate(pairwise(RATIO_BINS)):
                if field in last and last[field][number] is not None:
                    right = np.nan if shares is None else shares[number]
                    loss = last[field][number]
                    rows.append(
                        {"seed": seed, "text": text, "low": low, "high": high, "loss": loss}
                        | {"right": right}
                    )
    return pd.DataFrame(rows, columns=["seed", "text", "low", "high", "loss", "right"])


def general_table(study: Study) -> pd.DataFrame:
    """What the models make of general text that no training saw.

    Returns:
        One row per training whose logs say it: ``seed``, ``arm, continued`` (mean cross-entropy of
        the next token, nats; NaN where it isn't known), ``infilling`` (share of single blanks in
        such text that the MDM fills with the very token), ``n`` (blanks).
    """
    rows = []
    n = BLANKS * int(study.pair.training.get("general_held_out", 0))
    for seed in study.pair.seeds:
        ends = {role: _last(study, role, seed) for role in study.pair.roles}
        if "general_infilling" in ends["mdm"]:
            nexts = {x: ends.get(x, {}).get("general_next", np.nan) for x in ("arm", "continued")}
            rows.append(
                {"seed": seed, "n": n}
                | nexts
                | {"infilling": float(ends["mdm"]["general_infilling"])}
            )
    return pd.DataFrame(rows, columns=["seed", "arm", "continued", "infilling", "n"])


def _last(study: Study, role: Role, seed: int) -> dict[str, Any]:
    """The last line of a model's training log; nothing where it has none."""
    path = log_of(study.pair, role, seed, study.root)
    if path is None or not path.is_file():
        return {}
    line: dict[str, Any] = json.loads(path.read_text("utf-8").splitlines()[-1])
    return line
