"""Readouts: the one place that knows how a model is asked for an answer.

A readout turns an example into :class:`Item` objects, each one pair of forward passes: input ids
(clean and corrupted), the positions whose logits are read, and which ids count as right and wrong
there. Target positions, number of MASKs, revealed tokens and steps are the same for clean and
corrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mechshift_lib.errors import ModelError, TaskError
from mechshift_lib.tasks.base import Example

#: Answer indices revealed at each denoising step.
Order = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Item:
    """One question to the model: a clean and a corrupted input, read at the same positions.

    Attributes:
        example: index of the example that the question belongs to.
        step: denoising step (0 for an ARM, which answers all positions in one pass).
        clean: input ids, ``[pos]``.
        corrupted: input ids, ``[pos]``, of the same length.
        reads: positions of the logits that are read, ``[n_read]``.
        answers: for each read the ids that count as right.
        distractors: for each read the ids that count as wrong.
    """

    example: int
    step: int
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    reads: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    distractors: tuple[tuple[int, ...], ...]


class Readout(Protocol):
    """How a model is asked: where token ``i`` is read, and in how many passes."""

    @property
    def name(self) -> str:
        """Name in pair files."""

    @property
    def attention(self) -> str:
        """Attention that the readout is meant for, ``"causal"`` or ``"full"``."""

    def read_position(self, token_index: int) -> int:
        """Position of the logits that predict token ``token_index`` of prompt + answer."""

    def items(self, example: Example, index: int, *, order: Order | None = None) -> list[Item]:
        """The questions for one example, in the order of the denoising steps."""


@dataclass(frozen=True)
class NextToken:
    """ARM: token ``i`` is read at logits ``i - 1``, by teacher forcing with the clean answer."""

    name: str = "next-token"
    attention: str = "causal"

    def read_position(self, token_index: int) -> int:
        """Position before the token.

        Raises:
            TaskError: the token is the first, so nothing predicts it.
        """
        return _before(token_index)

    def items(self, example: Example, index: int, *, order: Order | None = None) -> list[Item]:
        """One item that reads every scored answer position; ``order`` makes no difference.

        The input is prompt + answer without its last token, with the clean answer in the clean
        and in the corrupted run.

        Raises:
            TaskError: something follows the answer, which an ARM can't see.
        """
        if example.after:
            raise TaskError(
                f"An ARM can't be asked for a {example.task} answer in the middle of a text: give "
                "it the form that ends with the answer."
            )
        if not example.scored:
            return []
        start = len(example.clean)
        return [
            Item(
                example=index,
                step=0,
                clean=example.clean + example.answer[:-1],
                corrupted=example.corrupted + example.answer[:-1],
                reads=tuple(self.read_position(start + i) for i in example.scored),
                answers=tuple(example.answers[i] for i in example.scored),
                distractors=tuple(example.distractors[i] for i in example.scored),
            )
        ]


@dataclass(frozen=True)
class ShiftedMask:
    """MDM made from an ARM (Dream, DiffuLLaMA): canvas with MASKs, token ``i`` at logits ``i - 1``.

    Attributes:
        mask_id: id of the mask token.
    """

    mask_id: int
    name: str = "shifted-mask"
    attention: str = "full"

    def read_position(self, token_index: int) -> int:
        """Position before the token.

        Raises:
            TaskError: the token is the first, so nothing predicts it.
        """
        return _before(token_index)

    def items(self, example: Example, index: int, *, order: Order | None = None) -> list[Item]:
        """One item per denoising step that fills a scored position (see :func:`canvas_items`)."""
        return canvas_items(self, self.mask_id, example, index, order)


@dataclass(frozen=True)
class Mask:
    """MDM that predicts in place (LLaDA): canvas with MASKs, token ``i`` at logits ``i``.

    Attributes:
        mask_id: id of the mask token.
    """

    mask_id: int
    name: str = "mask"
    attention: str = "full"

    def read_position(self, token_index: int) -> int:
        """Position of the token itself."""
        return token_index

    def items(self, example: Example, index: int, *, order: Order | None = None) -> list[Item]:
        """One item per denoising step that fills a scored position (see :func:`canvas_items`)."""
        return canvas_items(self, self.mask_id, example, index, order)


def _before(token_index: int) -> int:
    if token_index < 1:
        raise TaskError("The first token of a prompt has no logits before it: start with a token.")
    return token_index - 1


def left_to_right(n_answer: int) -> tuple[tuple[int, ...], ...]:
    """The reveal order that is aligned with an ARM: one answer token a step, from the left."""
    return tuple((i,) for i in range(n_answer))


def canvas_items(
    readout: Readout, mask_id: int, example: Example, index: int, order: Order | None
) -> list[Item]:
    """Items of one example along a reveal order.

    The canvas is prompt + one MASK per answer token + what follows. At each step the tokens
    revealed before are those of the clean answer, in the clean and in the corrupted run, and the
    scored positions filled at this step are read. A step that fills no scored position has no item.

    Raises:
        TaskError: ``order`` doesn't reveal every answer index exactly once.
    """
    n_answer, start = len(example.answer), len(example.clean)
    steps = left_to_right(n_answer) if order is None else order
    if sorted(i for step in steps for i in step) != list(range(n_answer)):
        raise TaskError(
            f"Reveal order {[list(step) for step in steps]} must name each of the {n_answer} "
            "answer positions exactly once."
        )
    canvas = [mask_id] * n_answer
    items = []
    for number, step in enumerate(steps):
        read = tuple(i for i in step if i in example.scored)
        if read:
            items.append(
                Item(
                    example=index,
                    step=number,
                    clean=example.clean + tuple(canvas) + example.after,
                    corrupted=example.corrupted + tuple(canvas) + example.corrupted_after,
                    reads=tuple(readout.read_position(start + i) for i in read),
                    answers=tuple(example.answers[i] for i in read),
                    distractors=tuple(example.distractors[i] for i in read),
                )
            )
        for i in step:
            canvas[i] = example.answer[i]
    return items


def question(
    readout: Readout,
    mask_id: int | None,
    prompt: Sequence[int],
    n_answer: int,
    revealed: Mapping[int, int],
    at: int,
) -> tuple[tuple[int, ...], int] | None:
    """Input ids and the position that is read to ask for one answer token.

    Args:
        readout: how the model is asked.
        mask_id: its mask token; None for an ARM.
        prompt: token ids of the prompt.
        n_answer: number of answer tokens.
        revealed: answer tokens that are known: index -> id.
        at: index of the token that is asked for.

    Returns:
        None where the model can't be asked so: an ARM that something to the right is revealed to.

    Raises:
        TaskError: the token asked for is revealed, or one before it is not and this is an ARM.
    """
    if at in revealed:
        raise TaskError(f"Answer token {at} is revealed, so it can't be asked for.")
    read = readout.read_position(len(prompt) + at)
    if mask_id is None:
        if any(i not in revealed for i in range(at)):
            raise TaskError(f"An ARM is asked for token {at} once all before it are there.")
        if any(i > at for i in revealed):
            return None
        return (*prompt, *(revealed[i] for i in range(at))), read
    return (*prompt, *(revealed.get(i, mask_id) for i in range(n_answer))), read


def make_readout(name: str, mask_id: int | None = None) -> Readout:
    """The readout of a pair file.

    Raises:
        ModelError: the name is unknown, or a mask readout has no mask id.
    """
    if name == "next-token":
        return NextToken()
    if name not in ("shifted-mask", "mask"):
        raise ModelError(
            f"Unknown readout {name!r}: choose 'next-token', 'shifted-mask' or 'mask'."
        )
    if mask_id is None:
        raise ModelError(f"Readout {name!r} needs a mask token: name one that the tokenizer has.")
    return ShiftedMask(mask_id) if name == "shifted-mask" else Mask(mask_id)
