"""Semantic infilling: a blank whose filler only the text to its right decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.drawing import draw_distinct
from mechshift_lib.tasks.tokens import (
    continues,
    encode_answer,
    encode_prompt,
    require,
    single_token_words,
)
from mechshift_lib.tasks.vocabulary import COLORS, NAMES, PURPOSES, held_out

TEMPLATE = (
    "{name} bought a _ to {purpose}. It was the color of {thing}. So {name} bought a"
)


@dataclass(frozen=True)
class Infilling:
    """``Anna bought a _ to cut the bread. It was the color of grass. ...`` -> ``green knife``.

    The whole sentence is shown with its blank and then begun again, so that the same prompt can
    be given to an autoregressive and to a masked diffusion model and the answer stands at the
    same positions. Text to the left of the blank says nothing of its filler; the corruption is
    another right context of the same length, which decides for another colour and thing.
    """

    name = "infilling"
    title = "Semantic infilling"
    regime = "global"
    metric = "logit-diff"

    def _fill(
        self,
        rng: random.Random,
        names: Sequence[str],
        colors: Sequence[str],
        things: Sequence[str],
        hold_out: bool | None,
    ) -> dict[str, str]:
        while True:
            name, color, thing = rng.choice(names), rng.choice(colors), rng.choice(things)
            if hold_out is None or held_out("infilling", color, thing) == hold_out:
                return {"name": name, "color": color, "object": thing}

    def _text(self, fill: dict[str, str]) -> str:
        return TEMPLATE.format(
            name=fill["name"], purpose=PURPOSES[fill["object"]], thing=COLORS[fill["color"]]
        )

    def training_text(self, rng: random.Random) -> tuple[str, str]:
        """A sentence and its filler; some pairs of colour and object never occur."""
        fill = self._fill(rng, NAMES, list(COLORS), list(PURPOSES), hold_out=False)
        return self._text(fill), f" {fill['color']} {fill['object']}"

    def examples(self, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
        """Draw ``n`` examples whose filler (colour with object) is held out of training."""
        names = require(single_token_words(tokenizer, NAMES), 2, "names", self.name)
        colors = require(single_token_words(tokenizer, COLORS), 3, "colours", self.name)
        things = require(single_token_words(tokenizer, PURPOSES), 3, "objects", self.name)

        def draw(rng: random.Random) -> Example | None:
            fill = self._fill(rng, names, colors, things, hold_out=True)
            other = self._fill(rng, names, colors, things, hold_out=None) | {"name": fill["name"]}
            text, filler = self._text(fill), f" {fill['color']} {fill['object']}"
            clean = encode_prompt(tokenizer, text)
            corrupted = encode_prompt(tokenizer, self._text(other))
            same = fill["color"] == other["color"] or fill["object"] == other["object"]
            if same or len(clean) != len(corrupted) or not continues(tokenizer, text, filler):
                return None
            answer = encode_answer(tokenizer, filler)
            distractor = encode_answer(tokenizer, f" {other['color']} {other['object']}")
            return Example(
                task=self.name,
                clean=clean,
                corrupted=corrupted,
                answer=answer,
                distractor=distractor,
                answers=tuple((token,) for token in answer),
                distractors=tuple((token,) for token in distractor),
                text=text,
                info=fill,
            )

        return draw_distinct(self.name, n, seed, draw)

    def score(self, example: Example, generated: Sequence[int], tokenizer: Tokenizer) -> bool:
        """Right if both words of the filler are right."""
        return tuple(generated) == example.answer
