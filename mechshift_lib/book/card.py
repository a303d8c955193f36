"""The book's card for link previews, drawn from the edge scores that the repository ships."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mechshift_lib.config import ROOT, Pair

#: Circuits on the card, and how many edges of each.
ROLES = ("arm", "mdm")
EDGES = 40


def card(pairs: Sequence[Pair], root: Path = ROOT) -> bytes | None:
    """A PNG of the circuits of the first pair that ships its scores, on Countdown if it has it.

    The score of an edge is the mean over all examples and answer positions that the file holds.

    Args:
        pairs: the pairs, in the book's order; the first training seed of each is looked at.
        root: the checkout.

    Returns:
        The picture, or None where no pair ships the scores of ARM and MDM.
    """
    from safetensors import safe_open

    from mechshift_lib.circuits.graph.graph import Graph
    from mechshift_lib.plots.card import plot_card
    from mechshift_lib.plots.theme import label

    for pair in pairs:
        folder = root / "data" / "scores" / pair.name / f"seed{pair.seeds[0]}"
        for task in ("countdown", *pair.tasks):
            files = {role: folder / f"{task}-{role}.safetensors" for role in ROLES}
            if not all(file.is_file() for file in files.values()):
                continue
            found = {}
            for role, file in files.items():
                with safe_open(file, framework="np") as opened:
                    graph = Graph(**json.loads(opened.metadata()["graph"]))
                    scores = opened.get_tensor("scores").astype(np.float32)
                found[role] = graph, scores.mean(axis=0)
            about = f"Their {EDGES} strongest edges on {label(task)}: {pair.title}"
            buffer = io.BytesIO()
            plot_card(found, EDGES, about).savefig(buffer, format="png", metadata={"Software": ""})
            return buffer.getvalue()
    return None
