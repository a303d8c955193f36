"""Free memory goes back to the system, and only where there is much of it."""

import ctypes
import sys
from pathlib import Path

import pytest
import torch

from mechshift_lib.circuits.tracing.heap import LARGE, give_back

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def _resident() -> int:
    """Resident bytes of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_a_small_pass_gives_nothing_back() -> None:
    assert not give_back([torch.zeros(LARGE // 4 - 1)])()
    assert not give_back([])()


@pytest.mark.skipif(not GLIBC, reason="only glibc can give pages back")
def test_holes_between_kept_blocks_are_given_back() -> None:
    size = 16 * 2**10  # bytes, small enough to lie in the heap
    blocks = [torch.zeros(size // 4) for _ in range(6000)]
    gone = give_back(blocks)
    kept = blocks[::10]
    del blocks
    before = _resident()
    assert gone()
    assert before - _resident() > 40 * 2**20
    assert all(not x.any() for x in kept)
