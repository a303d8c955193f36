"""Examples files and ``mechshift attribute``: any model folder and prompts, from file to file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from tqdm.auto import tqdm

from mechshift_lib.choices import KV
from mechshift_lib.circuits.attribution.edges import (
    Attribution,
    attribute,
)
from mechshift_lib.circuits.attribution.plan import check_method
from mechshift_lib.circuits.graph.circuit import check_out, check_suffix, write_file
from mechshift_lib.circuits.questions.items import (
    check_batch_size,
    check_corrupted,
    check_items,
    one_length,
)
from mechshift_lib.circuits.questions.metrics import check_metric
from mechshift_lib.cli.files.partial import (
    example_chunks,
    in_chunks,
    join_attributions,
    partial_path,
)
from mechshift_lib.config import Attention, Dtype
from mechshift_lib.documents.files import read_json
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import load_folder
from mechshift_lib.models.readout import Item

Id = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
#: One id, or a list of ids of which any counts.
Ids = Annotated[
    tuple[Id, ...],
    Field(min_length=1),
    BeforeValidator(lambda x: x if isinstance(x, list | tuple) else [x]),
]


class ExampleRow(BaseModel):
    """One entry of the examples file: one question to the model.

    Attributes:
        clean: input ids.
        corrupted: as many input ids.
        answer: id whose logit should be high, or a list of ids that all count as right.
        distractor: id whose logit should be low, or a list of ids that all count as wrong.
        position: position of the logits that are read; negative ones count from the end.
        example: number of the example that the entry belongs to. Entries of one example (an MDM's
            denoising steps, several positions) are averaged before examples are. Either every
            entry has one or none; without, each entry is an example of its own.
        step: denoising step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clean: tuple[Id, ...] = Field(min_length=1)
    corrupted: tuple[Id, ...] = Field(min_length=1)
    answer: Ids
    distractor: Ids
    position: Annotated[int, Field(strict=True)] = -1
    example: Id | None = None
    step: Id = 0


def read_examples(path: str | Path) -> list[Item]:
    """Read and validate an examples file: a JSON list of :class:`ExampleRow`.

    Raises:
        CircuitError: the file is missing, not JSON, empty, or an entry is malformed.
    """
    content = read_json(path, "Examples file", CircuitError)
    try:
        entries = TypeAdapter(list[ExampleRow]).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in first["loc"])
        raise CircuitError(f"Examples file {path}: list{where}: {first['msg']}.") from error
    if not entries:
        raise CircuitError(f"Examples file {path} is empty: give at least one example.")
    named = Counter(entry.example is None for entry in entries)
    if len(named) == 2:
        raise CircuitError(
            f"Examples file {path}: {named[True]} of {len(entries)} entries don't say their "
            "example: give 'example' in all of them or in none."
        )
    return [_item(index, entry) for index, entry in enumerate(entries)]


def _item(index: int, entry: ExampleRow) -> Item:
    length = len(entry.clean)
    position = entry.position + length if entry.position < 0 else entry.position
    if not 0 <= position < length:
        raise CircuitError(
            f"Example {index} reads position {entry.position}, but it has {length} tokens."
        )
    return Item(
        example=index if entry.example is None else entry.example,
        step=entry.step,
        clean=entry.clean,
        corrupted=entry.corrupted,
        reads=(position,),
        answers=(entry.answer,),
        distractors=(entry.distractor,),
    )


def attribute_file(
    model_dir: str | Path,
    examples_path: str | Path,
    *,
    metric: str = "logit-diff",
    method: str = "eap-ig",
    steps: int = 5,
    points: str = "left",
    attention: Attention = "causal",
    kv: KV = "ungrouped",
    batch_size: int = 32,
    by_position: bool = False,
    memory_budget: int | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: bool = False,
) -> Attribution:
    """Score all edges of the model in a folder on the examples of a file.

    A score is summed over positions and averaged over examples; positive = corrupting the edge
    lowers the metric. ``out`` receives what :func:`export_circuit` writes; when an example fails,
    the scores of those finished before are kept beside it.

    Raises:
        CircuitError: an example or option is malformed, or the metric is NaN.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    # what can be said without the model is said before it is read
    check_metric(metric)
    check_method(method, metric, steps, points)
    check_batch_size(batch_size)
    if out is not None:
        check_out(out)
    items = read_examples(examples_path)
    if by_position:
        one_length(items, "Resolving scores by position")
    check_corrupted(items)
    model = load_folder(model_dir, attention=attention, kv=kv, device=device, dtype=dtype)
    check_items(items, model)
    chunks = list(example_chunks(items, batch_size))
    with tqdm(total=len(items), desc=method, unit="item", disable=not progress) as bar:

        def work(chunk: Sequence[Item]) -> Attribution:
            result = attribute(
                model,
                chunk,
                metric=metric,
                method=method,
                steps=steps,
                points=points,
                batch_size=batch_size,
                by_position=by_position,
                memory_budget=memory_budget,
            )
            bar.update(len(chunk))
            return result

        def keep(done: list[Attribution]) -> Path | None:
            if out is None:
                return None
            export_circuit(join_attributions(done, chunks), partial_path(out))
            return partial_path(out)

        result = join_attributions(in_chunks(chunks, work, keep), chunks)
    if out is not None:
        export_circuit(result, out)
        partial_path(out).unlink(missing_ok=True)
    return result


def export_circuit(result: Attribution, out: str | Path) -> None:
    """Write an attribution as ``.json`` or ``.parquet``, whichever the name says.

    JSON is ``{edge name: score}``, or where scores are resolved by position ``{edge name: [score
    at each position of the reader]}``. Parquet is a table with one row an edge, and a column
    ``position_0`` … for each position.

    Raises:
        CircuitError: another suffix, or the file can't be written.
    """
    suffix, circuit, by_position = check_suffix(out), result.circuit, result.by_position
    if suffix == ".json" and by_position is not None:
        values: list[Any] = by_position.T.astype(float).tolist()
        named = dict(zip(circuit.graph.names, values, strict=True))
        write_file(out, json.dumps(named, indent=0).encode())
    elif suffix == ".json":
        circuit.to_json(out)
    else:
        rows = [] if by_position is None else list(by_position)
        circuit.to_parquet(out, **{f"position_{i}": np.asarray(row) for i, row in enumerate(rows)})
