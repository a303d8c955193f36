"""Prompts on which elimination and target disagree: by hand, and what a model can be asked."""

from __future__ import annotations

import pytest

from mechshift_lib.errors import TaskError
from mechshift_lib.models.readout import Mask, NextToken, ShiftedMask, question
from mechshift_lib.tasks.countdown import Countdown, evaluate
from mechshift_lib.tasks.cues import KINDS, Conflict, conflicts
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

TOKENIZER, TASK = build_word_tokenizer(), Countdown()
EXAMPLES = TASK.examples(TOKENIZER, 60, 3)
MADE = [c for i, e in enumerate(EXAMPLES) for c in conflicts(TASK, TOKENIZER, e, i, 7)]


def of(kind: str) -> list[Conflict]:
    return [one for one in MADE if one.kind == kind]


def number(token: int) -> int:
    return int(TOKENIZER.decode([token]).strip())


def given(one: Conflict) -> tuple[set[int], int]:
    """Numbers and target as the prompt's text says them."""
    numbers, target = one.text.removeprefix("Numbers: ").split(". Target: ")
    return {int(x) for x in numbers.split()}, int(target.split(".")[0])


def equation(one: Conflict, end: int) -> int | None:
    start = TOKENIZER.decode([one.revealed[i] for i in range(one.at)])
    text = f"{start} {end}".replace("+", " + ").replace("-", " - ")
    return evaluate(" ".join(text.split()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_occurs_and_names_two_different_tokens(kind: str) -> None:
    assert len(of(kind)) >= 20
    for one in of(kind):
        agree = set(one.listed) & set(one.targeted)
        assert bool(agree) == (kind == "none")
        assert one.at not in one.revealed
        assert len(one.prompt) == len(EXAMPLES[one.example].clean)


def test_at_the_last_number_each_cue_says_what_it_must() -> None:
    for one in MADE:
        if one.at != 4:
            continue
        numbers, target = given(one)
        used = {number(one.revealed[i]) for i in (0, 2)}
        left, wanted = number(one.listed[0]), number(one.targeted[0])
        assert numbers - used == {left}
        if one.kind in ("none", "target moved", "number swapped"):
            assert equation(one, wanted) == target
        if one.kind == "target moved":
            assert wanted in used
            assert target not in TASK.reachable(tuple(numbers))
        if one.kind == "number swapped":
            assert wanted not in numbers


def test_another_target_is_that_of_the_corrupted_prompt() -> None:
    for one in of("other target"):
        example = EXAMPLES[one.example]
        assert one.prompt == example.corrupted
        assert one.listed == (example.answer[one.at],)
        assert one.targeted == (example.distractor[one.at],)


def test_from_the_right_the_first_number_is_used_up() -> None:
    for one in of("from the right"):
        numbers, _ = given(one)
        first = number(one.targeted[0])
        assert one.revealed == {4: one.targeted[0]}
        assert {number(token) for token in one.listed} == numbers - {first}


def test_an_example_makes_the_same_questions_every_time() -> None:
    again = conflicts(TASK, TOKENIZER, EXAMPLES[0], 0, 7)
    assert again == [one for one in MADE if one.example == 0]
    assert again != conflicts(TASK, TOKENIZER, EXAMPLES[0], 0, 8)


def test_how_each_readout_is_asked() -> None:
    prompt = (5, 6, 7)
    arm = question(NextToken(), None, prompt, 5, {0: 1, 1: 2}, 2)
    assert arm == ((5, 6, 7, 1, 2), 4)
    mdm = question(ShiftedMask(9), 9, prompt, 5, {0: 1, 1: 2}, 2)
    assert mdm == ((5, 6, 7, 1, 2, 9, 9, 9), 4)
    assert question(Mask(9), 9, prompt, 5, {4: 3}, 0) == ((5, 6, 7, 9, 9, 9, 9, 3), 3)
    # An ARM can't be told what stands to its right.
    assert question(NextToken(), None, prompt, 5, {4: 3}, 0) is None
    with pytest.raises(TaskError, match="all before it"):
        question(NextToken(), None, prompt, 5, {0: 1}, 2)
    with pytest.raises(TaskError, match="is revealed"):
        question(ShiftedMask(9), 9, prompt, 5, {0: 1}, 0)


def test_split_numbers_are_refused() -> None:
    class Digits:
        def __call__(self, text: str, **kwargs: object) -> object:
            return TOKENIZER(" ".join(text), **kwargs)

        def decode(self, ids: list[int], **kwargs: object) -> str:
            return str(TOKENIZER.decode(ids, **kwargs))

    with pytest.raises(TaskError, match="splits numbers"):
        conflicts(TASK, Digits(), EXAMPLES[0], 0, 7)  # type: ignore[arg-type]
