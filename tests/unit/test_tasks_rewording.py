"""Countdown problems put otherwise: the same plan where meant, aligned, and right by the rule."""

import pytest

from mechshift_lib.tasks.countdown import Countdown, evaluate
from mechshift_lib.tasks.rewording import PROMPTS, reworded
from mechshift_lib.tasks.tokenizer import build_word_tokenizer

TASK, TOKENIZER = Countdown(), build_word_tokenizer()
EXAMPLES = TASK.examples(TOKENIZER, 30, seed=3)


def made(how):
    found = [(e, reworded(TASK, TOKENIZER, e, how)) for e in EXAMPLES]
    kept = [(old, new) for old, new in found if new is not None]
    assert len(kept) >= 10
    return kept


@pytest.mark.parametrize("how", PROMPTS)
def test_answers_solve_their_prompts_and_positions_are_aligned(how):
    for _, new in made(how):
        assert TASK.score(new, new.answer, TOKENIZER)
        distractor = TOKENIZER.decode(list(new.distractor))
        assert evaluate(distractor.strip()) == new.info["corrupted_target"]
        assert len(new.clean) == len(new.corrupted)
        assert len(new.scored) >= 2
        assert not TASK.score(new, new.distractor, TOKENIZER) or how == "a number corrupted"


def test_numbers_are_reversed_in_both_prompts():
    for old, new in made("numbers reversed"):
        assert new.info["numbers"] == old.info["numbers"][::-1]
        assert new.info["target"] == old.info["target"]
        assert sorted(new.clean) == sorted(old.clean)
        assert new.differ == old.differ, "corruption still changes the target alone"


def test_another_corruption_keeps_the_prompt_and_its_target():
    for old, new in made("a number corrupted"):
        assert new.clean == old.clean
        assert new.answer == old.answer
        (at,) = new.differ
        assert at not in old.differ
        assert new.info["corrupted_target"] == new.info["target"]


def test_as_drawn_is_as_it_is():
    assert all(new is old for old, new in made("as drawn"))
