"""Memory that is free in this process, given back to the system.

What one pass leaves behind for later lies scattered among what it freed: the next pass finds no
hole large enough and takes new memory, so that a process grows by more at each pass than it keeps
(at GPT-2-small shape by 35 MB where 7 MB are kept).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import cache

from torch import Tensor

#: Bytes of a pass from which on it is worth the milliseconds that giving back takes.
LARGE = 8 * 2**20


@cache
def _trim() -> Callable[[int], int] | None:
    """The C library's function that gives back free pages (glibc has one, others don't)."""
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):
        return None


def give_back(passed: Iterable[Tensor]) -> Callable[[], bool]:
    """Plan to give free memory back once the tensors of a large pass on the CPU are gone.

    On a GPU torch keeps its own pool, and nothing is done.

    Args:
        passed: tensors that the pass keeps until then; only their sizes are read.

    Returns:
        To be called when they are gone; says whether memory was given back.
    """
    large = sum(x.numel() * x.itemsize for x in passed if x.device.type == "cpu") >= LARGE

    def finish() -> bool:
        trim = _trim() if large else None
        return trim is not None and bool(trim(0))

    return finish
