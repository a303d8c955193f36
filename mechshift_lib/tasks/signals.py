"""Interchanges at IOI's repeated name: its word against its place (Wang et al. 2023, section 3).

A model that doesn't give the letter to the subject can know the subject by its **name** or by the
**place** at which it stood first. The stream at the second mention carries both. A donor prompt
has another value of one of them and the same value of the other:

- ``place``: the two names change places, the subject stays the same name;
- ``name``: the names change places, and the subject is the other name, which so stands where the
  subject stood.

Whatever the cue, a model that takes it from the donor gives the letter to the subject.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.tokens import encode_prompt

Signal = Literal["name", "place"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)


@dataclass(frozen=True)
class Interchange:
    """One prompt and a donor for the stream at its second mention of the subject.

    Attributes:
        example: index of the example.
        signal: what the donor changes.
        base: token ids of the prompt.
        donor: token ids of the donor, as many.
        at: index of the second mention.
        text: the donor's text, for people.
    """

    example: int
    signal: Signal
    base: tuple[int, ...]
    donor: tuple[int, ...]
    at: int
    text: str


def interchanges(tokenizer: Tokenizer, example: Example, index: int) -> list[Interchange]:
    """Both donors of an IOI example.

    Raises:
        TaskError: the example isn't of IOI, or its names aren't one token each.
    """
    if example.task != "ioi":
        raise TaskError(f"Name and place are told apart in IOI, not in {example.task}.")
    fill: dict[str, Any] = dict(example.info)
    swapped = {**fill, "a": fill["b"], "b": fill["a"]}
    donors: dict[Signal, dict[str, Any]] = {
        "name": {**swapped, "s": fill["io"]},
        "place": swapped,
    }
    # The second mention is where the prompt differs from the one with a third name there.
    other = encode_prompt(tokenizer, fill["template"].format_map({**fill, "s": fill["third"]}))
    differs = [i for i, (x, y) in enumerate(zip(example.clean, other, strict=False)) if x != y]
    found = []
    for signal, donor in donors.items():
        text = fill["template"].format_map(donor)
        ids = encode_prompt(tokenizer, text)
        if len(differs) != 1 or not len(other) == len(ids) == len(example.clean):
            raise TaskError("Name and place are told apart by names of one token each.")
        found.append(Interchange(index, signal, example.clean, ids, differs[0], text))
    return found
