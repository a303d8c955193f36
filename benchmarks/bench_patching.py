"""Exact patching and circuit evaluation: edges (circuits) per second against a literal version.

The literal version runs the whole model once for every edge (circuit), layer by layer in plain
PyTorch; it is the tests' yardstick (``tests/support/literal.py``), for one example at a time. Both
see the same examples; the literal one does a sample of the edges. Exact patching is also measured
with every layer behind a patch traced, as it is for models that can't be written out; on examples
that differ from the first token on, and on others that differ late, where a causal model's earlier
positions stay as they are. On the CPU, one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from measuring import Shape, build, items, options, write
from torch import Tensor

from mechshift_lib.circuits.attribution import exact
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.circuits.evaluation.runs import run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.config import ROOT
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import Item

sys.path.insert(0, str(ROOT))
from tests.support import literal

#: The shape of the book's trained pairs.
SHAPE = Shape("qwen2", 6, 4, 2, 128, 384, 512, 4, 20)
SMALL = Shape("qwen2", 2, 4, 2, 32, 64, 50, 2, 8)
N_LITERAL_CIRCUITS = 2


def seconds(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Least processor time of each call; they take turns, so that all meet the same machine."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, own in zip(calls, times, strict=True):
            began = time.process_time()
            call()
            own.append(time.process_time() - began)
    return [min(own) for own in times]


def late(example: Item) -> Item:
    """The example with the first half of its clean tokens in the corrupted input, too."""
    half = len(example.clean) // 2
    return replace(example, corrupted=example.clean[:half] + example.corrupted[half:])


def main() -> None:
    """Measure both kinds of work."""
    asked = options(__doc__)
    shape = SMALL if asked.small else SHAPE
    torch.set_num_threads(1)
    model, examples = wrap_model(build(shape)), items(shape)
    graph = Graph.for_model(model)
    n_literal, n_circuits = (4, 8) if asked.small else (24, 64)
    draw = np.random.default_rng(0)
    sample = sorted(draw.choice(graph.n_edges, n_literal, replace=False).tolist())
    masks = draw.random((n_circuits, graph.n_edges)) < 0.5

    differing_late = [late(example) for example in examples]
    pairs = [tuple(torch.tensor([x]) for x in (e.clean, e.corrupted)) for e in examples]

    def metric(logits: Tensor) -> Tensor:
        return logits[0, -1, 1] - logits[0, -1, 2]

    def literal_edges() -> None:
        names = [graph.names[edge] for edge in sample]
        for clean, corrupted in pairs:
            literal.exact_scores(model.hf, clean, corrupted, metric, names, causal=True)

    def literal_circuits() -> None:
        for mask in masks[:N_LITERAL_CIRCUITS]:
            kept = {name for name, inside in zip(graph.names, mask, strict=True) if inside}
            for clean, corrupted in pairs:
                literal.circuit_logits(model.hf, clean, corrupted, kept, causal=True)

    def traced() -> None:
        with patch.object(exact, "written_out", lambda *_: None):
            exact_scores(model, examples)

    def traced_late() -> None:
        with patch.object(exact, "written_out", lambda *_: None):
            exact_scores(model, differing_late)

    edges, some = graph.n_edges, (literal_edges, n_literal)
    sides: dict[str, dict[str, tuple[Callable[[], Any], int]]] = {
        "exact patching": {
            "": (lambda: exact_scores(model, examples), edges),
            "traced_": (traced, edges),
            "literal_": some,
        },
        "exact patching of late differences": {
            "": (lambda: exact_scores(model, differing_late), edges),
            "traced_": (traced_late, edges),
            "literal_": some,
        },
        "circuit evaluation": {
            "": (lambda: run_circuits(model, examples, masks), n_circuits),
            "literal_": (literal_circuits, N_LITERAL_CIRCUITS),
        },
    }
    rows = []
    for name, ways in sides.items():
        taken = seconds([call for call, _ in ways.values()], asked.repeats)
        row: dict[str, Any] = {"work": name}
        for (way, (_, count)), least in zip(ways.items(), taken, strict=True):
            row[f"{way}per_second"] = shape.batch * count / least
        rows.append(row | {"speedup": row["per_second"] / row["literal_per_second"]})
    write(
        asked.out,
        "patching",
        rows,
        layers=shape.layers,
        heads=shape.heads,
        d_model=shape.d_model,
        examples=shape.batch,
        length=shape.length,
        edges=graph.n_edges,
        circuits=n_circuits,
        repeats=asked.repeats,
        threads=1,
    )


if __name__ == "__main__":
    main()
