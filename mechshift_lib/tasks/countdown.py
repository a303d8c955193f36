"""Countdown: reach a target with the given numbers, each used once."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from mechshift_lib.errors import TaskError
from mechshift_lib.tasks.base import Example, Tokenizer
from mechshift_lib.tasks.drawing import draw_distinct
from mechshift_lib.tasks.tokens import continues, encode_answer, encode_prompt
from mechshift_lib.tasks.vocabulary import held_out

TEMPLATE = "Numbers: {numbers}. Target: {target}. Equation:"
OPERATORS = ("+", "-", "*")


def evaluate(equation: str) -> int | None:
    """Value of a chain such as ``3 * 5 + 7`` (product before sum); None if it isn't one."""
    tokens = equation.split()
    numbers, operators = tokens[::2], tokens[1::2]
    if len(tokens) % 2 == 0 or not all(n.isdigit() for n in numbers):
        return None
    if any(o not in OPERATORS for o in operators):
        return None
    return _value([int(n) for n in numbers], operators)


def _value(numbers: Sequence[int], operators: Sequence[str]) -> int:
    """Value of a chain of numbers with operators between them."""
    total, sign, product = 0, 1, numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=True):
        if operator == "*":
            product *= number
        else:
            total += sign * product
            sign, product = (1 if operator == "+" else -1), number
    return total + sign * product


@cache
def solutions(
    numbers: tuple[int, ...], highest: int, operators: tuple[str, ...] = OPERATORS
) -> dict[int, str]:
    """One equation for every target from 1 to ``highest`` that the numbers reach.

    Where several equations reach a target, the one with the fewest products, then the fewest
    differences, then the numbers' own order is chosen: a rule, so that a model can learn it and
    so that clean and corrupted answers differ only where the plan does.
    """
    found: dict[int, str] = {}
    chains = itertools.product(operators, repeat=len(numbers) - 1)
    for chain in sorted(chains, key=lambda o: (o.count("*"), o.count("-"), o)):
        for order in itertools.permutations(range(len(numbers))):
            ordered = [numbers[i] for i in order]
            value = _value(ordered, chain)
            if 1 <= value <= highest and value not in found:
                later = zip(chain, ordered[1:], strict=True)
                found[value] = f"{ordered[0]}" + "".join(f" {o} {n}" for o, n in later)
    return found


@dataclass(frozen=True)
class Countdown:
    """``Numbers: 3 5 7. Target: 22. Equation:`` -> ``3 * 5 + 7``.

    The corruption keeps the numbers and changes the target, so that another equation is needed;
    the distractor is that other equation. A generated equation is right if it uses every given
    number once and hits the target, whichever equation it is.

    Attributes:
        count: how many numbers are given, 3 or 4.
        largest: the largest given number.
        highest: the largest target.
        operators: which of ``+``, ``-`` and ``*`` equations may use.
    """

    count: int = 3
    largest: int = 20
    highest: int = 60
    operators: tuple[str, ...] = ("+", "-")

    name = "countdown"
    title = "Countdown"
    regime = "global"
    metric = "logit-diff"

    def __post_init__(self) -> None:
        if self.count not in (3, 4):
            raise TaskError(f"Countdown is given 3 or 4 numbers, not {self.count}.")
        if not self.count <= self.largest <= 99 or not 2 <= self.highest <= 99:
            raise TaskError("Countdown's largest number and highest target must be at most 99.")
        if not self.operators or not set(self.operators) <= set(OPERATORS):
            raise TaskError(f"Countdown's operators are some of {' '.join(OPERATORS)}.")

    def _solutions(self, numbers: tuple[int, ...]) -> dict[int, str]:
        return solutions(numbers, self.highest, tuple(self.operators))

    def reachable(self, numbers: tuple[int, ...]) -> set[int]:
        """Targets that these numbers reach, each used once."""
        return set(self._solutions(numbers))

    def equation(self, numbers: tuple[int, ...], target: int) -> str:
        """The equation that the rule of :func:`solutions` names; the target must be reachable."""
        return self._solutions(numbers)[target]

    def _fill(self, rng: random.Random, hold_out: bool) -> tuple[tuple[int, ...], int]:
        while True:
            numbers = tuple(rng.sample(range(1, self.largest + 1), self.count))
            targets = [
                target
                for target in self._solutions(numbers)
                if held_out("countdown", *sorted(numbers), target) == hold_out
            ]
            if targets:
                return numbers, rng.choice(targets)

    def _text(self, numbers: tuple[int, ...], target: int) -> str:
        return TEMPLATE.format(numbers=" ".join(map(str, numbers)), target=target)

    def training_text(self, rng: random.Random) -> tuple[str, str]:
        """A problem and its equation from the combinations that training may see."""
        numbers, target = self._fill(rng, hold_out=False)
        return self._text(numbers, target), " " + self._solutions(numbers)[target]

    def examples(self, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
        """Draw ``n`` problems with held-out combinations of numbers and target."""

        def draw(rng: random.Random) -> Example | None:
            numbers, target = self._fill(rng, hold_out=True)
            reachable = self._solutions(numbers)
            text, equation = self._text(numbers, target), " " + reachable[target]
            clean, answer = encode_prompt(tokenizer, text), encode_answer(tokenizer, equation)
            if not continues(tokenizer, text, equation):
                return None
            others = [other for other in reachable if reachable[other] != reachable[target]]
            rng.shuffle(others)
            for other in others:
                corrupted = encode_prompt(tokenizer, self._text(numbers, other))
                distractor = encode_answer(tokenizer, " " + reachable[other])
                # Equal lengths keep positions aligned; two changed tokens make it another plan.
                changed = sum(a != b for a, b in zip(answer, distractor, strict=False))
                if len(corrupted) == len(clean) and len(distractor) == len(answer) and changed > 1:
                    return Example(
                        task=self.name,
                        clean=clean,
                        corrupted=corrupted,
                        answer=answer,
                        distractor=distractor,
                        answers=tuple((token,) for token in answer),
                        distractors=tuple((token,) for token in distractor),
                        text=text,
                        info={"numbers": numbers, "target": target, "corrupted_target": other},
                    )
            return None

        return draw_distinct(self.name, n, seed, draw)

    def score(self, example: Example, generated: Sequence[int], tokenizer: Tokenizer) -> bool:
        """Right if the equation uses each given number once and hits the target."""
        equation = _spaced(tokenizer.decode(list(generated)))
        used = sorted(int(part) for part in equation.split() if part.isdigit())
        return (
            used == sorted(example.info["numbers"]) and evaluate(equation) == example.info["target"]
        )


def _spaced(text: str) -> str:
    """The text with exactly one space around each operator."""
    for operator in OPERATORS:
        text = text.replace(operator, f" {operator} ")
    return " ".join(text.split())


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def number_name(k: int, n: int) -> str:
    """What people call number ``k`` (from 0) of an equation of ``n``, such as ``last number``."""
    return f"{'last' if k == n - 1 else _ORDINALS[k]} number"
