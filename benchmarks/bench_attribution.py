"""Time and memory of EAP-IG (inputs, m = 5) against the floor, on the CPU with one thread.

The floor is what the method needs by definition (see :func:`measuring.floor`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from measuring import (
    SHAPES,
    SMALL_SHAPES,
    STEPS,
    Shape,
    build,
    compare,
    floor,
    items,
    options,
    write,
)

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.models.loading import wrap_model


def bare(shape: Shape) -> Callable[[], Any]:
    """The floor."""
    model, asked = build(shape), items(shape)
    return lambda: floor(model, asked)


def engine(shape: Shape) -> Callable[[], Any]:
    """All edges' scores."""
    model, asked = wrap_model(build(shape)), items(shape)
    return lambda: attribute(model, asked, method="eap-ig", steps=STEPS, batch_size=shape.batch)


def row(name: str, shape: Shape, repeats: int) -> dict[str, Any]:
    """One shape's costs."""
    found = compare({"floor": (bare, (shape,)), "engine": (engine, (shape,))}, repeats)
    a, b = found["engine"], found["floor"]
    ratios = [x / y for x, y in zip(a.seconds, b.seconds, strict=True)]
    return {
        "shape": name,
        "edges": Graph.for_model(wrap_model(build(shape))).n_edges,
        "floor_seconds": b.least,
        "seconds": a.least,
        "time_ratio": a.least / b.least,
        "lowest_ratio": min(ratios),
        "highest_ratio": max(ratios),
        "floor_bytes": b.bytes,
        "bytes": a.bytes,
        "memory_ratio": a.bytes / b.bytes,
    }


def main() -> None:
    """Measure both shapes."""
    asked = options(__doc__)
    shapes = SMALL_SHAPES if asked.small else SHAPES
    rows = [row(name, shape, asked.repeats) for name, shape in shapes.items()]
    one = next(iter(shapes.values()))
    write(
        asked.out,
        "attribution",
        rows,
        steps=STEPS,
        batch=one.batch,
        length=one.length,
        vocabulary=one.vocabulary,
        repeats=asked.repeats,
        threads=1,
    )


if __name__ == "__main__":
    main()
