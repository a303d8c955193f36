"""Examples: aligned, held out, reproducible, solvable and scored by hand-checked rules."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mechshift_lib.config import load_pair
from mechshift_lib.errors import TaskError
from mechshift_lib.models.readout import NextToken, ShiftedMask
from mechshift_lib.tasks import TASKS, get_task, pair_task, training_text
from mechshift_lib.tasks.base import Example
from mechshift_lib.tasks.countdown import evaluate, solutions
from mechshift_lib.tasks.filler import filler_text
from mechshift_lib.tasks.infilling import Infilling
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from mechshift_lib.tasks.vocabulary import held_out


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return build_word_tokenizer()


def digit_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that, like Qwen's and Llama's, reads numbers digit by digit."""
    word = build_word_tokenizer()
    vocabulary = {token: i for i, token in enumerate(sorted(word.get_vocab()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("name", TASKS)
def test_clean_and_corrupted_are_aligned_and_differ_only_where_meant(name, words):
    examples = TASKS[name].examples(words, 60, seed=3)
    assert len({example.clean for example in examples}) == 60
    for example in examples:
        assert len(example.clean) == len(example.corrupted)
        assert example.scored
        assert words.unk_token_id not in example.clean + example.corrupted + example.answer
        changed = {words.decode([example.clean[i]]) for i in example.differ}
        if name == "ioi":
            assert changed == {example.info["s"]}
            assert len(example.differ) == 1
        elif name == "greater-than":
            assert changed == {example.info["year"]}
        elif name == "countdown":
            assert changed == {str(example.info["target"])}


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_examples_and_prefix_stability(name, words):
    task = TASKS[name]
    assert task.examples(words, 20, seed=1) == task.examples(words, 20, seed=1)
    assert task.examples(words, 20, seed=1)[:7] == task.examples(words, 7, seed=1)
    assert task.examples(words, 20, seed=1) != task.examples(words, 20, seed=2)


@pytest.mark.parametrize("name", TASKS)
def test_scorer_accepts_the_answer_and_refuses_the_distractor(name, words):
    for example in TASKS[name].examples(words, 40, seed=0):
        assert TASKS[name].score(example, example.answer, words)
        assert not TASKS[name].score(example, example.distractor, words)


def test_ioi_orders_are_balanced_and_training_never_sees_a_held_out_pair(words):
    task = TASKS["ioi"]
    orders = [example.info["order"] for example in task.examples(words, 40, seed=5)]
    assert orders.count("ABBA") == orders.count("BABA") == 20
    for example in task.examples(words, 40, seed=5):
        assert held_out("ioi", *sorted((example.info["io"], example.info["s"])))
    rng = random.Random(0)
    names = set(build_word_tokenizer().get_vocab())
    for _ in range(300):
        prompt, answer = training_text("ioi", rng)
        tokens = prompt.replace(".", " ").replace(",", " ").split()
        repeated = [t for t in tokens if t in names and t[0].isupper() and tokens.count(t) == 2]
        assert not held_out("ioi", *sorted((repeated[0], answer.strip())))


def test_ioi_corruptions(words):
    third = TASKS["ioi"].examples(words, 1, seed=0)[0]
    swapped = get_task("ioi", corruption="repeated-subject").examples(words, 1, seed=0)[0]
    assert words.decode([third.corrupted[third.differ[0]]]) == third.info["third"]
    assert words.decode([swapped.corrupted[swapped.differ[0]]]) == swapped.info["io"]


def test_greater_than_sets_are_complementary(words):
    example = TASKS["greater-than"].examples(words, 1, seed=0)[0]
    right, wrong = example.answers[0], example.distractors[0]
    assert len(right) + len(wrong) == 100
    assert not set(right) & set(wrong)
    assert len(right) == 99 - int(example.info["year"])
    corrupted = [words.decode([example.corrupted[i]]) for i in example.differ]
    assert corrupted == ["01"]


def test_greater_than_with_another_low_year(words):
    task = get_task("greater-than", corrupted_year="02")
    for example in task.examples(words, 20, seed=0):
        assert [words.decode([example.corrupted[i]]) for i in example.differ] == ["02"]
        assert int(example.info["year"]) > 2
    with pytest.raises(TaskError, match="corrupted_year"):
        get_task("greater-than", corrupted_year="50")


def test_greater_than_digit_by_digit():
    tokenizer = digit_tokenizer()
    example = TASKS["greater-than"].examples(tokenizer, 1, seed=0)[0]
    tens = int(example.info["year"]) // 10
    assert len(example.answer) == 2
    assert example.scored == (0,)
    assert {int(tokenizer.decode([i])) for i in example.answers[0]} == set(range(tens + 1, 10))
    assert {int(tokenizer.decode([i])) for i in example.distractors[0]} == set(range(tens))
    assert TASKS["greater-than"].score(example, example.answer, tokenizer)
    assert not TASKS["greater-than"].score(example, example.answer[:1], tokenizer)


def test_countdown_arithmetic_by_hand():
    assert evaluate("3 * 5 + 7") == 22
    assert evaluate("3 + 5 * 7") == 38
    assert evaluate("3 - 5 - 7") == -9
    for broken in ("", "3 +", "+ 3", "3 5", "3 / 5", "3 + x", "3 ** 5", "__import__ + 1"):
        assert evaluate(broken) is None
    assert solutions((3, 5, 7), 50, ("+", "-")) == {
        15: "3 + 5 + 7",
        1: "3 + 5 - 7",
        5: "3 + 7 - 5",
        9: "5 + 7 - 3",
    }
    found = solutions((3, 5, 7), 50)
    assert found[22] == "3 * 5 + 7"
    assert all(evaluate(equation) == target for target, equation in found.items())


def test_countdown_accepts_any_equation_with_these_numbers(words):
    task = TASKS["countdown"]
    example = Example(
        task="countdown",
        clean=(1,),
        corrupted=(2,),
        answer=(1,),
        distractor=(2,),
        answers=((1,),),
        distractors=((2,),),
        info={"numbers": (3, 5, 7), "target": 22, "corrupted_target": 1},
    )

    def score(text: str) -> bool:
        return task.score(example, words(text, add_special_tokens=False)["input_ids"], words)

    assert score("3 * 5 + 7")
    assert score("7 + 5 * 3")
    assert not score("3 + 5 + 7")  # another target
    assert not score("15 + 7")  # other numbers
    assert not score("3 * 5 + 7 * 1")  # one number too many
    assert not score("3 5 7")


def test_countdown_examples_need_another_plan(words):
    for example in TASKS["countdown"].examples(words, 40, seed=2):
        numbers = tuple(sorted(example.info["numbers"]))
        assert held_out("countdown", *numbers, example.info["target"])
        assert len(example.scored) > 1
        wrong = evaluate(words.decode(example.distractor))
        assert wrong == example.info["corrupted_target"] != example.info["target"]


def test_four_numbers(words):
    example = get_task("countdown", count=4, largest=9).examples(words, 1, seed=0)[0]
    assert len(example.info["numbers"]) == 4
    assert len(example.answer) == 7


def test_infilling_left_context_says_nothing_of_the_filler(words):
    blank = words.convert_tokens_to_ids("_")
    for example in TASKS["infilling"].examples(words, 30, seed=0):
        assert min(example.differ) > example.clean.index(blank)
        assert held_out("infilling", example.info["color"], example.info["object"])
        assert example.scored == (0, 1)


def test_pair_options_reach_the_task(words):
    task = pair_task(load_pair("smollm2-135m"), "infilling")
    example = task.examples(words, 1, seed=0)[0]
    assert len(example.answer) == 1
    with pytest.raises(TaskError, match="has no task 'sorting'"):
        pair_task(load_pair("smollm2-135m"), "sorting")


def test_filler_and_training_texts_are_in_the_vocabulary(words):
    rng = random.Random(1)
    texts = [filler_text(rng) for _ in range(300)]
    texts += ["".join(training_text(name, rng)) for name in TASKS for _ in range(100)]
    for ids in words(texts)["input_ids"]:
        assert words.unk_token_id not in ids
        assert ids[0] == words.bos_token_id


def test_the_tokenizer_survives_saving(words, tmp_path):
    words.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "The war lasted from the year 1732 to the year 17"
    assert again(text)["input_ids"] == words(text)["input_ids"]
    assert again.convert_ids_to_tokens(again(text)["input_ids"])[-6:] == [
        "17",
        "32",
        "to",
        "the",
        "year",
        "17",
    ]
    assert again.mask_token_id == words.mask_token_id


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: get_task("chess"), "Unknown task 'chess'"),
        (lambda t: get_task("ioi", colour="red"), "has no option colour"),
        (lambda t: get_task("countdown", count=7), "3 or 4 numbers"),
        (lambda t: get_task("countdown", operators=("/",)), "operators are some of"),
        (lambda t: TASKS["ioi"].examples(t, 0, 0), "at least one"),
        (lambda t: TASKS["infilling"].examples(t, 2000, 0), "ask for fewer"),
    ],
)
def test_bad_requests_get_one_clear_sentence(call, message, words):
    with pytest.raises(TaskError, match=message):
        call(words)


