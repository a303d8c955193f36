"""What ``mechshift tokens`` shows: tables of the tokens of texts and of an examples file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mechshift_lib.cli.files.rows import Answer, Rows
from mechshift_lib.cli.files.tokenisations import Token, table, tokens_of
from mechshift_lib.errors import ConfigError
from mechshift_lib.tasks.tokens import encode_answer


def lines_of_texts(tokenizer: Any, texts: Sequence[str]) -> Iterator[str]:
    """Tables of texts: two beside each other, any other number below each other."""
    splits = [_split(tokenizer, text) for text in texts]
    if len(texts) == 2:
        yield from table([repr(text) for text in texts], splits)
        return
    for number, (text, split) in enumerate(zip(texts, splits, strict=True)):
        if number:
            yield ""
        yield from table([repr(text)], [split])


def lines_of_rows(tokenizer: Any, rows: Rows, entry: int | None = None) -> Iterator[str]:
    """Tables of an examples file, and which entries have prompts of unequal lengths.

    Raises:
        ConfigError: it has no such entry.
    """
    n = len(rows.entries)
    if entry is not None and entry >= n:
        raise ConfigError(f"{rows.path} has {n} entries: give an --entry from 0 to {n - 1}.")
    unequal = []
    for index in range(n) if entry is None else [entry]:
        row = rows.entries[index]
        clean, corrupted = (_split(tokenizer, x) for x in (row.clean, row.corrupted))
        if len(clean) != len(corrupted):
            unequal.append(rows.places[index])
        yield f"{rows.places[index]}: {len(clean)} clean and {len(corrupted)} corrupted tokens"
        yield from table(("clean", "corrupted"), (clean, corrupted))
        yield f"answer: {_answer(tokenizer, row.answer)}"
        yield f"distractor: {_answer(tokenizer, row.distractor)}"
        yield ""
    if unequal:
        yield f"Clean and corrupted prompts of unequal lengths: {', '.join(unequal)}."
    else:
        yield "Clean and corrupted prompts have equal lengths."


def _split(tokenizer: Any, prompt: str | Sequence[int]) -> list[Token]:
    """Tokens of a prompt, with what the tokenizer puts around it; ids stay as they are."""
    ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
    return tokens_of(tokenizer, ids)


def _answer(tokenizer: Any, answer: Answer) -> str:
    """An answer's tokens with their ids: in a row one after the other, alternatives with "or"."""
    parts = []
    for part in answer.parts:
        ids = [part] if isinstance(part, int) else encode_answer(tokenizer, part)
        parts.append(" ".join(f"{token.shown} ({token.id})" for token in tokens_of(tokenizer, ids)))
    return (" " if answer.in_a_row else " or ").join(parts)
