"""The minus sign of numbers on pages: a true one, as wide as a plus and read out as a minus."""

from __future__ import annotations

import re

#: Code and tags, which stay as they are; or the hyphen that begins a negative number.
_HYPHEN = re.compile(r"(`[^`]*`|<[^<>]*>)|(?<![^\s(\[,>])-(?=\.?\d)")


def with_minus(text: str) -> str:
    """Text of a page whose negative numbers begin with a minus: ``[-0.5, 2-3]`` -> ``[−0.5, 2-3]``.

    Code between backticks and tags of HTML stay as they are.
    """
    return _HYPHEN.sub(lambda found: found[1] or "\N{MINUS SIGN}", text)