def test_a_tokenizer_without_whole_names_is_refused():
    characters = Tokenizer(models.WordLevel({c: i for i, c in enumerate("?abcdefghijk")}, "?"))
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, unk_token="?")
    for name in ("ioi", "infilling"):
        with pytest.raises(TaskError, match="one token each"):
            TASKS[name].examples(tokenizer, 1, 0)
    with pytest.raises(TaskError, match="year's last two digits"):
        TASKS["greater-than"].examples(tokenizer, 1, 0)


def test_examples_must_be_aligned():
    with pytest.raises(TaskError, match="same length"):
        Example("ioi", (1, 2), (1,), (3,), (4,), ((3,),), ((4,),))
    with pytest.raises(TaskError, match="one distractor"):
        Example("ioi", (1,), (2,), (3, 3), (4,), ((3,),), ((4,),))


def test_native_infilling_asks_for_the_same_filler_inside_the_sentence() -> None:
    tokenizer, task = build_word_tokenizer(), Infilling()
    for example in task.examples(tokenizer, 20, 5):
        native = task.native(example, tokenizer)
        assert (native.answer, native.distractor) == (example.answer, example.distractor)
        assert native.clean == native.corrupted  # what precedes the blank says nothing of it
        assert native.after != native.corrupted_after
        whole = tokenizer.decode([*native.clean, *native.answer, *native.after])
        assert whole.count("bought") == 1
        assert native.text.count("…") == 1
        items = ShiftedMask(mask_id=3).items(native, 0)
        for step, item in enumerate(items):
            start = len(native.clean)
            assert item.clean[:start] == native.clean
            assert item.clean[start + 2 :] == native.after
            assert item.corrupted[start + 2 :] == native.corrupted_after
            assert item.clean[start : start + 2].count(3) == 2 - step
            assert item.reads == (start + step - 1,)
        with pytest.raises(TaskError, match="in the middle"):
            NextToken().items(native, 0)


def test_the_one_word_form_has_no_native_sentence() -> None:
    with pytest.raises(TaskError, match="no sentence of its own"):
        Infilling(words=1).sentence(random.Random(0))
