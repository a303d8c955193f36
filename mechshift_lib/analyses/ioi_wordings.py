"""The same IOI example put otherwise: names in another order, another template or corruption.

Wordings that the models never saw would say what they do at a loss; these they know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mechshift_lib.tasks import Example
from mechshift_lib.tasks.base import Tokenizer
from mechshift_lib.tasks.ioi import TEMPLATES, Ioi
from mechshift_lib.tasks.tokens import continues, encode_prompt

#: What is changed: nothing, which name comes first, the sentence, or what corruption replaces.
PROMPTS = ("as drawn", "names in the other order", "another template", "another corruption")


def reworded(task: Ioi, tokenizer: Tokenizer, example: Example, how: str) -> Example | None:
    """An IOI example put otherwise, with the same answer and distractor.

    - ``as drawn``: as it is;
    - ``names in the other order``: the two names change places where both stand together;
    - ``another template``: the next of the task's sentences with the same words in it;
    - ``another corruption``: the corrupted prompt repeats the other name, so that answer and
      distractor swap; where the task corrupts so already, it has a third name instead.

    Args:
        task: the task that the example is of.
        tokenizer: the models' tokenizer.
        example: an IOI example.
        how: one of :data:`PROMPTS`.

    Returns:
        None where the two prompts would not be equally long, or the answer would not be a word of
        its own.
    """
    if how == "as drawn":
        return example
    words, corruption = dict(example.info), task.corruption
    if how == "names in the other order":
        words |= {"a": words["b"], "b": words["a"]}
        words["order"] = "BABA" if words["order"] == "ABBA" else "ABBA"
    elif how == "another template":
        following = TEMPLATES.index(words["template"]) + 1
        words["template"] = TEMPLATES[following % len(TEMPLATES)]
    else:
        corruption = "repeated-subject" if corruption == "third-name" else "third-name"
    wrong = words["third" if corruption == "third-name" else "io"]
    return _example(tokenizer, example, words, wrong)


def _example(
    tokenizer: Tokenizer, example: Example, words: Mapping[str, str], wrong: str
) -> Example | None:
    """The example of these words; ``wrong`` stands for the repeated name where it is corrupted."""
    text = words["template"].format_map(words)
    clean = encode_prompt(tokenizer, text)
    corrupted = encode_prompt(tokenizer, words["template"].format_map({**words, "s": wrong}))
    if len(clean) != len(corrupted) or not continues(tokenizer, text, " " + words["io"]):
        return None
    return replace(example, clean=clean, corrupted=corrupted, text=text, info=dict(words))
