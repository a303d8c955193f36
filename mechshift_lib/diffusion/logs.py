"""Where a model's training log lies, and what it says in all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.config import FolderSource, Pair, Role

LOG = "training.jsonl"


def log_of(pair: Pair, role: Role, seed: int, root: Path) -> Path | None:
    """Where a model's training log would be: beside its weights or its adapter."""
    spec = pair.model(role, seed)
    if spec.adapter is not None:
        return root / spec.adapter / LOG
    return root / spec.source.path / LOG if isinstance(spec.source, FolderSource) else None


def logged_in(path: Path | None) -> dict[str, Any]:
    """What a training log says in all: ``steps, tokens, end, third, last``.

    ``end`` is its last learning rate; ``third`` and ``last`` are mean losses of the third and of
    the last quarter of the steps. Nothing where there is no log.
    """
    if path is None or not path.is_file():
        return {}
    log = pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").splitlines()])
    steps = int(log.step.iloc[-1]) + 1
    quarter = np.ceil(4 * (log.step + 1) / steps)
    return {
        "steps": steps,
        "tokens": int(log.tokens.iloc[-1]),
        "end": float(log.lr.iloc[-1]),
        "third": float(log.loss[quarter == 3].mean()),
        "last": float(log.loss[quarter == 4].mean()),
    }
