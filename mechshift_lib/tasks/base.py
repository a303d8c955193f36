"""What a task is: pairs of clean and corrupted prompts whose answers are known.

An :class:`Example` is plain token ids, so everything after this room (readouts, samplers,
attribution) is independent of wording and of tokenizers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from mechshift_lib.errors import TaskError


@dataclass(frozen=True)
class Example:
    """One clean prompt, its corruption, and what the model is asked for.

    Attributes:
        task: name of the task.
        clean: token ids of the prompt, without the answer, shape ``[n_prompt]``.
        corrupted: token ids of the corrupted prompt, shape ``[n_prompt]``; differs from ``clean``
            only at :attr:`differ`.
        answer: token ids of the clean prompt's answer, one per answer position, ``[n_answer]``.
        distractor: token ids of the corrupted prompt's answer (or the wrong alternative), one per
            answer position, ``[n_answer]``. Positions where it equals ``answer`` carry no metric.
        answers: for each answer position the ids that count as right (usually only the answer;
            for Greater-Than every greater year).
        distractors: the same for the ids that count as wrong.
        after: token ids that follow the answer in the clean prompt (a blank that is filled in
            place), ``[n_after]``; none where the answer ends the text.
        corrupted_after: the same of the corrupted prompt.
        text: the clean prompt as text, for people.
        info: what the scorer needs (numbers and target of a Countdown, template of an IOI, ...).
    """

    task: str
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    answer: tuple[int, ...]
    distractor: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    distractors: tuple[tuple[int, ...], ...]
    after: tuple[int, ...] = ()
    corrupted_after: tuple[int, ...] = ()
    text: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {(len(self.clean), len(self.after))}
        if lengths != {(len(self.corrupted), len(self.corrupted_after))}:
            raise TaskError(
                f"A {self.task} example has {len(self.clean)} + {len(self.after)} clean and "
                f"{len(self.corrupted)} + {len(self.corrupted_after)} corrupted prompt tokens "
                "before and after its answer: both prompts must have the same length."
            )
        parts = (self.answer, self.distractor, self.answers, self.distractors)
        if {len(part) for part in parts} != {len(self.answer)} or not self.answer:
            raise TaskError(
                f"A {self.task} example needs one distractor, one set of right ids and one set of "
                f"wrong ids for each of its {len(self.answer)} answer positions."
            )

    @property
    def differ(self) -> tuple[int, ...]:
        """Prompt positions at which the corrupted prompt differs from the clean one."""
        pairs = zip(self.clean, self.corrupted, strict=True)
        return tuple(i for i, (a, b) in enumerate(pairs) if a != b)

    @property
    def scored(self) -> tuple[int, ...]:
        """Answer positions with a metric: those where the answer differs from its distractor."""
        pairs = zip(self.answer, self.distractor, strict=True)
        return tuple(i for i, (a, b) in enumerate(pairs) if a != b)


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that tasks need."""

    def __call__(self, text: str, **kwargs: Any) -> Any: ...

    def decode(self, ids: Sequence[int], **kwargs: Any) -> str: ...


class Task(Protocol):
    """A generator of examples and the scorer of what a model makes of them."""

    @property
    def name(self) -> str:
        """Name used in pair files, on the command line and in tables."""

    @property
    def title(self) -> str:
        """Heading for people."""

    @property
    def regime(self) -> str:
        """``local`` (prefix-dominant) or ``global`` (globally constrained), as in the paper."""

    @property
    def metric(self) -> str:
        """Metric that circuits are computed for: ``logit-diff`` or ``prob-diff``."""

    def training_text(self, rng: random.Random) -> tuple[str, str]:
        """A prompt and its answer for training; never a held-out combination."""

    def examples(self, tokenizer: Tokenizer, n: int, seed: int) -> list[Example]:
        """Draw ``n`` held-out examples; the same arguments give the same examples."""

    def score(self, example: Example, generated: Sequence[int], tokenizer: Tokenizer) -> bool:
        """Is ``generated`` (token ids, ``[n_answer]``) a right answer to the clean prompt?"""
