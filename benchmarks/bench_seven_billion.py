"""All edges at the shapes of Qwen2.5-7B and LLaMA-2-7B on one GPU, against the floor.

Random weights in bfloat16, 32 examples of 20 tokens, m = 5. Without a GPU it says so and writes
nothing, but for ``--small``, which runs tiny shapes on whatever there is.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import STEPS, Shape, build, floor, items, options, write

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.models.loading import wrap_model

SHAPES = {
    "Qwen2.5-7B": (Shape("qwen2", 28, 28, 4, 3584, 18944, 152064, 32, 20), 935_747),
    "LLaMA-2-7B": (Shape("llama", 32, 32, 32, 4096, 11008, 32000, 32, 20), 1_592_881),
}
SMALL = {
    "small Qwen2": (Shape("qwen2", 2, 4, 2, 32, 64, 50, 4, 8), 110),
    "small Llama": (Shape("llama", 2, 4, 4, 32, 64, 50, 4, 8), 110),
}
BATCH = 8


def costs(call: Callable[[], Any], repeats: int) -> tuple[float, int | None]:
    """Least time, and on a GPU the highest memory above that at the start, in bytes."""
    gpu = torch.cuda.is_available()
    call()
    gc.collect()
    before = 0
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times), torch.cuda.max_memory_allocated() - before if gpu else None


def row(name: str, shape: Shape, edges: int, repeats: int) -> dict[str, Any]:
    """One shape's costs; the bare model is wrapped only after it was timed."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        hf = build(shape)
    torch.set_default_dtype(torch.float32)
    asked = items(shape)
    parts = [asked[i : i + BATCH] for i in range(0, len(asked), BATCH)]
    bare, bare_bytes = costs(lambda: [floor(hf, part) for part in parts], repeats)
    model = wrap_model(hf, device=device)
    found: list[int] = []

    def engine() -> None:
        got = attribute(model, asked, method="eap-ig", steps=STEPS, batch_size=BATCH)
        found.append(got.by_example.shape[1])

    seconds, peak = costs(engine, repeats)
    if set(found) != {edges} or Graph.for_model(model).n_edges != edges:
        raise SystemExit(f"{name} has {found[-1]} edges, not {edges}.")
    return {
        "shape": name,
        "edges": edges,
        "floor_seconds": bare,
        "seconds": seconds,
        "time_ratio": seconds / bare,
        "floor_bytes": bare_bytes,
        "bytes": peak,
    }


def main() -> None:
    """Measure both shapes."""
    asked = options(__doc__)
    if not asked.small and not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured at the 7B shapes.")
        return
    rows = []
    for name, (shape, edges) in (SMALL if asked.small else SHAPES).items():
        rows.append(row(name, shape, edges, asked.repeats))
        gc.collect()
    write(asked.out, "seven_billion", rows, steps=STEPS, batch=BATCH, repeats=asked.repeats)


if __name__ == "__main__":
    main()
