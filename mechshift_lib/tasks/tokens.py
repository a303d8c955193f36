"""Looking at how a tokenizer splits words, so that clean and corrupted prompts align."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Tokenizer


def encode_prompt(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Ids of a prompt, with whatever the tokenizer puts in front of a text (a BOS, say).

    Raises:
        TaskError: the tokenizer puts an end of text behind it, so that no answer can follow.
    """
    ids = tuple(tokenizer(text)["input_ids"])
    for name in ("eos_token", "sep_token"):
        token, index = (getattr(tokenizer, x, None) for x in (name, f"{name}_id"))
        if ids and ids[-1] == index and not text.endswith(str(token)):
            raise TaskError(
                f"The tokenizer puts {token} behind every text, so that a prompt ends before its "
                "answer: save the tokenizer with add_eos_token=False, or without it in its "
                "post-processor."
            )
    return ids


def encode_answer(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Ids of an answer that follows a prompt: ``text`` starts with its space, if it has one."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def continues(tokenizer: Tokenizer, prompt: str, answer: str) -> bool:
    """Does tokenizing prompt + answer in one go give the prompt's ids and then the answer's?

    Where it doesn't (a tokenizer that merges over the boundary), the model would be asked for
    tokens that it never sees in running text.
    """
    both = encode_prompt(tokenizer, prompt + answer)
    return both == encode_prompt(tokenizer, prompt) + encode_answer(tokenizer, answer)


def single_token_words(tokenizer: Tokenizer, words: Iterable[str]) -> list[str]:
    """The words that are one token when they follow a space."""
    return [word for word in words if len(encode_answer(tokenizer, " " + word)) == 1]


def require(words: Sequence[str], n: int, what: str, task: str) -> Sequence[str]:
    """Return ``words`` if there are enough of them.

    Raises:
        TaskError: the tokenizer leaves too few.
    """
    if len(words) < n:
        raise TaskError(
            f"Task {task!r} needs at least {n} {what} that are one token each, but this tokenizer "
            f"has {len(words)}: leave this task out of the pair, or add words to "
            "mechshift_lib/tasks/vocabulary.py."
        )
    return words
