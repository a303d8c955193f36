"""Examples files as they are written: JSON, JSON lines or CSV to rows, before any tokenizer."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
)

from mechshift_lib.documents.files import read_text
from mechshift_lib.errors import CircuitError, shown

Id = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
#: A prompt: its token ids, or its text.
Prompt = Annotated[
    Annotated[tuple[Id, ...], Field(min_length=1), Tag("ids")]
    | Annotated[str, Field(min_length=1), Tag("text")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "ids"),
]
#: The two answers of several tokens, as JSON and the columns of CSV name them.
IN_A_ROW, ANY_OF = "in_a_row", "any_of"
#: What parts alternatives in a cell of CSV.
BETWEEN = "|"
_SIDES = ("answer", "distractor")
_NUMBERS = ("position", "example", "step")
_FIELDS = ("clean", "corrupted", *_SIDES, *_NUMBERS)


@dataclass(frozen=True)
class Answer:
    """What should follow a prompt, or shouldn't.

    Attributes:
        parts: ids or texts.
        in_a_row: ``parts`` is one text, or ids one after the other, each of which is read in turn;
            otherwise they are alternatives of one token each, whose probability counts together.
    """

    parts: tuple[int | str, ...]
    in_a_row: bool = False


def _answer(value: Any) -> Answer:
    """An answer as it stands in a file: an id, a text, alternatives, or tokens in a row."""
    if isinstance(value, Answer):
        return value
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in (IN_A_ROW, ANY_OF):
            raise ValueError(
                f'an object here is {{"{IN_A_ROW}": ...}} or {{"{ANY_OF}": [...]}}, '
                f"not {shown(dict(value))}"
            )
        [(name, inner)] = value.items()
        if name == ANY_OF and not isinstance(inner, list | tuple):
            raise ValueError(f"{ANY_OF} takes a list, not {shown(inner)}")
        if name == IN_A_ROW and isinstance(inner, list | tuple) and str in map(type, inner):
            raise ValueError(f"{IN_A_ROW} takes one text, or a list of ids, not {shown(inner)}")
        return Answer(_parts(inner), in_a_row=name == IN_A_ROW)
    return Answer(_parts(value))


def _parts(value: Any) -> tuple[int | str, ...]:
    parts = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not parts:
        raise ValueError("the list is empty: give at least one token")
    for part in parts:
        whole = isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 2**63
        if not whole and not (isinstance(part, str) and part):
            raise ValueError(f"give token ids, from 0, or texts, not {shown(part)}")
    return parts


AnswerField = Annotated[Any, BeforeValidator(_answer)]


class ExampleRow(BaseModel):
    """One entry of an examples file: one question to the model.

    Attributes:
        clean: the prompt, as text or input ids.
        corrupted: the prompt whose answer is another one, of as many tokens.
        answer: what should be likely: a token as text or id, a list of alternatives
            (``{"any_of": [...]}`` says the same), or several tokens, ``{"in_a_row": " New York"}``.
        distractor: the same for what should be unlikely.
        position: position of the logits that are read; negative ones count from the end of the
            prompt. With ids it is the last by default; with texts it is where the readout asks.
        example: number of the example that the entry belongs to. Entries of one example (an MDM's
            denoising steps, several positions) are averaged before examples are. Either every
            entry has one or none; without, each entry is an example of its own.
        step: denoising step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clean: Prompt
    corrupted: Prompt
    answer: AnswerField
    distractor: AnswerField
    position: Annotated[int, Field(strict=True)] | None = None
    example: Id | None = None
    step: Id | None = None

    @property
    def has_text(self) -> bool:
        """Whether a tokenizer is needed."""
        parts = (*self.answer.parts, *self.distractor.parts)
        return any(isinstance(x, str) for x in (self.clean, self.corrupted, *parts))


@dataclass(frozen=True)
class Rows:
    """The entries of an examples file.

    Attributes:
        path: the file.
        entries: its entries.
        places: where each stands, such as ``list[3]``, ``line 4`` or ``row 4``.
    """

    path: str | Path
    entries: tuple[ExampleRow, ...]
    places: tuple[str, ...]

    def said(self, index: int, field: str = "") -> str:
        """How a sentence about an entry, or one of its fields, begins."""
        return f"Examples file {self.path}: {self.places[index]}{field and '.' + field}"


