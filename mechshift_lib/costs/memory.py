"""Memory that models and attribution take, from a model's numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mechshift_lib.choices import Dtype, Quantization
from mechshift_lib.config import ModelSize

ITEMSIZE: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Bytes of a quantised weight: one; or half of one, and 4 for each block of 64.
QUANTISED: dict[Quantization, float] = {"8-bit": 1.0, "4-bit": 0.5 + 4 / 64}
#: DEFAULT_BUDGET of circuits.attribution.products. It and the graph's counts are written out here
#: as importing them takes seconds, for which every job of a cluster would wait.
CHUNKS = 64 * 2**20
#: Prompt that memory is estimated for: tokens, and prompts a batch.
LENGTH, BATCH = 32, 8
GIB = 2**30


class Held(NamedTuple):
    """A model as it is held in memory.

    Attributes:
        size: how large it is.
        dtype: precision in which it runs.
        quantization: how the weights of linear modules are stored, where that isn't it.
    """

    size: ModelSize
    dtype: Dtype
    quantization: Quantization | None = None

    @property
    def weights(self) -> int:
        """About how many bytes its weights take.

        Of a quantised model: key and value projections that are repeated for every query head are
        none of the integers, nor are embeddings, norms and the unembedding. MLPs count as gated.
        """
        size, each = self.size, ITEMSIZE[self.dtype]
        if self.quantization is None:
            return size.parameters * each
        heads = size.layers * size.width * size.heads * size.head_width
        shared = size.layers * size.width * size.kv_heads * size.head_width
        small, repeated = 2 * heads + 3 * size.layers * size.width * size.hidden, 0
        if size.kv_heads == size.heads:
            small += 2 * heads
        else:
            repeated = 2 * (heads - shared)
        small = min(small, size.parameters)
        rest = size.parameters - small + repeated
        return int(small * QUANTISED[self.quantization]) + rest * each


def edge_sides(size: ModelSize) -> tuple[int, int]:
    """Sources and readers of a model's graph, as :class:`mechshift_lib.circuits.graph.Graph`."""
    sources = 1 + size.layers * (size.heads + 1)
    return sources, size.layers * (3 * size.heads + 1) + 1


def working_bytes(size: ModelSize, dtype: Dtype, length: int = LENGTH, batch: int = BATCH) -> int:
    """About how many bytes attribution of a batch takes beside the weights.

    Counted are two runs' node outputs, what a backward pass keeps (about twenty vectors of the
    residual stream's width and four of the MLP's, a layer and token), the scores and the chunks
    of their products.
    """
    sources, readers = edge_sides(size)
    kept = size.layers * (20 * size.width + 4 * size.hidden)
    nodes = 2 * size.layers * (size.heads * size.head_width + size.width)
    scores = batch * sources * readers * 4
    return batch * length * (kept + nodes) * ITEMSIZE[dtype] + scores + CHUNKS


def chapter_bytes(models: Sequence[Held], batch: int = BATCH) -> int:
    """About how many bytes a chapter takes, which keeps two models in memory.

    Args:
        models: each model of the pair.
        batch: prompts a batch.
    """
    weights = sorted((model.weights for model in models), reverse=True)
    working = max(working_bytes(model.size, model.dtype, batch=batch) for model in models)
    return sum(weights[:2]) + working
