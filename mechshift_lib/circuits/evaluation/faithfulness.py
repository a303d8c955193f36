"""Circuit evaluation: how much of the behaviour do a ranking's first edges carry?

Runs are those of :mod:`mechshift_lib.circuits.evaluation.runs`: a circuit's edges intact, all
others ablated, norms recomputed. The numbers made of them are in
:mod:`mechshift_lib.circuits.evaluation.curve`; tests of one given circuit are in
:mod:`mechshift_lib.circuits.evaluation.completeness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.curve import FRACTIONS, Curve, cmd, cpr
from mechshift_lib.circuits.evaluation.runs import CircuitRuns, run_circuits
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.selection import Mask, select
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

__all__ = [
    "FRACTIONS",
    "CrossFaithfulness",
    "Curve",
    "RunOptions",
    "cmd",
    "cpr",
    "cross_faithfulness",
    "edge_counts",
    "faithfulness_curve",
    "faithfulness_curves",
]


class RunOptions(TypedDict, total=False):
    """Options of :func:`mechshift_lib.circuits.evaluation.runs.run_circuits`, with its defaults.

    Attributes:
        metric: name of the metric (``"logit-diff"``).
        ablation: what the edges outside a circuit carry (resample).
        reference: items that mean ablation averages over and optimal ablation is fitted on.
        batch_size: rows per pass; makes no difference to the values.
        memory_budget: bytes that a pass may take.
        progress: show a progress bar.
    """

    metric: str
    ablation: Ablation
    reference: Sequence[Item] | None
    batch_size: int
    memory_budget: int | None
    progress: bool


@dataclass(frozen=True)
class CrossFaithfulness:
    """One model's ranking inside another model, beside random rankings.

    Attributes:
        curve: of the circuit.
        random: of random rankings with the same numbers of edges.
    """

    curve: Curve
    random: tuple[Curve, ...]

    def frame(self, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
        """Rows of :meth:`Curve.frame` with ``ranking``: ``circuit`` or ``random 0``, …"""
        names = ["circuit", *(f"random {i}" for i in range(len(self.random)))]
        frames = [
            curve.frame(draws, seed).assign(ranking=name)
            for name, curve in zip(names, (self.curve, *self.random), strict=True)
        ]
        return pd.concat(frames, ignore_index=True)


def faithfulness_curve(
    model: LoadedModel,
    items: Sequence[Item],
    circuit: Circuit,
    *,
    fractions: Sequence[float] = FRACTIONS,
    by: str = "signed",
    selection: str = "top",
    **options: Unpack[RunOptions],
) -> Curve:
    """Evaluate the circuits of growing size that a ranking gives.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        circuit: scores of the model's edges, or of another model's with the same graph.
        fractions: shares of all edges, ascending; of n edges, ⌊share · n⌋ are kept.
        by: rank by ``"signed"`` score (for CPR) or ``"absolute"`` score (for CMD).
        selection: ``"top"``: the strongest edges; ``"greedy"``: connected to the logits.
        **options: see :class:`RunOptions`.

    Raises:
        CircuitError: the circuit is of another graph, an option is unknown or out of range, or
            what :func:`mechshift_lib.circuits.evaluation.runs.run_circuits` refuses.
    """
    return faithfulness_curves(
        model, items, [circuit], fractions=fractions, by=by, selection=selection, **options
    )[0]


def faithfulness_curves(
    model: LoadedModel,
    items: Sequence[Item],
    circuits: Sequence[Circuit],
    *,
    fractions: Sequence[float] = FRACTIONS,
    by: str = "signed",
    selection: str = "top",
    **options: Unpack[RunOptions],
) -> list[Curve]:
    """:func:`faithfulness_curve` of several rankings at once, which share the model's runs."""
    graph = Graph.for_model(model)
    for circuit in circuits:
        circuit.check_graph(graph)
    counts = edge_counts(graph.n_edges, fractions)
    masks = [select(circuit, n, by, selection) for circuit in circuits for n in counts.tolist()]
    runs, empty = run_with_empty(model, items, masks, **options)
    curves = []
    for start in range(0, len(masks), len(counts)):
        rows = slice(start, start + len(counts))
        curves.append(
            Curve(
                fractions=np.asarray(fractions, dtype=np.float64),
                n_edges=counts,
                by=by,
                selection=selection,
                examples=runs.examples,
                values=runs.values[rows],
                correct=runs.correct[rows],
                full=runs.clean,
                empty=empty,
            )
        )
    return curves


def cross_faithfulness(
    model: LoadedModel,
    items: Sequence[Item],
    circuit: Circuit,
    *,
    fractions: Sequence[float] = FRACTIONS,
    by: str = "signed",
    selection: str = "top",
    n_random: int = 5,
    seed: int = 0,
    **options: Unpack[RunOptions],
) -> CrossFaithfulness:
    """Does one model's circuit still carry the behaviour of another?

    The circuit's ranking is evaluated inside ``model`` on ``model``'s own questions, beside
    ``n_random`` controls that have the same scores on other edges (a seeded permutation), so the
    same numbers of edges.

    Args:
        model: the model that is asked (the MDM, say).
        items: its questions.
        circuit: scores of the other model's edges (the ARM's, say); both have one graph.
        fractions: as in :func:`faithfulness_curve`.
        by: as in :func:`faithfulness_curve`.
        selection: as in :func:`faithfulness_curve`.
        n_random: random rankings.
        seed: seed of the random rankings.
        **options: see :class:`RunOptions`.

    Raises:
        CircuitError: as :func:`faithfulness_curve`.
    """
    rng = np.random.default_rng(seed)
    random = [Circuit(circuit.graph, rng.permutation(circuit.scores)) for _ in range(n_random)]
    own, *others = faithfulness_curves(
        model, items, [circuit, *random], fractions=fractions, by=by, selection=selection, **options
    )
    return CrossFaithfulness(own, tuple(others))


def edge_counts(n_edges: int, fractions: Sequence[float]) -> NDArray[np.int64]:
    """Edges kept at each fraction, rounded down as the MIB benchmark does, ``[n_point]``.

    Raises:
        CircuitError: there are no fractions, or they aren't ascending numbers from 0 to 1.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or not ((shares >= 0) & (shares <= 1)).all():
        raise CircuitError("Fractions of edges are numbers from 0 to 1: give at least one.")
    if (np.diff(shares) <= 0).any():
        raise CircuitError("Fractions of edges must ascend: sort them and name each once.")
    # 0.29 · 100 is 28.999…: what is a whole number but for rounding stays one
    return np.floor(shares * n_edges + 1e-9).astype(np.int64)


def run_with_empty(
    model: LoadedModel,
    items: Sequence[Item],
    masks: Sequence[Mask],
    **options: Unpack[RunOptions],
) -> tuple[CircuitRuns, NDArray[np.float64]]:
    """Run circuits, and the metric with no edge intact as one more, ``[n_example]``.

    Under resample ablation that is the corrupted run; under the others it is a run of its own.
    """
    if options.get("ablation", Ablation.RESAMPLE) == Ablation.RESAMPLE:
        runs = run_circuits(model, items, np.stack(masks), **options)
        return runs, runs.corrupted
    runs = run_circuits(model, items, np.stack([*masks, np.zeros_like(masks[0])]), **options)
    return runs, runs.values[-1]
