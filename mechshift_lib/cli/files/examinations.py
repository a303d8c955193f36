"""``mechshift evaluate --given``: is a circuit's file all that the model uses, and minimal?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.circuits.evaluation.completeness import (
    Completeness,
    Minimality,
    completeness_of,
    minimality_of,
    without_edges,
    without_subsets,
)
from mechshift_lib.circuits.evaluation.curve import faithfulness
from mechshift_lib.circuits.evaluation.faithfulness import run_with_empty
from mechshift_lib.circuits.graph.circuit import check_out, write_file
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.cli.files.curves import Questions
from mechshift_lib.cli.files.partial import in_chunks, partial_path
from mechshift_lib.exchange.reading import check_circuit_path, read_circuit
from mechshift_lib.models.readout import Item

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Measured:
    """Metrics of some examples: of circuits ``[n_circuit, n_example]``, of all edges, of none."""

    values: Array
    full: Array
    empty: Array


def examine_file(
    questions: Questions,
    circuit_path: str | Path,
    *,
    sample: int | None = 100,
    out: str | Path | None = None,
) -> tuple[Completeness, Minimality]:
    """Completeness and minimality of a given circuit.

    It is the edges whose score in the file isn't 0; in a graph of EAP-IG or MIB that says which
    edges are in the circuit, those.

    When an example fails, what those finished before give is kept beside ``out``.

    Args:
        questions: the model and what it is asked.
        circuit_path: ``{edge name: score}``, a table that ``mechshift attribute`` writes, or a
            graph of EAP-IG or MIB.
        sample: edges to take out for the minimality, drawn at random; ``None``: all.
        out: where both go, as ``.json``.

    Raises:
        CircuitError: an example, option or the circuit is malformed, or the metric is NaN.
        ModelError: the model can't be loaded or doesn't attend as declared.
    """
    check_circuit_path(circuit_path)
    if out is not None:
        check_out(out, (".json",))
    model, items, reference = questions.open()
    graph = Graph.for_model(model)
    mask = read_circuit(circuit_path, graph).given
    less, removed = without_subsets(graph, mask)
    single, tried = without_edges(graph, mask, sample)
    masks = [*less, *single]

    def work(chunk: Sequence[Item]) -> _Measured:
        runs, empty = run_with_empty(model, chunk, masks, **questions.options(reference))
        return _Measured(runs.values[: len(masks)], runs.clean, empty)

    def both(done: list[_Measured]) -> tuple[Completeness, Minimality]:
        values = np.concatenate([part.values for part in done], axis=1)
        full, empty = (
            np.concatenate([getattr(part, name) for part in done]) for name in ("full", "empty")
        )
        f = faithfulness(values, full, empty)
        whole = completeness_of(mask, removed, f[: len(less)])
        return whole, minimality_of(graph, mask, tried, f[len(less) :])

    def keep(done: list[_Measured]) -> Path | None:
        if out is None:
            return None
        export_examination(*both(done), partial_path(out))
        return partial_path(out)

    whole, least = both(in_chunks(questions.chunks(items), work, keep))
    if out is not None:
        export_examination(whole, least, out)
        partial_path(out).unlink(missing_ok=True)
    return whole, least


def export_examination(whole: Completeness, least: Minimality, out: str | Path) -> None:
    """Write the completeness and the minimality of a circuit as ``.json``.

    Raises:
        CircuitError: the file can't be written.
    """
    content = {
        "n_edges": whole.n_edges,
        "faithfulness": whole.circuit,
        "faithfulness_of_the_complement": whole.complement,
        "subsets": whole.frame().to_dict("records"),
        "loss_by_edge": dict(zip(least.edges, least.loss.tolist(), strict=True)),
    }
    write_file(out, json.dumps(content, indent=1).encode())
