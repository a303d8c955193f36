"""How a tokenizer splits texts, and two such splits side by side, so that one sees where they part.

Tokens are shown as Python writes strings: ``' Mary'`` begins with a space and ``'Mary'`` doesn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

#: Columns of text that aligned tokens may take.
WIDTH = 100
#: Tokens of a sentence on either side of the place where two texts part.
AROUND = 3
#: How byte-level and sentencepiece tokenizers write a space in front.
_SPACES = ("Ġ", "▁")
_GAP = "…"
#: Tokens that face each other; ``None`` faces what the other text has more.
Pair = tuple["Token | None", "Token | None"]


@dataclass(frozen=True)
class Token:
    """One token of a text: its id, and how it is shown."""

    id: int
    shown: str


def tokens_of(tokenizer: Any, ids: Iterable[int]) -> list[Token]:
    """Ids as tokens that people can read.

    A part of a character, which is no text by itself, and a special token are shown by the name
    that the vocabulary has for them, and an id that it doesn't have as ``?``.
    """
    special = set(tokenizer.all_special_tokens)
    found = []
    for index in map(int, ids):
        try:
            name = tokenizer.convert_ids_to_tokens(index)
        except (IndexError, OverflowError):
            name = None
        if name is None:
            found.append(Token(index, "?"))
        elif name in special:
            found.append(Token(index, str(name)))
        else:
            found.append(Token(index, repr(_text(tokenizer, name))))
    return found


def _text(tokenizer: Any, name: str) -> str:
    text = str(tokenizer.convert_tokens_to_string([name]))
    if "\ufffd" in text:
        return name
    missing = name.startswith(_SPACES) and not text.startswith(" ")
    return f" {text}" if missing else text


def aligned(one: Sequence[Token], other: Sequence[Token]) -> list[Pair]:
    """Two splits in columns: the same tokens face each other, and ``None`` faces what is more."""
    ids = [token.id for token in one], [token.id for token in other]
    pairs: list[Pair] = []
    for _, i, j, k, m in SequenceMatcher(None, *ids, autojunk=False).get_opcodes():
        pairs += zip_longest(one[i:j], other[k:m])
    return pairs


def side_by_side(
    names: tuple[str, str], one: Sequence[Token], other: Sequence[Token], width: int = WIDTH
) -> list[str]:
    """Two lines in which tokens that face each other stand under each other.

    Long stretches of equal tokens are cut, so that the places that differ are seen.

    Args:
        names: what the lines are of, such as ``("clean", "corrupted")``.
        one: tokens of the first line.
        other: tokens of the second.
        width: columns of text; what is beyond is cut.
    """
    pairs = aligned(one, other)
    differ = [at for at, (a, b) in enumerate(pairs) if a is None or b is None or a.id != b.id]
    kept = {at for place in differ for at in range(place - AROUND, place + AROUND + 1)}
    columns: list[tuple[str, str]] = []
    for at, (a, b) in enumerate(pairs):
        if at in kept or not differ:
            columns.append((a.shown if a else "", b.shown if b else ""))
        elif not columns or columns[-1] != (_GAP, _GAP):
            columns.append((_GAP, _GAP))
    margin = max(map(len, names))
    lines = [name.ljust(margin) for name in names]
    for column in columns:
        wide = max(map(len, column))
        if len(lines[0]) + 1 + wide > width:
            return [f"{line} {_GAP}" for line in lines]
        lines = [f"{line} {cell:{wide}}" for line, cell in zip(lines, column, strict=True)]
    return [line.rstrip() for line in lines]


def parting(one: Sequence[Token], other: Sequence[Token]) -> tuple[int, str, str]:
    """Where one of two splits has a token more, and the tokens of each around that place.

    Words that face each other may differ, as those of clean and corrupted prompts should.

    Returns:
        The position in the split that has more there, and both places as text.
    """
    pairs = aligned(one, other)
    at = next((i for i, pair in enumerate(pairs) if None in pair), len(pairs) - 1)
    longer = 0 if pairs[at][0] is not None else 1
    position = sum(pair[longer] is not None for pair in pairs[:at])
    near = pairs[max(0, at - AROUND) : at + AROUND + 1]
    shown = [
        " ".join(token.shown[:40] for token in side if token is not None)
        for side in zip(*near, strict=True)
    ]
    before, after = [_GAP] * (at > AROUND), [_GAP] * (at + AROUND + 1 < len(pairs))
    left, right = (" ".join([*before, x, *after]) for x in shown)
    return position, left, right


def table(names: Sequence[str], splits: Sequence[Sequence[Token]]) -> list[str]:
    """Lines of one or two splits: position, id and token of each, and a mark where two differ.

    The position is that in the text of the first split, or where it has no token in the second's.
    """
    if len(splits) == 1:
        rows = [(str(at), str(token.id), token.shown) for at, token in enumerate(splits[0])]
        return _columns([("position", "id", names[0]), *rows])
    cells = [("position", "id", names[0], "id", names[1], "")]
    counts = [0, 0]
    for pair in aligned(splits[0], splits[1]):
        at = counts[0] if pair[0] else counts[1]
        counts = [n + (token is not None) for n, token in zip(counts, pair, strict=True)]
        own = [(str(x.id), x.shown) if x else ("", "") for x in pair]
        same = pair[0] is not None and pair[1] is not None and pair[0].id == pair[1].id
        cells.append((str(at), *own[0], *own[1], "" if same else "differs"))
    return _columns(cells)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells under each other: numbers to the right, tokens to the left."""
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    numbers = {i for i, name in enumerate(rows[0]) if name in ("position", "id")}
    lines = []
    for row in rows:
        cells = [
            cell.rjust(wide[i]) if i in numbers else cell.ljust(wide[i])
            for i, cell in enumerate(row)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
