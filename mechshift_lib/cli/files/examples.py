"""Examples files and ``mechshift attribute``: any model folder and prompts, from file to file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from mechshift_lib.choices import KV, Attention, Dtype, Quantization
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
from mechshift_lib.cli.files.hub import model_folder
from mechshift_lib.cli.files.partial import (
    example_chunks,
    in_chunks,
    join_attributions,
    partial_path,
)
from mechshift_lib.cli.files.prompts import Asking, items_of_rows
from mechshift_lib.cli.files.remote import asked_remotely
from mechshift_lib.cli.files.rows import read_rows
from mechshift_lib.config import DeviceMap, ReadoutName
from mechshift_lib.models.loading import load_folder
from mechshift_lib.models.readout import Item


def read_examples(path: str | Path, asking: Asking | None = None) -> list[Item]:
    """Read and validate an examples file: JSON, JSON lines or CSV.

    Args:
        path: the file; see :func:`mechshift_lib.cli.files.rows.read_rows`.
        asking: how entries with text are asked; without, they are refused.

    Raises:
        CircuitError: the file is missing, malformed or empty, or an entry can't be asked.
        ModelError: a tokenizer is needed and can't be read.
    """
    return items_of_rows(read_rows(path), asking)


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
    quantization: Quantization | None = None,
    device_map: DeviceMap | None = None,
    readout: ReadoutName = "next-token",
    mask_token: str | None = None,
    revision: str | None = None,
    remote: str | None = None,
    progress: bool = False,
) -> Attribution:
    """Score all edges of the model in a folder, or of the hub, on the examples of a file.

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
    asking = Asking(model_dir, readout, mask_token, attention)
    rows = read_rows(examples_path)
    served = asked_remotely(
        remote,
        "attribute --method exact" if method == "exact" else "attribute",
        model_dir,
        revision,
        attention=attention,
        kv=kv,
        device=device,
        quantization=quantization,
        device_map=device_map,
    )
    folder = model_folder(model_dir, revision)
    items = items_of_rows(rows, replace(asking, folder=folder))
    if by_position:
        one_length(items, "Resolving scores by position")
    check_corrupted(items)
    model = load_folder(
        folder,
        attention=attention,
        kv=kv,
        device=device,
        dtype=dtype,
        quantization=quantization,
        device_map=device_map,
        remote=served,
    )
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
