"""The same Countdown problem put otherwise: its numbers in another order, or another corruption.

Wordings that the models never saw would say what they do at a loss; these they know.
"""

from __future__ import annotations

from dataclasses import replace

from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.countdown import TEMPLATE, Countdown
from mechshift_lib.tasks.tokens import encode_answer, encode_prompt

#: What is changed: nothing, the order of the numbers, or what corruption replaces.
PROMPTS = ("as drawn", "numbers reversed", "a number corrupted")


def reworded(task: Countdown, tokenizer: Tokenizer, example: Example, how: str) -> Example | None:
    """An example put otherwise.

    - ``as drawn``: as it is;
    - ``numbers reversed``: the given numbers stand in the opposite order, in both prompts; the
      equations are those that the task's rule names for that order;
    - ``a number corrupted``: the corrupted prompt keeps the target and has another number in place
      of one of the given.

    Args:
        task: the task that the example is of.
        tokenizer: the models' tokenizer.
        example: a Countdown example.
        how: one of :data:`PROMPTS`.

    Returns:
        None where no such example keeps the positions aligned and is another plan.
    """
    if how == "as drawn":
        return example
    numbers, target = tuple(example.info["numbers"]), int(example.info["target"])
    other = int(example.info["corrupted_target"])
    if how == "numbers reversed":
        return _example(task, tokenizer, example, (numbers[::-1], target), (numbers[::-1], other))
    for at in range(len(numbers)):
        for number in range(1, task.largest + 1):
            if number in numbers:
                continue
            changed = (*numbers[:at], number, *numbers[at + 1 :])
            if target not in task.reachable(changed):
                continue
            made = _example(task, tokenizer, example, (numbers, target), (changed, target))
            if made is not None:
                return made
    return None


Problem = tuple[tuple[int, ...], int]


def _example(
    task: Countdown, tokenizer: Tokenizer, example: Example, clean: Problem, corrupted: Problem
) -> Example | None:
    """The example of two problems, numbers and target each."""
    texts = [
        TEMPLATE.format(numbers=" ".join(map(str, n)), target=t) for n, t in (clean, corrupted)
    ]
    prompts = [encode_prompt(tokenizer, text) for text in texts]
    answer, distractor = (
        encode_answer(tokenizer, " " + task.equation(n, t)) for n, t in (clean, corrupted)
    )
    changed = sum(a != b for a, b in zip(answer, distractor, strict=False))
    if len(prompts[0]) != len(prompts[1]) or len(answer) != len(distractor) or changed < 2:
        return None
    return replace(
        example,
        clean=prompts[0],
        corrupted=prompts[1],
        answer=answer,
        distractor=distractor,
        answers=tuple((token,) for token in answer),
        distractors=tuple((token,) for token in distractor),
        text=texts[0],
        info={"numbers": clean[0], "target": clean[1], "corrupted_target": corrupted[1]},
    )
