"""From a pair and a task, or from texts, to what a model is asked, in one call."""

from __future__ import annotations

from collections.abc import Sequence

from mechshift_lib.config import Pair
from mechshift_lib.errors import TaskError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item
from mechshift_lib.tasks import pair_task
from mechshift_lib.tasks.base import Example
from mechshift_lib.tasks.tokens import continues, encode_answer, encode_prompt


def ask(model: LoadedModel, pair: Pair, task: str, n: int = 8, seed: int = 0) -> list[Item]:
    """Questions to a model: held-out examples of a task through its readout.

    The same arguments give every model of a pair the same examples. An MDM is asked once for each
    denoising step, so it may have more items than there are examples.

    Args:
        model: a loaded model with a tokenizer.
        pair: the pair that it is of, for the task's options.
        task: name of the task, such as ``"ioi"``.
        n: number of examples.
        seed: seed of the draw.

    Raises:
        TaskError: the pair has no such task, or the tokenizer doesn't suit it.
    """
    examples = pair_task(pair, task).examples(model.tokenizer, n, seed)
    return items_of(model, examples)


def ask_text(
    model: LoadedModel, clean: str, corrupted: str, answer: str, distractor: str
) -> list[Item]:
    """Questions to a model in your own words, through its tokenizer and its readout.

    Args:
        model: a loaded model with a tokenizer.
        clean: the prompt.
        corrupted: the prompt whose answer is another one, of as many tokens.
        answer: what follows the clean prompt, with its space.
        distractor: what follows the corrupted prompt, of as many tokens as the answer.

    Returns:
        The items of one example; an MDM is asked once for each denoising step.

    Raises:
        TaskError: the model has no tokenizer, which doesn't know a word, splits the texts into
            different numbers of tokens or merges prompt and answer, or nothing differs.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise TaskError("The model's folder has no tokenizer: put one there, or give token ids.")
    prompts = [encode_prompt(tokenizer, text) for text in (clean, corrupted)]
    answers = [encode_answer(tokenizer, text) for text in (answer, distractor)]
    for text, ids in zip((clean, corrupted, answer, distractor), prompts + answers, strict=True):
        if not ids:
            raise TaskError(f"{text[:60]!r} has no tokens: give a word.")
        if tokenizer.unk_token_id in ids:
            raise TaskError(f"The tokenizer doesn't know a word of {text[:60]!r}: take another.")
    for one, other, what in ((*prompts, "prompts"), (*answers, "answers")):
        if len(one) != len(other):
            raise TaskError(
                f"The clean and corrupted {what} have {len(one)} and {len(other)} tokens: take "
                "words that are split into as many."
            )
        if one == other:
            raise TaskError(f"The clean and corrupted {what} have the same tokens: change a word.")
    if not all(continues(tokenizer, *one) for one in ((clean, answer), (corrupted, distractor))):
        raise TaskError(
            "The tokenizer merges the end of a prompt with its answer: begin the answer with a "
            "space, and end the prompt without one."
        )
    example = Example(
        task="text",
        clean=prompts[0],
        corrupted=prompts[1],
        answer=answers[0],
        distractor=answers[1],
        answers=tuple((token,) for token in answers[0]),
        distractors=tuple((token,) for token in answers[1]),
        text=clean,
    )
    return items_of(model, [example])


def items_of(model: LoadedModel, asked: Sequence[Example | Item]) -> list[Item]:
    """Examples through the model's readout; items stay as they are."""
    found: list[Item] = []
    for index, one in enumerate(asked):
        if isinstance(one, Item):
            found.append(one)
        else:
            found += model.readout.items(one, index)
    return found
