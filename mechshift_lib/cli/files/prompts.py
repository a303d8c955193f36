"""From rows of an examples file to what a model is asked; texts through its tokenizer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mechshift_lib.choices import Attention
from mechshift_lib.cli.files.rows import IN_A_ROW, Answer, ExampleRow, Rows
from mechshift_lib.cli.files.tokenisations import parting, side_by_side, tokens_of
from mechshift_lib.config import ROOT, FolderSource, ReadoutName
from mechshift_lib.errors import CircuitError, ConfigError, ModelError, TaskError, shown
from mechshift_lib.models.opening import open_tokenizer
from mechshift_lib.models.readout import Item, Readout, make_readout
from mechshift_lib.models.sources import locate, named, tokenizer_at
from mechshift_lib.tasks.base import Example
from mechshift_lib.tasks.tokens import continues, encode_answer, encode_prompt

Ids = tuple[int, ...]


def _to_stderr(hint: str) -> None:
    print(f"mechshift: {hint}", file=sys.stderr)


@dataclass(frozen=True)
class Asking:
    """How texts become questions to the model in a folder.

    Attributes:
        folder: Hugging Face folder whose tokenizer is used.
        readout: where an answer is read: ``"next-token"`` of an ARM; ``"shifted-mask"`` or
            ``"mask"`` of an MDM, whose canvas has a mask for each token of the answer.
        mask_token: the mask token of an MDM.
        attention: attention that the model is run with, which must suit the readout.
        hint: told of what is no mistake for sure, at most once a file.
    """

    folder: str | Path
    readout: ReadoutName = "next-token"
    mask_token: str | None = None
    attention: Attention = "causal"
    hint: Callable[[str], None] = field(default=_to_stderr, compare=False)

    def __post_init__(self) -> None:
        masks = self.readout != "next-token"
        if masks and self.mask_token is None:
            raise ConfigError(
                f"--readout {self.readout} fills masks: name the mask token with --mask-token."
            )
        if not masks and self.mask_token is not None:
            raise ConfigError(
                "--mask-token is for --readout shifted-mask or mask: say which, or leave it out."
            )
        if masks and self.attention != "full":
            raise ConfigError(
                f"--readout {self.readout} asks a model that sees the whole canvas: add "
                "--attention full."
            )

    @cached_property
    def tokenizer(self) -> Any:
        """The folder's tokenizer.

        Raises:
            ModelError: the folder has none, or it can't be read.
        """
        path = Path(self.folder).absolute()
        located = tokenizer_at(path)
        if located is None and not path.is_dir():
            locate(FolderSource(kind="folder", path=str(path)), ROOT)  # says what is wrong with it
        tokenizer = None if located is None else open_tokenizer(located)
        if tokenizer is None:
            raise ModelError(
                f"Model folder {named(self.folder)} has no tokenizer, which prompts as text need: "
                "put its tokenizer.json there, or give token ids."
            )
        return tokenizer

    @cached_property
    def reader(self) -> Readout:
        """The readout.

        Raises:
            ModelError: the tokenizer doesn't know the mask token.
        """
        if self.mask_token is None:
            return make_readout(self.readout)
        mask_id = self.tokenizer.get_vocab().get(self.mask_token)
        if mask_id is None:
            raise ModelError(
                f"The tokenizer has no mask token {shown(self.mask_token)}: name one that it has."
            )
        return make_readout(self.readout, int(mask_id))


def items_of_rows(rows: Rows, asking: Asking | None = None) -> list[Item]:
    """The questions of an examples file.

    An entry with text is asked through the readout; several tokens in a row are one item of an ARM
    and one item a denoising step of an MDM. An entry of ids is one item.

    Args:
        rows: the entries.
        asking: whose tokenizer and readout; without, entries with text are refused.

    Raises:
        CircuitError: texts are split into unequal numbers of tokens, an answer has several tokens
            and doesn't say how they are meant, prompt and answer merge, or a position is wrong.
        ModelError: there is no tokenizer, or it can't be read.
    """
    hints: list[str] = []
    items: list[Item] = []
    for index, row in enumerate(rows.entries):
        number = index if row.example is None else row.example
        if not row.has_text:
            items.append(_plain(rows, index, row, number))
            continue
        if asking is None:
            side = next(x for x in ("clean", "corrupted", "answer", "distractor") if _texts(row, x))
            raise CircuitError(
                f"{rows.said(index, side)}: text needs a model's tokenizer: give token ids."
            )
        asked = _Texts(rows, index, row, asking)
        items += asked.items(number)
        hints += asked.hints()
    if asking is not None and hints:
        more = f" ({len(hints) - 1} more like this)" if len(hints) > 1 else ""
        asking.hint(hints[0] + more)
    return items


def _texts(row: ExampleRow, side: str) -> bool:
    value = getattr(row, side)
    parts = value.parts if isinstance(value, Answer) else (value,)
    return any(isinstance(part, str) for part in parts)


def _plain(rows: Rows, index: int, row: ExampleRow, number: int) -> Item:
    """The item of an entry of ids, read where it says."""
    assert not isinstance(row.clean, str)
    assert not isinstance(row.corrupted, str)
    for side in ("answer", "distractor"):
        if getattr(row, side).in_a_row:
            raise CircuitError(
                f"{rows.said(index, side)}: tokens in a row follow a prompt as text: give 'clean' "
                "and 'corrupted' as text, or an entry for each token."
            )
    length = len(row.clean)
    asked = -1 if row.position is None else row.position
    position = asked + length if asked < 0 else asked
    if not 0 <= position < length:
        raise CircuitError(f"Example {index} reads position {asked}, but it has {length} tokens.")
    return Item(
        example=number,
        step=row.step or 0,
        clean=row.clean,
        corrupted=row.corrupted,
        reads=(position,),
        answers=(row.answer.parts,),
        distractors=(row.distractor.parts,),
    )


class _Texts:
    """One entry with text, tokenized."""

    def __init__(self, rows: Rows, index: int, row: ExampleRow, asking: Asking) -> None:
        self.rows, self.index, self.row, self.asking = rows, index, row, asking
        self.tokenizer = asking.tokenizer
        self.clean = self._prompt("clean")
        self.corrupted = self._prompt("corrupted")
        self.answer = self._tokens("answer")
        self.distractor = self._tokens("distractor")

    def items(self, number: int) -> list[Item]:
        """The entry's items, with ``number`` as their example."""
        self._same_length("clean", self.clean, "corrupted", self.corrupted)
        self._check_kinds()
        if self.row.position is not None:
            return [self._at_position(number, self.row.position)]
        self._check_continues()
        try:
            items = self.asking.reader.items(self._example(), number)
        except TaskError as error:
            raise CircuitError(f"{self._said()}: {error}") from error
        if self.row.step is None:
            return items
        if self.row.answer.in_a_row:
            raise CircuitError(
                f"{self._said('step')}: tokens in a row have steps of their own: leave it out."
            )
        return [replace(item, step=self.row.step) for item in items]

    def hints(self) -> list[str]:
        """Answers that probably have a space too few, or too many, behind their prompt."""
        found = []
        for side, prompt in (("answer", self.row.clean), ("distractor", self.row.corrupted)):
            for part in getattr(self.row, side).parts:
                if not isinstance(part, str) or not isinstance(prompt, str):
                    continue
                spaced = f" {part}"
                if prompt[-1].isspace() and part[0].isspace():
                    found.append(
                        f"Hint: {self._said(side)}: {shown(part)} begins with a space and its "
                        "prompt ends with one: leave out that of the prompt."
                    )
                elif not (part[0].isalpha() and prompt[-1].isalpha()):
                    continue
                elif self._encode(part) != self._encode(spaced):
                    found.append(
                        f"Hint: {self._said(side)}: {shown(part)} follows the prompt without a "
                        f"space and is another token than {shown(spaced)}: begin it with a space "
                        "if it is a word of its own."
                    )
        return found

    def _said(self, side: str = "") -> str:
        return self.rows.said(self.index, side)

    def _encode(self, text: str) -> Ids:
        return encode_answer(self.tokenizer, text)

    def _prompt(self, side: str) -> Ids:
        value = getattr(self.row, side)
        if not isinstance(value, str):
            return tuple(value)
        try:
            return self._known(side, value, encode_prompt(self.tokenizer, value))
        except TaskError as error:
            raise CircuitError(f"{self._said(side)}: {error}") from error

    def _known(self, side: str, text: str, ids: Ids) -> Ids:
        if not ids:
            raise CircuitError(f"{self._said(side)}: {shown(text)} has no tokens: give a word.")
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown is not None and unknown in ids:
            at = ids.index(unknown)
            raise CircuitError(
                f"{self._said(side)}: the tokenizer doesn't know token {at} of {shown(text)}: "
                f"take another word ({self._look()})."
            )
        return ids

    def _tokens(self, side: str) -> Ids:
        """Ids of an answer: tokens in a row, or alternatives."""
        answer: Answer = getattr(self.row, side)
        found: list[int] = []
        for part in answer.parts:
            if isinstance(part, int):
                found.append(part)
                continue
            ids = self._known(side, part, self._encode(part))
            if len(ids) > 1 and not answer.in_a_row:
                split = " ".join(t.shown for t in tokens_of(self.tokenizer, ids[:12]))
                raise CircuitError(
                    f"{self._said(side)}: {shown(part)} has {len(ids)} tokens, {split}: write "
                    f"{json.dumps({IN_A_ROW: part[:60]}, ensure_ascii=False)} to have each read in "
                    f"turn (in CSV the column {side}_{IN_A_ROW}), or take a word of one token."
                )
            found += ids
        return tuple(found)

    def _check_kinds(self) -> None:
        answer, distractor = self.row.answer, self.row.distractor
        if answer.in_a_row != distractor.in_a_row:
            raise CircuitError(
                f"{self._said()}: the answer and the distractor must both be {IN_A_ROW} or neither."
            )
        if answer.in_a_row:
            self._same_length("answer", self.answer, "distractor", self.distractor)
        if answer.in_a_row and self.row.position is not None:
            raise CircuitError(
                f"{self._said('position')}: tokens in a row are read behind the prompt: leave it "
                "out."
            )
        same = self.answer == self.distractor or (
            not answer.in_a_row and set(self.answer) == set(self.distractor)
        )
        if same:
            raise CircuitError(
                f"{self._said()}: the answer is equal to its distractor, so nothing is measured: "
                "change one of them."
            )

    def _same_length(self, a: str, one: Ids, b: str, other: Ids) -> None:
        """Refuse unequal numbers of tokens; a note of the error shows them under each other."""
        if len(one) == len(other):
            return
        split = tokens_of(self.tokenizer, one), tokens_of(self.tokenizer, other)
        at, left, right = parting(*split)
        error = CircuitError(
            f"{self._said()}: {len(one)} {a} and {len(other)} {b} tokens must be as many: they "
            f"part at token {at}, {left} against {right}; take words that are split into as many."
        )
        for line in side_by_side((a, b), *split):
            error.add_note(line)
        raise error

    def _look(self) -> str:
        return f"mechshift tokens {named(self.asking.folder)} shows them"

    def _check_continues(self) -> None:
        """Refuse an answer that the tokenizer merges with the end of its prompt."""
        for prompt_side, side in (("clean", "answer"), ("corrupted", "distractor")):
            prompt = getattr(self.row, prompt_side)
            for part in getattr(self.row, side).parts:
                if not isinstance(part, str) or not isinstance(prompt, str):
                    continue
                if continues(self.tokenizer, prompt, part):
                    continue
                advice = (
                    "end the prompt without a space and begin the answer with it"
                    if prompt[-1].isspace()
                    else f"begin it with a space, {shown(' ' + part)}"
                    if not part[0].isspace()
                    else "end the prompt elsewhere"
                )
                raise CircuitError(
                    f"{self._said(side)}: the tokenizer merges the end of the {prompt_side} prompt "
                    f"with {shown(part)}, so the model never sees these tokens: {advice}."
                )

    def _at_position(self, number: int, position: int) -> Item:
        length = len(self.clean)
        at = position + length if position < 0 else position
        if not 0 <= at < length:
            raise CircuitError(
                f"{self._said('position')}: {position} is none of the prompt's {length} tokens."
            )
        return Item(
            example=number,
            step=self.row.step or 0,
            clean=self.clean,
            corrupted=self.corrupted,
            reads=(at,),
            answers=(self.answer,),
            distractors=(self.distractor,),
        )

    def _example(self) -> Example:
        """What the readout asks: one position of alternatives, or one for each token in a row."""
        answer, distractor = self.answer, self.distractor
        sets: tuple[tuple[Ids, ...], tuple[Ids, ...]] = (answer,), (distractor,)
        if self.row.answer.in_a_row:
            sets = tuple((t,) for t in answer), tuple((t,) for t in distractor)
        else:
            # which alternative stands for the others makes no difference but that the two differ
            answer, distractor = _unlike(answer, distractor)
        return Example(
            task="text",
            clean=self.clean,
            corrupted=self.corrupted,
            answer=answer,
            distractor=distractor,
            answers=sets[0],
            distractors=sets[1],
            text=self.row.clean if isinstance(self.row.clean, str) else "",
        )


def _unlike(answers: Sequence[int], distractors: Sequence[int]) -> tuple[Ids, Ids]:
    """One of each set, not the same token; there are some, as the sets differ."""
    return next(((a,), (d,)) for a in answers for d in distractors if a != d)
