"""Readouts by hand: which ids go in and which logits are read."""

import pytest

from mechshift_lib.errors import ModelError, TaskError
from mechshift_lib.models.readout import Mask, NextToken, ShiftedMask, make_readout
from mechshift_lib.tasks.base import Example

M = 99
# prompt of 3 tokens; answer of 3 tokens whose middle one is the same as its distractor
EXAMPLE = Example(
    task="by-hand",
    clean=(10, 11, 12),
    corrupted=(10, 21, 12),
    answer=(1, 2, 3),
    distractor=(4, 2, 6),
    answers=((1,), (2,), (3, 33)),
    distractors=((4,), (2,), (6,)),
)


def test_next_token_forces_the_clean_answer_and_reads_one_before():
    (item,) = NextToken().items(EXAMPLE, 7)
    assert (item.example, item.step) == (7, 0)
    assert item.clean == (10, 11, 12, 1, 2)
    assert item.corrupted == (10, 21, 12, 1, 2)
    assert item.reads == (2, 4)  # answer 0 after the prompt's last token, answer 2 after answer 1
    assert item.answers == ((1,), (3, 33))
    assert item.distractors == ((4,), (6,))


def test_shifted_mask_reveals_from_the_left_and_reads_one_before():
    first, second = ShiftedMask(M).items(EXAMPLE, 7)
    assert first.clean == (10, 11, 12, M, M, M)
    assert first.corrupted == (10, 21, 12, M, M, M)
    assert (first.step, first.reads, first.answers) == (0, (2,), ((1,),))
    assert second.clean == (10, 11, 12, 1, 2, M)  # step 1 fills the unscored position: no item
    assert second.corrupted == (10, 21, 12, 1, 2, M)
    assert (second.step, second.reads, second.answers) == (2, (4,), ((3, 33),))
    assert second.distractors == ((6,),)


def test_mask_reads_in_place():
    first, second = Mask(M).items(EXAMPLE, 0)
    assert (first.reads, second.reads) == ((3,), (5,))
    assert first.clean == (10, 11, 12, M, M, M)


def test_order_and_several_tokens_a_step():
    first, second = ShiftedMask(M).items(EXAMPLE, 0, order=((2,), (1, 0)))
    assert (first.step, first.reads, first.clean) == (0, (4,), (10, 11, 12, M, M, M))
    assert (second.step, second.reads, second.clean) == (1, (2,), (10, 11, 12, M, M, 3))
    (only,) = Mask(M).items(EXAMPLE, 0, order=[[0, 1, 2]])
    assert only.reads == (3, 5)
    assert only.answers == ((1,), (3, 33))


def test_the_shifted_readout_asks_for_the_same_logits_as_next_token():
    arm = NextToken().items(EXAMPLE, 0)[0].reads
    mdm = [read for item in ShiftedMask(M).items(EXAMPLE, 0) for read in item.reads]
    assert list(arm) == mdm


@pytest.mark.parametrize("order", [((0,), (1,)), ((0, 1, 2), (2,)), ((0,), (1,), (3,)), ()])
def test_orders_that_do_not_reveal_everything_once_are_refused(order):
    with pytest.raises(TaskError, match="exactly once"):
        Mask(M).items(EXAMPLE, 0, order=order)


def test_an_example_without_a_scored_position_asks_nothing():
    same = Example("by-hand", (1,), (2,), (5,), (5,), ((5,),), ((5,),))
    assert NextToken().items(same, 0) == []
    assert Mask(M).items(same, 0) == []


def test_nothing_predicts_the_first_token_but_a_mask_in_place():
    assert Mask(M).read_position(0) == 0
    for readout in (NextToken(), ShiftedMask(M)):
        assert readout.read_position(4) == 3
        with pytest.raises(TaskError, match="first token"):
            readout.read_position(0)


def test_make_readout():
    assert make_readout("next-token") == NextToken()
    assert make_readout("shifted-mask", 3) == ShiftedMask(3)
    assert make_readout("mask", 3).attention == "full"
    with pytest.raises(ModelError, match="needs a mask token"):
        make_readout("mask")
    with pytest.raises(ModelError, match="Unknown readout"):
        make_readout("left")
