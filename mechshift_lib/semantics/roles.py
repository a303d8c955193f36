"""What kind of tokens a component writes: a rule that doesn't know which model it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mechshift_lib.tasks.vocabulary import NAMES

_NAMES = frozenset(name.lower() for name in NAMES)
#: A role is named after a kind that more than this share of the tokens are of.
MAJORITY = 0.5
MIXED = "mixed"


def kind_of(token: str) -> str:
    """``numbers``, ``person names`` (of the tasks' list), ``words``, or else ``symbols``."""
    text = token.strip()
    if text.isdigit():
        return "numbers"
    if text.lower() in _NAMES:
        return "person names"
    return "words" if text.isalpha() else "symbols"


def role_of(tokens: Sequence[str]) -> str:
    """The kind of most of a component's strongest tokens; :data:`MIXED` where there is none."""
    kind, count = Counter(map(kind_of, tokens)).most_common(1)[0]
    return kind if count > MAJORITY * len(tokens) else MIXED
