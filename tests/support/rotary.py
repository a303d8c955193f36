"""Rotary positions, written out."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, positions: Tensor, base: float, width: int) -> Tensor:
    """Turn the first ``width`` dimensions of a head, pairs being half the width apart.

    Args:
        x: a head's queries or keys, ``[..., pos, d_head]``.
        positions: ``[pos]``, or whatever broadcasts with ``x`` without its last dimension.
        base: base of the frequencies.
        width: dimensions that turn; the others stay.
    """
    half = width // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angles = positions[..., None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:width]
    turned = [first * cos - second * sin, second * cos + first * sin, x[..., width:]]
    return torch.cat(turned, -1)
