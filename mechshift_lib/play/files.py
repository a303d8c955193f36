"""Scripts that the page loads: one index of all pairs, and one file for each model.

They are scripts, not JSON, because a page that is opened from a folder may load scripts only. A
model's file calls ``mechshiftPlay.add(NAME, {...})`` with ``config``, ``dtype``, ``tensors`` (name
and shape, in order) and ``data``: the tensors' bytes one after the other,
little-endian, as base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mechshift_lib.config import ModelSpec, Pair
from mechshift_lib.diffusion.samplers import ORDERS
from mechshift_lib.play.prompts import DRAWS, LONGEST, random_orders
from mechshift_lib.play.weights import Weights
from mechshift_lib.plots.theme import ROLE_COLORS, label


def name_of(pair: str, role: str, seed: int) -> str:
    """Name of a model's file without its ending, such as ``tiny-qwen/mdm.0``."""
    return f"{pair}/{role}.{seed}"


def script(name: str, spec: ModelSpec, weights: Weights, mask: int | None) -> str:
    """The file of one model.

    Args:
        name: of the file (:func:`name_of`).
        spec: how the pair's file declares the model.
        weights: what was read of it.
        mask: id of its mask token; None for an ARM.
    """
    tensors = weights.tensors
    kind = next(iter(tensors.values())).dtype.newbyteorder("<")
    data = b"".join(one.astype(kind, copy=False).tobytes() for one in tensors.values())
    about: dict[str, Any] = {
        "config": weights.config | asking(spec, mask),
        "dtype": kind.name,
        "tensors": [[short, list(one.shape)] for short, one in tensors.items()],
        "data": base64.b64encode(data).decode(),
    }
    return f"mechshiftPlay.add({_json(name)}, {_json(about)});\n"


def asking(spec: ModelSpec, mask: int | None) -> dict[str, Any]:
    """How a model is asked: what it attends to, its mask, and where a token is read from its own
    position.
    """
    shift = 0 if spec.readout == "mask" else -1
    return {"attention": spec.attention, "mask": mask, "shift": shift}


@dataclass(frozen=True)
class Entry:
    """What the index says of a pair.

    Attributes:
        pair: the pair.
        tokenizer: what the page's tokenizer needs.
        graph: layers and heads of all its models.
        masks: id of the mask token by role; None for an ARM.
        trainings: training -> the roles of it that there are.
        prompts: examples by task.
        cues: prompts on which two cues disagree.
    """

    pair: Pair
    tokenizer: dict[str, Any]
    graph: dict[str, int]
    masks: dict[str, int | None]
    trainings: dict[int, list[str]]
    prompts: dict[str, list[dict[str, Any]]]
    cues: list[dict[str, Any]]

    def content(self) -> dict[str, Any]:
        """The pair's part of the index."""
        return {
            "name": self.pair.name,
            "title": self.pair.title,
            "tokenizer": self.tokenizer,
            "graph": self.graph,
            "masks": self.masks,
            "trainings": self.trainings,
            "prompts": self.prompts,
            "cues": self.cues,
        }


def index(entries: Sequence[Entry]) -> str:
    """The script that says what there is to run."""
    roles = {role for entry in entries for some in entry.trainings.values() for role in some}
    words = sorted(roles | {task for entry in entries for task in entry.prompts} | set(ORDERS))
    about = {
        "pairs": [entry.content() for entry in entries],
        "labels": {name: label(name) for name in words},
        "colors": {name: ROLE_COLORS[name] for name in sorted(roles) if name in ROLE_COLORS},
        "orders": list(ORDERS),
        "draws": random_orders(),
        "seeds": DRAWS,
        "longest": LONGEST,
    }
    return f"mechshiftPlay.index({_json(about)});\n"


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
