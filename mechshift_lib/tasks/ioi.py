"""Indirect object identification (Wang et al. 2023, arXiv 2211.00593)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.drawing import draw_distinct
from mechshift_lib.tasks.tokens import (
    continues,
    encode_answer,
    encode_prompt,
    require,
    single_token_words,
)
from mechshift_lib.tasks.vocabulary import NAMES, OBJECTS, PLACES, held_out

TEMPLATES = (
    "Then, {a} and {b} went to the {place}. {s} gave a {object} to",
    "When {a} and {b} got a {object} at the {place}, {s} decided to give it to",
    "After {a} and {b} went to the {place}, {s} gave a {object} to",
    "While {a} and {b} were working at the {place}, {s} handed a {object} to",
    "The {place} was full when {a} and {b} came in. Soon {s} passed a {object} to",
)


@dataclass(frozen=True)
class Ioi:
    """Two names, one of them repeated; the answer is the other one.

    Half of the examples name the indirect object first (ABBA), half the subject (BABA).

    Attributes:
        corruption: ``third-name`` puts a name that occurs nowhere else in place of the repeated
            subject, so that neither name is favoured; ``repeated-subject`` repeats the other
            name, so that answer and distractor swap.
    """

    corruption: Literal["third-name", "repeated-subject"] = "third-name"

    name = "ioi"
    title = "Indirect object identification"
    regime = "local"
    metric = "logit-diff"

    def _fill(self, rng: random.Random, names: Sequence[str], hold_out: bool) -> dict[str, str]:
        while True:
            io, subject, third = rng.sample(names, 3)
            if held_out("ioi", *sorted((io, subject))) == hold_out:
                break
        order = rng.choice(("ABBA", "BABA"))
        a, b = (io, subject) if order == "ABBA" else (subject, io)
        return {
            "template": rng.choice(TEMPLATES),
            "order": order,
            "a": a,
            "b": b,
            "io": io,
            "s": subject,
            "third": third,
            "place": rng.choice(PLACES),
            "object": rng.choice(OBJECTS),
        }

    def training_text(self, rng: random.Random) -> tuple[str, str]:
        """A prompt and its answer from the part of the name pairs that training may see."""
        fill = self._fill(rng, NAMES, hold_out=False)
        return fill["template"].format_map(fill), " " + fill["io"]

    def examples(self, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
        """Draw ``n`` examples with held-out pairs of names that are one token each."""
        names = require(single_token_words(tokenizer, NAMES), 6, "names", self.name)
        orders = ("ABBA", "BABA")
        drawn = 0

        def draw(rng: random.Random) -> Example | None:
            nonlocal drawn
            fill = self._fill(rng, names, hold_out=True)
            # Alternating the order balances it exactly, whatever the draws are.
            fill["order"] = orders[drawn % 2]
            first, second = ("io", "s") if fill["order"] == "ABBA" else ("s", "io")
            fill["a"], fill["b"] = fill[first], fill[second]
            wrong = fill["third"] if self.corruption == "third-name" else fill["io"]
            text = fill["template"].format_map(fill)
            clean = encode_prompt(tokenizer, text)
            corrupted = encode_prompt(tokenizer, fill["template"].format_map({**fill, "s": wrong}))
            if len(clean) != len(corrupted) or not continues(tokenizer, text, " " + fill["io"]):
                return None
            drawn += 1
            answer = encode_answer(tokenizer, " " + fill["io"])
            distractor = encode_answer(tokenizer, " " + fill["s"])
            return Example(
                task=self.name,
                clean=clean,
                corrupted=corrupted,
                answer=answer,
                distractor=distractor,
                answers=(answer,),
                distractors=(distractor,),
                text=text,
                info=fill,
            )

        return draw_distinct(self.name, n, seed, draw)

    def score(self, example: Example, generated: Sequence[int], tokenizer: Tokenizer) -> bool:
        """Right if the generated token is the indirect object."""
        return tuple(generated) == example.answer
