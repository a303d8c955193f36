"""Where a quantity lies against a margin: clearly above it, clearly below, or neither."""

from __future__ import annotations

from typing import Literal, get_args

from mechshift_lib.comparison.verdicts import Contrast

Side = Literal["above", "below", "open"]
SIDES: tuple[Side, ...] = get_args(Side)


def side(found: Contrast, margin: float) -> Side:
    """Which side of a margin the whole interval lies on; ``open`` where it reaches both, or where
    there is no interval.
    """
    if not found.known:
        return "open"
    if found.low > margin:
        return "above"
    return "below" if found.high < margin else "open"
