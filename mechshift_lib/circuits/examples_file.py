"""``mechshift attribute``: any Hugging Face folder and any prompts, from file to file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mechshift_lib.circuits.attribution import Attribution, attribute, interpolation_points
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.checks import Attention
from mechshift_lib.models.loading import KV, load_folder
from mechshift_lib.models.readout import Item

Id = Annotated[int, Field(ge=0, strict=True)]


class ExampleRow(BaseModel):
    """One entry of the examples file.

    Attributes:
        clean: input ids.
        corrupted: as many input ids.
        answer: id whose logit should be high.
        distractor: id whose logit should be low.
        position: position of the logits that are read; negative ones count from the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clean: tuple[Id, ...] = Field(min_length=1)
    corrupted: tuple[Id, ...] = Field(min_length=1)
    answer: Id
    distractor: Id
    position: Annotated[int, Field(strict=True)] = -1


def read_examples(path: str | Path) -> list[Item]:
    """Read and validate an examples file: a JSON list of :class:`ExampleRow`.

    Raises:
        CircuitError: the file is missing, not JSON, empty, or an entry is malformed.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CircuitError(f"Examples file {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise CircuitError(f"Examples file {path} is not valid JSON: {error}.") from error
    try:
        entries = TypeAdapter(list[ExampleRow]).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in first["loc"])
        raise CircuitError(f"Examples file {path}: list{where}: {first['msg']}.") from error
    if not entries:
        raise CircuitError(f"Examples file {path} is empty: give at least one example.")
    return [_item(index, entry) for index, entry in enumerate(entries)]


def _item(index: int, entry: ExampleRow) -> Item:
    length = len(entry.clean)
    position = entry.position + length if entry.position < 0 else entry.position
    if not 0 <= position < length:
        raise CircuitError(
            f"Example {index} reads position {entry.position}, but it has {length} tokens."
        )
    return Item(
        example=index,
        step=0,
        clean=entry.clean,
        corrupted=entry.corrupted,
        reads=(position,),
        answers=((entry.answer,),),
        distractors=((entry.distractor,),),
    )


def attribute_file(
    model_dir: str | Path,
    examples_path: str | Path,
    *,
    method: str = "eap-ig",
    steps: int = 5,
    points: str = "left",
    attention: Attention = "causal",
    kv: KV = "ungrouped",
    batch_size: int = 32,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Attribution:
    """Score all edges of the model in a folder on the examples of a file.

    The metric is the logit of the answer minus that of the distractor at ``position``. A score is
    summed over positions and averaged over examples; positive = corrupting the edge lowers the
    metric. ``out`` (``.json`` or ``.parquet``) receives ``{edge name: score}`` or the table.

    Raises:
        CircuitError: an example or option is malformed.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    interpolation_points(method, steps, points)  # say so before the model is read
    if out is not None:
        _suffix(out)
    items = read_examples(examples_path)
    model = load_folder(model_dir, attention=attention, kv=kv, device=device)
    result = attribute(
        model,
        items,
        method=method,
        steps=steps,
        points=points,
        batch_size=batch_size,
        progress=progress,
    )
    if out is not None:
        export_circuit(result, out)
    return result


def export_circuit(result: Attribution, out: str | Path) -> None:
    """Write an attribution as ``.json`` or ``.parquet``, whichever the name says.

    Raises:
        CircuitError: another suffix, or the file can't be written.
    """
    if _suffix(out) == ".json":
        result.circuit.to_json(out)
    else:
        result.circuit.to_parquet(out)


def _suffix(out: str | Path) -> str:
    suffix = Path(out).suffix
    if suffix not in (".json", ".parquet"):
        raise CircuitError(
            f"Can't write {Path(out).name!r}: its name must end in .json or .parquet."
        )
    return suffix
