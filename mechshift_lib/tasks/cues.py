"""Countdown prompts on which two ways to solve it disagree.

A number of the equation can be found by **elimination**, as what is left of the given numbers, or
from the **target**, as what makes the equation come out. In a proper problem both say the same.
Here one of the two is changed, so that each names another token:

- ``other target``: the target is that of another equation of the same numbers, the corrupted
  prompt's; what stands there of the first equation is kept;
- ``target moved``: the target is that of the same equation with a number at its end that has been
  used already, so that the equation can't be finished properly;
- ``number swapped``: a given number is replaced in the list, and the target stays;
- ``from the right``: the number that the equation begins with stands revealed at its end, so that
  it is used up. Only a model that sees to its right can tell.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.countdown import OPERATORS, TEMPLATE, Countdown, evaluate
from mechshift_lib.tasks.tokens import encode_answer, encode_prompt

Kind = Literal["none", "other target", "target moved", "number swapped", "from the right"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Conflict:
    """One question: the token at one place of the equation.

    Attributes:
        example: index of the example that it is made of.
        kind: what was changed; ``none`` is the example as it is, where both cues agree.
        at: index of the answer token that is asked for.
        prompt: token ids, ``[n_prompt]``.
        revealed: answer tokens that are there already: index -> id. All before ``at``, and for
            ``from the right`` the last.
        n_answer: number of answer tokens.
        listed: ids that elimination names.
        targeted: ids that the target names.
        text: the prompt and what is revealed, for people.
        numbers: positions of the given numbers in the prompt.
        target: position of the target.
    """

    example: int
    kind: Kind
    at: int
    prompt: tuple[int, ...]
    revealed: Mapping[int, int]
    n_answer: int
    listed: tuple[int, ...]
    targeted: tuple[int, ...]
    text: str
    numbers: tuple[int, ...]
    target: int


def conflicts(
    task: Countdown, tokenizer: Tokenizer, example: Example, index: int, seed: int
) -> list[Conflict]:
    """All questions that an example gives; fewer where no number makes a conflict.

    Args:
        task: the task that the example is of.
        tokenizer: the models' tokenizer.
        example: a Countdown example.
        index: its index.
        seed: decides which number takes another's place.

    Raises:
        TaskError: the tokenizer reads a number as several tokens.
    """
    rng = random.Random(f"{seed}/{index}")
    numbers, target = tuple(example.info["numbers"]), int(example.info["target"])
    parts, wanted = (_parts(tokenizer, ids) for ids in (example.answer, example.distractor))
    if len(parts) != len(example.answer) or evaluate(" ".join(parts)) != target:
        raise TaskError("Cues are told apart by single tokens: this tokenizer splits numbers.")
    last = len(parts) - 1

    def question(
        kind: Kind,
        at: int,
        given: Sequence[int],
        goal: int,
        listed: Sequence[int],
        targeted: int,
        end: int | None = None,
    ) -> Conflict:
        text = TEMPLATE.format(numbers=" ".join(map(str, given)), target=goal)
        revealed = dict(enumerate(example.answer[:at]))
        shown = [*parts[:at], "…"]
        if end is not None:
            revealed[last] = _token(tokenizer, end)
            shown = ["…", str(end)]
        prompt = encode_prompt(tokenizer, text)
        # The target is the last number of the prompt; the given ones stand before it.
        digits = [i for i, t in enumerate(prompt) if tokenizer.decode([t]).strip().isdigit()]
        return Conflict(
            example=index,
            kind=kind,
            at=at,
            prompt=prompt,
            revealed=revealed,
            n_answer=len(parts),
            listed=tuple(_token(tokenizer, number) for number in listed),
            targeted=(_token(tokenizer, targeted),),
            text=f"{text} {' '.join(shown)}",
            numbers=tuple(digits[:-1]),
            target=digits[-1],
        )

    found = []
    other_target = int(example.info["corrupted_target"])
    own, their = int(parts[last]), int(wanted[last])
    if own != their:
        found.append(question("other target", last, numbers, other_target, [own], their))
    others = [n for n in range(1, task.largest + 1) if n not in numbers]
    rng.shuffle(others)
    for at in range(0, len(parts), 2):
        own = int(parts[at])
        found.append(question("none", at, numbers, target, [own], own))
        for other in others:
            swapped = tuple(other if n == own else n for n in numbers)
            if target not in task.reachable(swapped):
                found.append(question("number swapped", at, swapped, target, [other], own))
                break
    used = [int(part) for part in parts[:-1:2]]
    rng.shuffle(used)
    for other in used:
        moved = evaluate(" ".join([*parts[:-1], str(other)]))
        if (
            moved is not None
            and 1 <= moved <= task.highest
            and moved not in task.reachable(numbers)
        ):
            found.append(question("target moved", last, numbers, moved, [int(parts[last])], other))
            break
    first = int(parts[0])
    rest = [n for n in numbers if n != first]
    found.append(question("from the right", 0, numbers, target, rest, first, end=first))
    return [one for one in found if len(one.prompt) == len(example.clean)]


def _parts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Numbers and operators of an equation."""
    text = tokenizer.decode(list(ids))
    for operator in OPERATORS:
        text = text.replace(operator, f" {operator} ")
    return text.split()


def _token(tokenizer: Tokenizer, number: int) -> int:
    ids = encode_answer(tokenizer, f" {number}")
    if len(ids) != 1:
        raise TaskError("Cues are told apart by single tokens: this tokenizer splits numbers.")
    return ids[0]
