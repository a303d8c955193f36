"""Memory that models and attribution take, from a model's numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from mechshift_lib.choices import Dtype
from mechshift_lib.circuits.attribution.products import DEFAULT_BUDGET
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.config import ModelSize

ITEMSIZE: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Prompt that memory is estimated for: tokens, and prompts a batch.
LENGTH, BATCH = 32, 8
GIB = 2**30


def working_bytes(size: ModelSize, dtype: Dtype, length: int = LENGTH, batch: int = BATCH) -> int:
    """About how many bytes attribution of a batch takes beside the weights.

    Counted are two runs' node outputs, what a backward pass keeps (about twenty vectors of the
    residual stream's width and four of the MLP's, a layer and token), the scores and the chunks
    of their products.
    """
    graph = Graph(size.layers, size.heads, size.kv_heads)
    kept = size.layers * (20 * size.width + 4 * size.hidden)
    nodes = 2 * size.layers * (size.heads * size.head_width + size.width)
    scores = batch * graph.n_sources * graph.n_readers * 4
    return batch * length * (kept + nodes) * ITEMSIZE[dtype] + scores + DEFAULT_BUDGET


def chapter_bytes(models: Sequence[tuple[ModelSize, Dtype]], batch: int = BATCH) -> int:
    """About how many bytes a chapter takes, which keeps two models in memory.

    Args:
        models: size and precision of each model of the pair.
        batch: prompts a batch.
    """
    weights = sorted((size.parameters * ITEMSIZE[dtype] for size, dtype in models), reverse=True)
    working = max(working_bytes(size, dtype, batch=batch) for size, dtype in models)
    return sum(weights[:2]) + working
