"""Batches that are halved when a GPU's memory runs out, so that long work goes on."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from mechshift_lib.errors import CircuitError

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class BatchSize:
    """Rows per pass; smaller once they didn't fit into memory, for all passes that follow."""

    rows: int


def retrying_batches(
    items: Sequence[T],
    size: BatchSize,
    work: Callable[[Sequence[T]], R],
    *,
    rows_each: int = 1,
    within: bool = False,
) -> Iterator[tuple[Sequence[T], R]]:
    """Results of ``work``, a batch of ``items`` at a time, each with its batch.

    ``work`` must leave nothing behind when it fails: the same items are given to it again, fewer at
    a time. Each halving is said in a warning.

    Args:
        items: what is worked on.
        size: rows per pass; halved where the GPU's memory runs out.
        work: gives a batch's result; passes within it take ``size.rows`` at most.
        rows_each: rows that one item can take (one per circuit, for instance).
        within: these are passes within the ``work`` of other batches: where a single row doesn't
            fit, the error is passed on, so that those are halved.

    Raises:
        CircuitError: a single row doesn't fit.
        torch.OutOfMemoryError: the same with ``within``.
    """
    start = 0
    while start < len(items):
        part = items[start : start + size.rows]
        try:
            result = work(part)
        except torch.OutOfMemoryError:
            if within and min(size.rows, len(part) * rows_each) <= 1:
                raise
            failed = True  # and go on outside: within, the error holds on to what filled the memory
        else:
            failed = False
        if failed:
            _halve(size, min(size.rows, len(part) * rows_each))
            continue
        yield part, result
        start += len(part)


def _halve(size: BatchSize, filled: int) -> None:
    """Take half the rows that didn't fit, and give back what can be given back."""
    if filled <= 1:
        raise CircuitError(
            "The GPU's memory doesn't hold even a single row: free some of it, load the model in "
            "bfloat16, use shorter examples, or use device 'cpu'."
        )
    size.rows = filled // 2
    warnings.warn(
        f"The GPU's memory ran out with {filled} rows at once: going on with {size.rows}.",
        RuntimeWarning,
        stacklevel=3,
    )
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