def read_rows(path: str | Path) -> Rows:
    """Read and validate an examples file.

    ``.jsonl`` and ``.ndjson`` are JSON lines and ``.csv`` is CSV with a header; any other name is
    a JSON list.

    Raises:
        CircuitError: the file is missing, of another form, empty, or an entry is malformed.
    """
    text = read_text(path, "Examples file", CircuitError)
    suffix = Path(path).suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        raw, places = _json_lines(text, path)
    elif suffix == ".csv":
        raw, places = _csv(text, path)
    else:
        raw, places = _json_list(text, path)
    try:
        entries = TypeAdapter(list[ExampleRow]).validate_python(raw)
    except ValidationError as error:
        raise CircuitError(f"Examples file {path}: {_first(error, places)}.") from error
    if not entries:
        raise CircuitError(f"Examples file {path} is empty: give at least one example.")
    named = Counter(entry.example is None for entry in entries)
    if len(named) == 2:
        raise CircuitError(
            f"Examples file {path}: {named[True]} of {len(entries)} entries don't say their "
            "example: give 'example' in all of them or in none."
        )
    return Rows(path, tuple(entries), tuple(places))


#: Kinds of faults that pydantic names without a way out -> what is said of them.
WAYS_OUT = {
    "extra_forbidden": "there is no such field: take it out, or correct its name",
    "missing": "it isn't given: add it",
    "string_too_short": "it is empty: write the text",
    "too_short": "it is empty: give at least one",
}


def _first(error: ValidationError, places: Sequence[str]) -> str:
    """Where the first thing is wrong, and what."""
    first = error.errors(include_url=False, include_input=False)[0]
    index, *inner = first["loc"] or ("",)
    if not isinstance(index, int):
        return "give a list of entries, [{…}, …], or call a file of one entry a line .jsonl"
    tags = ("ids", "text")  # the forms of a prompt, which no file names
    where = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in inner if x not in tags)
    said = first["msg"].removeprefix("Value error, ")
    return f"{places[index]}{where}: {WAYS_OUT.get(first['type'], said)}"


def _json_list(text: str, path: str | Path) -> tuple[Any, list[str]]:
    content = _json(text, f"Examples file {path}")
    size = len(content) if isinstance(content, list) else 0
    return content, [f"list[{i}]" for i in range(size)]


def _json_lines(text: str, path: str | Path) -> tuple[list[Any], list[str]]:
    lines = [(f"line {i}", x) for i, x in enumerate(text.split("\n"), start=1) if x.strip()]
    return (
        [_json(line, f"Examples file {path}: {place}") for place, line in lines],
        [place for place, _ in lines],
    )


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        more = "; JSON lines are read from names in .jsonl" if error.msg == "Extra data" else ""
        raise CircuitError(f"{where} is not valid JSON: {error}{more}.") from error
    except ValueError as error:
        raise CircuitError(f"{where} is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise CircuitError(f"{where} is nested too deeply: give flat JSON.") from error


def _csv(text: str, path: str | Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a CSV file as they would stand in JSON; an empty cell says nothing."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        cells = [(reader.line_num, row) for row in reader if any(row)]
    except csv.Error as error:
        raise CircuitError(
            f"Examples file {path} is not valid CSV (line {reader.line_num}): {error}."
        ) from error
    known = [*_FIELDS, *(f"{side}_{kind}" for side in _SIDES for kind in (IN_A_ROW, ANY_OF))]
    wrong = [name for name in header if name not in known or header.count(name) > 1]
    if wrong or not header:
        raise CircuitError(
            f"Examples file {path} has the column {shown(wrong[0] if wrong else '')}: the first "
            f"line names columns, each once, out of {', '.join(known)}."
        )
    for line, row in cells:
        if len(row) != len(header):
            raise CircuitError(
                f"Examples file {path}: line {line} has {len(row)} cells and the header "
                f'{len(header)}: put a text with commas into "quotes".'
            )
    places = [f"line {line}" for line, _ in cells]
    rows = [
        _cells(dict(zip(header, row, strict=True)), f"Examples file {path}: {place}")
        for place, (_, row) in zip(places, cells, strict=True)
    ]
    return rows, places


def _cells(row: Mapping[str, str], where: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for column, cell in row.items():
        if not cell:
            continue
        side, _, kind = column.partition("_")
        if side in made:
            raise CircuitError(f"{where} has two cells for its {side}: fill one of them.")
        if column in _NUMBERS:
            made[column] = _number(cell, f"{where}.{column}")
        elif kind == ANY_OF:
            made[side] = {ANY_OF: cell.split(BETWEEN)}
        else:
            made[side] = {IN_A_ROW: cell} if kind else cell
    return made


def _number(cell: str, where: str) -> int:
    try:
        return int(cell)
    except ValueError as error:
        raise CircuitError(f"{where} is {shown(cell)}: give a whole number.") from error
