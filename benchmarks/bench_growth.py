"""How the time of EAP-IG (inputs, m = 5) grows with layers, heads, tokens and examples.

One of them varies while the others stay; a head is always 32 wide, so that more heads widen the
residual stream and the MLP, too. On the CPU, one thread, after a first run that doesn't count.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from measuring import STEPS, Shape, build, items, options, write

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.models.loading import wrap_model

BASE = Shape("qwen2", 4, 8, 8, 256, 768, 512, 8, 20)
SMALL = Shape("qwen2", 2, 2, 2, 64, 96, 50, 2, 8)
FACTORS = (0.5, 1, 2, 4)
D_HEAD = 32


def varied(base: Shape, what: str, factor: float) -> Shape:
    """A shape with one of its numbers multiplied."""
    if what == "heads":
        heads = int(base.heads * factor)
        wide = heads * D_HEAD
        return replace(base, heads=heads, kv_heads=heads, d_model=wide, d_mlp=3 * wide)
    field = {"layers": "layers", "tokens": "length", "examples": "batch"}[what]
    return replace(base, **{field: int(getattr(base, field) * factor)})


def measured(shape: Shape, repeats: int) -> dict[str, Any]:
    """Edges and least time of one shape."""
    model, asked = wrap_model(build(shape)), items(shape)
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        attribute(model, asked, steps=STEPS, batch_size=shape.batch)
        times.append(time.perf_counter() - began)
    return {"edges": Graph.for_model(model).n_edges, "seconds": min(times[1:])}


def main() -> None:
    """Vary each number."""
    asked = options(__doc__)
    torch.set_num_threads(1)
    base = SMALL if asked.small else BASE
    sizes = {
        "layers": base.layers,
        "heads": base.heads,
        "tokens": base.length,
        "examples": base.batch,
    }
    rows = []
    for what, size in sizes.items():
        for factor in FACTORS:
            found = measured(varied(base, what, factor), asked.repeats)
            rows.append({"varied": what, "value": int(size * factor), **found})
    write(asked.out, "growth", rows, steps=STEPS, repeats=asked.repeats, threads=1, **sizes)


if __name__ == "__main__":
    main()
