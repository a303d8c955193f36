"""Semantic infilling: a blank whose filler only the text to its right decides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.drawing import draw_distinct
from mechshift_lib.tasks.tokens import (
    continues,
    encode_answer,
    encode_prompt,
    require,
    single_token_words,
)
from mechshift_lib.tasks.vocabulary import COLORS, KNOWN_PURPOSES, NAMES, PURPOSES, held_out

#: Two words are asked for; the sentence is begun again.
TEMPLATE = "{name} bought a _ to {purpose}. It was the color of {thing}. So {name} bought a"

#: The same sentence said once, its filler in place.
NATIVE = "{name} bought a {color} {object} to {purpose}. It was the color of {thing}."

#: One word is asked for, after one solved example, so that a model that was never taught the
#: task can do it.
TEMPLATE_KNOWN = (
    "Kate used a _ to dig a hole, that is, a shovel. {name} used a _ to {purpose}, that is, a"
)


@dataclass(frozen=True)
class Infilling:
    """``Anna bought a _ to cut the bread. It was the color of grass. ...`` -> ``green knife``.

    The whole sentence is shown with its blank and then begun again, so that the same prompt can
    be given to an autoregressive and to a masked diffusion model and the answer stands at the
    same positions. Text to the left of the blank says nothing of its filler; the corruption is
    another right context of the same length, which decides for another colour and thing.

    Attributes:
        words: 2 asks for colour and thing; 1 for the thing alone, in a form that pre-trained
            models solve without training.
    """

    words: Literal[1, 2] = 2

    name = "infilling"
    title = "Semantic infilling"
    regime = "global"
    metric = "logit-diff"

    def __post_init__(self) -> None:
        if self.words not in (1, 2):
            raise TaskError(f"Infilling asks for 1 or 2 words, not {self.words}.")

    @property
    def _purposes(self) -> dict[str, str]:
        return PURPOSES if self.words == 2 else KNOWN_PURPOSES

    def _fill(
        self,
        rng: random.Random,
        names: Sequence[str],
        colors: Sequence[str],
        things: Sequence[str],
        hold_out: bool | None,
    ) -> dict[str, str]:
        while True:
            fill = {
                "name": rng.choice(names),
                "color": rng.choice(colors),
                "object": rng.choice(things),
            }
            # One word: who uses what is held out; two words: which colour goes with which thing.
            with_what = fill["color"] if self.words == 2 else fill["name"]
            if hold_out is None or held_out(self.name, with_what, fill["object"]) == hold_out:
                return fill

    def _text(self, fill: dict[str, str]) -> str:
        purpose = self._purposes[fill["object"]]
        if self.words == 1:
            return TEMPLATE_KNOWN.format(name=fill["name"], purpose=purpose)
        return TEMPLATE.format(name=fill["name"], purpose=purpose, thing=COLORS[fill["color"]])

    def _filler(self, fill: dict[str, str]) -> str:
        return f" {fill['color']} {fill['object']}" if self.words == 2 else f" {fill['object']}"

    def sentence(self, rng: random.Random) -> str:
        """The sentence with its filler in place; the held-out combinations never occur."""
        fill = self._fill(rng, NAMES, list(COLORS), list(self._purposes), hold_out=False)
        return self._sentence(fill)

    def _sentence(self, fill: dict[str, str]) -> str:
        if self.words == 1:
            raise TaskError("The one-word form of infilling has no sentence of its own.")
        purpose, thing = self._purposes[fill["object"]], COLORS[fill["color"]]
        return NATIVE.format(purpose=purpose, thing=thing, **fill)

    def training_text(self, rng: random.Random) -> tuple[str, str]:
        """A sentence and its filler; the held-out combinations never occur."""
        fill = self._fill(rng, NAMES, list(COLORS), list(self._purposes), hold_out=False)
        return self._text(fill), self._filler(fill)

    def examples(self, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
        """Draw ``n`` examples from the combinations that are held out of training."""
        names = require(single_token_words(tokenizer, NAMES), 2, "names", self.name)
        colors = require(single_token_words(tokenizer, COLORS), 3, "colours", self.name)
        things = require(single_token_words(tokenizer, self._purposes), 3, "objects", self.name)

        def draw(rng: random.Random) -> Example | None:
            fill = self._fill(rng, names, colors, things, hold_out=True)
            other = self._fill(rng, names, colors, things, hold_out=None) | {"name": fill["name"]}
            text, filler = self._text(fill), self._filler(fill)
            clean = encode_prompt(tokenizer, text)
            corrupted = encode_prompt(tokenizer, self._text(other))
            answer = encode_answer(tokenizer, filler)
            distractor = encode_answer(tokenizer, self._filler(other))
            same = any(a == b for a, b in zip(answer, distractor, strict=True))
            if same or len(clean) != len(corrupted) or not continues(tokenizer, text, filler):
                return None
            return Example(
                task=self.name,
                clean=clean,
                corrupted=corrupted,
                answer=answer,
                distractor=distractor,
                answers=tuple((token,) for token in answer),
                distractors=tuple((token,) for token in distractor),
                text=text,
                info=fill | {"corrupted": other},
            )

        return draw_distinct(self.name, n, seed, draw)

    def native(self, example: Example, tokenizer: Tokenizer) -> Example:
        """The same question with the blank itself to fill, text on both sides, said once.

        Only an MDM can be asked so. The corruption changes what follows the blank, as before.

        Raises:
            TaskError: the one-word form has no sentence of its own, or this tokenizer reads the
                filler otherwise inside the sentence.
        """
        fills = [{k: v for k, v in example.info.items() if k != "corrupted"}]
        fills.append(dict(example.info["corrupted"]))
        cut = []
        for fill in fills:
            before, filler = f"{fill['name']} bought a", self._filler(fill)
            whole = encode_prompt(tokenizer, self._sentence(fill))
            start, n = len(encode_prompt(tokenizer, before)), len(example.answer)
            if whole[start : start + n] != encode_answer(tokenizer, filler):
                raise TaskError("This tokenizer reads infilling's fillers otherwise in a sentence.")
            cut.append((whole[:start], whole[start + n :]))
        (clean, after), (corrupted, corrupted_after) = cut
        return replace(
            example,
            clean=clean,
            corrupted=corrupted,
            after=after,
            corrupted_after=corrupted_after,
            text=self._sentence(fills[0]).replace(self._filler(fills[0]), " …", 1),
        )

    def score(self, example: Example, generated: Sequence[int], tokenizer: Tokenizer) -> bool:
        """Right if every word of the filler is right."""
        return tuple(generated) == example.answer
