"""Greater-Than (Hanna et al. 2023, arXiv 2305.00586): a year after a given year."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.drawing import draw_distinct
from mechshift_lib.tasks.tokens import encode_prompt
from mechshift_lib.tasks.vocabulary import CENTURIES, EVENTS, held_out

TEMPLATE = "The {event} lasted from the year {century}{year} to the year {century}"


@dataclass(frozen=True)
class GreaterThan:
    """``The war lasted from the year 1732 to the year 17`` -> any two digits above 32.

    Tokenizers that read two digits at once are asked for one token, the year; those that read
    digit by digit for two, of which the first (the tens) carries the metric: tens above the
    given tens count as right, tens below as wrong, the same tens (which may be either) as
    neither. The corruption sets the year to 01, as in the source, so that every year is greater.

    Attributes:
        corrupted_year: the two digits that the corruption sets. A model that never met 01 there
            needs another low year, or its corrupted run says nothing of the task.
    """

    corrupted_year: str = "01"

    name = "greater-than"
    title = "Greater-Than"
    regime = "local"
    metric = "prob-diff"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"0\d", self.corrupted_year):
            raise TaskError(
                f"Greater-Than's corrupted_year is 00 to 09 in quotes, not {self.corrupted_year!r}."
            )

    def _fill(self, rng: random.Random, hold_out: bool, low: int, high: int) -> dict[str, str]:
        while True:
            event, century = rng.choice(EVENTS), rng.choice(CENTURIES)
            year = rng.randint(low, high)
            if held_out("greater-than", event, century, year) == hold_out:
                return {"event": event, "century": century, "year": f"{year:02d}"}

    def training_text(self, rng: random.Random) -> tuple[str, str]:
        """A sentence whose second year is uniform over the greater years of the century."""
        fill = self._fill(rng, hold_out=False, low=1, high=98)
        return TEMPLATE.format_map(fill), f"{rng.randint(int(fill['year']) + 1, 99):02d}"

    def examples(self, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
        """Draw ``n`` examples with held-out combinations of event, century and year.

        Raises:
            TaskError: the tokenizer splits years neither into pairs of digits nor into digits.
        """
        tail = self._years(tokenizer)
        by_digit = len(tail[0]) == 2

        def draw(rng: random.Random) -> Example | None:
            # Digit by digit, both more and fewer tens must exist.
            lowest = int(self.corrupted_year) + 1
            fill = self._fill(rng, True, *((10, 89) if by_digit else (lowest, 98)))
            text = TEMPLATE.format_map(fill)
            clean = encode_prompt(tokenizer, text)
            other = {**fill, "year": self.corrupted_year}
            corrupted = encode_prompt(tokenizer, TEMPLATE.format_map(other))
            year = int(fill["year"])
            whole = encode_prompt(tokenizer, text + fill["year"])
            if len(clean) != len(corrupted) or whole != clean + tail[year]:
                return None
            right = [ids for y, ids in enumerate(tail) if y > year]
            wrong = [ids for y, ids in enumerate(tail) if y <= year]
            if by_digit:
                # The same tens may be either, so they count as neither.
                right = [ids for ids in right if ids[0] != tail[year][0]]
                wrong = [ids for ids in wrong if ids[0] != tail[year][0]]
            answer, distractor = rng.choice(right), rng.choice(wrong)
            # Only the first token carries the metric: the units are set equal.
            distractor = distractor[:1] + answer[1:]
            answers = tuple(tuple(dict.fromkeys(column)) for column in zip(*right, strict=True))
            distractors = tuple(tuple(dict.fromkeys(column)) for column in zip(*wrong, strict=True))
            return Example(
                task=self.name,
                clean=clean,
                corrupted=corrupted,
                answer=answer,
                distractor=distractor,
                answers=answers,
                distractors=distractors,
                text=text,
                info=fill,
            )

        return draw_distinct(self.name, n, seed, draw)

    def score(self, example: Example, generated: Sequence[int], tokenizer: Tokenizer) -> bool:
        """Right if the generated digits are a year after the given one."""
        digits = "".join(tokenizer.decode([token]).strip() for token in generated)
        return len(digits) == 2 and digits.isdigit() and int(digits) > int(example.info["year"])

    def _years(self, tokenizer: Tokenizer) -> list[tuple[int, ...]]:
        """Ids that each of the years 00 to 99 adds to a prompt: one each, or two each."""
        prompt = TEMPLATE.format(event=EVENTS[0], century=CENTURIES[0], year="32")
        head = encode_prompt(tokenizer, prompt)
        whole = [encode_prompt(tokenizer, f"{prompt}{year:02d}") for year in range(100)]
        tails = [ids[len(head) :] for ids in whole if ids[: len(head)] == head]
        if len(set(tails)) != 100 or {len(ids) for ids in tails} not in ({1}, {2}):
            raise TaskError(
                "Task 'greater-than' needs a tokenizer that reads a year's last two digits as one "
                "token or as two, in every year of a century: leave this task out of the pair."
            )
        return tails
