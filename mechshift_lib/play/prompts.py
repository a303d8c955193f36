"""Prompts that the page offers: the first held-out examples of every task, and pairs of cues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mechshift_lib.analyses.study import EXAMPLES_SEED, RESAMPLING_SEED
from mechshift_lib.config import Pair
from mechshift_lib.errors import TaskError
from mechshift_lib.tasks import Example, Tokenizer, pair_task
from mechshift_lib.tasks.countdown import Countdown
from mechshift_lib.tasks.cues import conflicts
from mechshift_lib.tasks.infilling import Infilling

#: Examples of each task, and those of Countdown whose cues are set against each other.
EXAMPLES, CUED = 20, 8
#: Longest answer in tokens, and seeds of the random order, that the page offers.
LONGEST, DRAWS = 12, 10
#: The form of infilling that fills the blank itself, which only an MDM can be asked for.
NATIVE = "infilling-native"


def prompts(pair: Pair, tokenizer: Tokenizer) -> dict[str, list[dict[str, Any]]]:
    """Examples of every task of a pair, texts as the tokenizer reads them."""
    found = {}
    for name in pair.tasks:
        task = pair_task(pair, name)
        examples = task.examples(tokenizer, EXAMPLES, EXAMPLES_SEED)
        found[name] = [_words(one, tokenizer) for one in examples]
        if isinstance(task, Infilling) and task.words == 2:
            native = [task.native(one, tokenizer) for one in examples]  # type: ignore[arg-type]
            found[NATIVE] = [_words(one, tokenizer) for one in native]
    return found


def _words(example: Example, tokenizer: Tokenizer) -> dict[str, Any]:
    """An example: prompts as text, without what the tokenizer puts in front, answers as ids."""

    def text(ids: Sequence[int]) -> str:
        return tokenizer.decode(list(ids), skip_special_tokens=True)

    return {
        "prompt": text(example.clean) if example.after else example.text,
        "corrupted": text(example.corrupted),
        "after": text(example.after),
        "corruptedAfter": text(example.corrupted_after),
        "answer": list(example.answer),
        "right": [list(ids) for ids in example.answers],
        "wrong": [list(ids) for ids in example.distractors],
    }


def cues(pair: Pair, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Countdown prompts on which elimination and target disagree (mechshift_lib.tasks.cues)."""
    if "countdown" not in pair.tasks:
        return []
    task = pair_task(pair, "countdown")
    assert isinstance(task, Countdown)
    examples = task.examples(tokenizer, CUED, EXAMPLES_SEED)
    try:
        made = [
            one
            for i, example in enumerate(examples)
            for one in conflicts(task, tokenizer, example, i, RESAMPLING_SEED)
        ]
    except TaskError:  # the tokenizer reads a number as several tokens
        return []
    return [
        {
            "kind": one.kind,
            "example": one.example,
            "at": one.at,
            "prompt": list(one.prompt),
            "n": one.n_answer,
            "revealed": {str(i): token for i, token in one.revealed.items()},
            "listed": list(one.listed),
            "targeted": list(one.targeted),
            "text": one.text,
        }
        for one in made
        if one.kind != "none"
    ]


def random_orders() -> dict[str, list[list[int]]]:
    """Priorities of answer places for the random order: number of tokens -> by seed.

    As :func:`mechshift_lib.diffusion.samplers.denoise` draws them for its first prompt.
    """
    return {
        str(n): [np.random.default_rng([seed, 0]).permutation(n).tolist() for seed in range(DRAWS)]
        for n in range(1, LONGEST + 1)
    }
