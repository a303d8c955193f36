"""``mechshift evaluate`` of a folder of circuits of growing size, as MIB takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mechshift_lib.choices import RANKINGS
from mechshift_lib.circuits.evaluation.curve import Curve
from mechshift_lib.circuits.evaluation.faithfulness import run_with_empty
from mechshift_lib.circuits.graph.circuit import check_out
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.selection import Mask
from mechshift_lib.cli.files.curves import Questions, export_curves
from mechshift_lib.cli.files.partial import in_chunks, join_curves, partial_path
from mechshift_lib.cli.files.tables import SUFFIXES
from mechshift_lib.errors import CircuitError
from mechshift_lib.exchange.reading import read_circuit
from mechshift_lib.models.readout import Item

#: What the table says of how these edges were chosen.
GIVEN = "given"


def evaluate_circuits(
    questions: Questions, folder: str | Path, *, out: str | Path | None = None
) -> list[Curve]:
    """Faithfulness of the circuits that the files of a folder are, and of the whole model.

    Each stands at the share of edges that it has; MIB puts them at the nominal shares. The two
    curves have the same circuits, one for CPR and one for CMD, as how they were ranked isn't known.

    Args:
        questions: the model and what it is asked.
        folder: its ``.json`` files are circuits.
        out: where the points go, as ``.csv``, ``.parquet`` or ``.json`` (with CPR and CMD).

    Raises:
        CircuitError: there are no circuits, one is malformed or says nothing of membership, or the
            metric is NaN.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise CircuitError(
            f"Folder {folder} has no .json files: put a circuit in each, or name one."
        )
    if out is not None:
        check_out(out, SUFFIXES)
    model, items, reference = questions.open()
    graph = Graph.for_model(model)
    masks = [_members(path, graph) for path in paths]
    masks = sorted([*masks, np.ones(graph.n_edges, dtype=bool)], key=lambda mask: int(mask.sum()))
    counts = np.array([int(mask.sum()) for mask in masks])

    def work(chunk: Sequence[Item]) -> Curve:
        runs, empty = run_with_empty(model, chunk, masks, **questions.options(reference))
        return Curve(
            fractions=counts / graph.n_edges,
            n_edges=counts,
            by=RANKINGS[0],
            selection=GIVEN,
            examples=runs.examples,
            values=runs.values[: len(masks)],
            correct=runs.correct[: len(masks)],
            full=runs.clean,
            empty=empty,
        )

    def both(done: list[Curve]) -> list[Curve]:
        curve = join_curves(done)
        return [replace(curve, by=ranking) for ranking in RANKINGS]

    def keep(done: list[Curve]) -> Path | None:
        if out is None:
            return None
        export_curves(both(done), partial_path(out))
        return partial_path(out)

    curves = both(in_chunks(questions.chunks(items), work, keep))
    if out is not None:
        export_curves(curves, out)
        partial_path(out).unlink(missing_ok=True)
    return curves


def _members(path: Path, graph: Graph) -> Mask:
    found = read_circuit(path, graph)
    if found.members is None:
        raise CircuitError(
            f"{path} puts no edge into its circuit: name that file alone if it has scores, or take "
            "it out of the folder."
        )
    return found.members
