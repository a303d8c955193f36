"""``mechshift patch``: a model folder and prompts to tables of patched activations or paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from mechshift_lib.choices import Direction, Through
from mechshift_lib.circuits.graph.circuit import check_out
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.activations import check_patching, patch_nodes
from mechshift_lib.circuits.patching.paths import PathPatching, check_through, patch_paths
from mechshift_lib.circuits.patching.record import SITES, Patching, Site
from mechshift_lib.cli.files.curves import Questions
from mechshift_lib.cli.files.partial import (
    example_chunks,
    in_chunks,
    join_patchings,
    join_paths,
    partial_path,
)
from mechshift_lib.cli.files.tables import SUFFIXES, write_table
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.readout import Item

#: Stands for every node that writes before a reader.
ALL = "all"


def patch_file(
    questions: Questions,
    *,
    sites: Sequence[Site] = SITES,
    direction: Direction = "denoise",
    by_position: bool = True,
    by_step: bool = True,
    out: str | Path | None = None,
) -> Patching:
    """Patch the activations of the model in a folder on the examples of a file.

    When an example fails, the table of those finished before is kept beside ``out``.

    Args:
        questions: the model and what it is asked; the batch size counts patched runs.
        sites: what to patch, some of :data:`mechshift_lib.circuits.patching.record.SITES`.
        direction: ``"denoise"`` or ``"noise"``.
        by_position: patch one position at a time; else all of them at once.
        by_step: rows for each denoising step; else their average.
        out: where the table goes, as ``.csv``, ``.parquet`` or ``.json``.

    Raises:
        CircuitError: an example or option is malformed, or the metric is NaN or the same in both
            runs.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    check_patching(sites, direction, questions.metric, questions.batch_size)
    if out is not None:
        check_out(out, SUFFIXES)
    model, items, _ = questions.open()
    longest = max(len(item.clean) for item in items)
    # a chunk fills a pass with all its positions
    chunks = list(example_chunks(items, max(1, questions.batch_size // longest)))

    bar = tqdm(total=len(items), desc="patching", unit="item", disable=not questions.progress)

    def work(chunk: Sequence[Item]) -> Patching:
        result = patch_nodes(
            model,
            chunk,
            sites=sites,
            direction=direction,
            metric=questions.metric,
            by_position=by_position,
            batch_size=questions.batch_size,
        )
        bar.update(len(chunk))
        return result

    def keep(done: list[Patching]) -> Path | None:
        if out is None:
            return None
        export_patching(join_patchings(done), partial_path(out), by_step=by_step)
        return partial_path(out)

    with bar:
        result = join_patchings(in_chunks(chunks, work, keep))
    if out is not None:
        export_patching(result, out, by_step=by_step)
        partial_path(out).unlink(missing_ok=True)
    return result


def export_patching(result: Patching, out: str | Path, *, by_step: bool = True) -> None:
    """Write :meth:`Patching.frame` with the direction and the metric in every row.

    JSON has the mean metrics of the clean and the corrupted run beside the rows.

    Raises:
        CircuitError: both runs have the same mean metric, another suffix, or the file can't be
            written.
    """
    table = result.frame(by_step=by_step)
    if table["value"].isna().all():
        raise _nothing_to_patch()
    table.insert(0, "direction", result.direction)
    table.insert(1, "metric", result.metric)
    ends = {
        name: float(_by_example(result, values).mean())
        for name, values in (("clean", result.clean), ("corrupted", result.corrupted))
    }
    write_table(table, out, "patches", ends)


def _by_example(result: Patching, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over an example's items, weighted by their number of reads, ``[n_example]``."""
    _, row = np.unique(result.examples, return_inverse=True)
    total = np.bincount(row, weights=result.reads)
    means: NDArray[np.float64] = np.bincount(row, weights=values * result.reads) / total
    return means


def patch_paths_file(
    questions: Questions,
    senders: Sequence[str],
    readers: Sequence[str],
    *,
    through: Through = "direct",
    together: bool = False,
    out: str | Path | None = None,
) -> PathPatching:
    """Patch the paths from senders to readers of the model in a folder.

    When an example fails, the table of those finished before is kept beside ``out``.

    Args:
        questions: the model and what it is asked; the batch size counts patched runs.
        senders: names of nodes, or ``"all"``: every node that writes before one of the readers.
        readers: names of readers, patched at once.
        through: ``"direct"`` or ``"mlps"``.
        together: patch all senders at once; else one after the other.
        out: where the table goes, as ``.csv``, ``.parquet`` or ``.json``.

    Raises:
        CircuitError: a name or option is unknown, an example is malformed, or the metric is NaN
            or the same in both runs.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    check_through(through)
    if out is not None:
        check_out(out, SUFFIXES)
    model, items, _ = questions.open()
    if list(senders) == [ALL]:
        senders = _before(Graph.for_model(model), readers)
    groups = 1 if together else len(senders)
    chunks = list(example_chunks(items, max(1, -(-questions.batch_size // groups))))

    bar = tqdm(total=len(items), desc="path patching", unit="item", disable=not questions.progress)

    def work(chunk: Sequence[Item]) -> PathPatching:
        result = patch_paths(
            model,
            chunk,
            senders,
            readers,
            through=through,
            together=together,
            metric=questions.metric,
            batch_size=questions.batch_size,
        )
        bar.update(len(chunk))
        return result

    def keep(done: list[PathPatching]) -> Path | None:
        if out is None:
            return None
        export_paths(join_paths(done), partial_path(out))
        return partial_path(out)

    with bar:
        result = join_paths(in_chunks(chunks, work, keep))
    if out is not None:
        export_paths(result, out)
        partial_path(out).unlink(missing_ok=True)
    return result


def _before(graph: Graph, readers: Sequence[str]) -> list[str]:
    """All nodes that write before one of the readers; unknown readers are refused later."""
    seen = [
        int(count)
        for name, count in zip(graph.readers, graph.visible, strict=True)
        if name in readers
    ]
    return graph.sources[: max(seen, default=1)]


def export_paths(result: PathPatching, out: str | Path) -> None:
    """Write :meth:`PathPatching.frame` with the metric in every row.

    JSON has the mean metrics of the clean and the corrupted run beside the rows.

    Raises:
        CircuitError: both runs have the same mean metric, another suffix, or the file can't be
            written.
    """
    table = result.frame()
    if table["value"].isna().all():
        raise _nothing_to_patch()
    table.insert(3, "metric", result.metric)
    ends = {"clean": float(result.clean.mean()), "corrupted": float(result.corrupted.mean())}
    write_table(table, out, "paths", ends)


def _nothing_to_patch() -> CircuitError:
    return CircuitError(
        "The clean and the corrupted run have the same metric, so a patch has no share of its "
        "change: choose examples whose clean and corrupted inputs differ."
    )
