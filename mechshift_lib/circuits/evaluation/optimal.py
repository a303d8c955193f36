"""Optimal ablation (Li & Janson 2024): the constants that hurt a circuit least.

A mean can be far from anything that the readers know, so a circuit loses something by what the cut
edges carry, not only by what they don't. Optimal ablation takes that away: every source gets the
constant output (by position, among items of one length and denoising step) at which the circuit's
run diverges least from the clean run,

    a* = argmin_a  mean over the reference set of KL(clean run ‖ run with a on the cut edges),

the mean over an item's reads and over items, whatever the metric is. Each circuit has constants of
its own. They are found by gradient descent from the means (Adam, the step falling to 0), and the
best on the way are kept, so they are never worse than the means on the reference set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.ablation import Ablated, Means, Reference
from mechshift_lib.circuits.evaluation.batch import DEFAULT_BUDGET, rows_at_once
from mechshift_lib.circuits.evaluation.masked import keep_tables, masked_run
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.metrics import Reads, reads_for
from mechshift_lib.circuits.questions.reading import read_out
from mechshift_lib.circuits.tracing.layers import NOTHING, run_layers
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: Steps of gradient descent, and the first step's size in root mean squares of a node's outputs.
STEPS, RATE = 100, 0.1
#: Gradients keep about so many times what a pass without them does.
_KEPT_FOR_GRADIENTS = 8


@dataclass(frozen=True)
class Fitted:
    """Constants of every circuit, and what they were fitted to.

    Attributes:
        means: the constants, one :class:`Means` per circuit.
        before: divergence with the means, in nats, the mean over the reference set's items,
            ``[n_circuit]``.
        after: divergence with the constants, likewise; never above ``before``.
    """

    means: list[Means]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


def prepare(
    model: LoadedModel,
    graph: Graph,
    items: Sequence[Item],
    masks: NDArray[np.bool_],
    ablation: Ablation | str,
    reference: Sequence[Item] | None,
    batch_size: int,
    memory_budget: int | None = None,
) -> list[tuple[slice, Ablated]]:
    """What cut edges carry in which circuits: in all of them the same, unless it is fitted.

    Args:
        model: a loaded model.
        graph: its graph.
        items: what will be run.
        masks: intact edges, ``[n_circuit, n_edges]``.
        ablation: which ablation.
        reference: set that means and optimal constants come from; ``items`` without one.
        batch_size: rows per pass.
        memory_budget: bytes that a pass may take.

    Raises:
        CircuitError: the ablation is unknown or a reference item malformed.
    """
    ablated = Ablated.of(model, items, ablation, reference, batch_size)
    if ablated.means is None or ablated.kind is not Ablation.OPTIMAL or not len(masks):
        return [(slice(0, len(masks)), ablated)]
    ablated.means.check(items)  # before what takes long
    fitted = fit_constants(
        model,
        graph,
        items if reference is None else reference,
        masks,
        start=ablated.means,
        batch_size=batch_size,
        memory_budget=memory_budget,
    )
    return [
        (slice(row, row + 1), Ablated(ablated.kind, means))
        for row, means in enumerate(fitted.means)
    ]


def fit_constants(
    model: LoadedModel,
    graph: Graph,
    items: Sequence[Item],
    masks: NDArray[np.bool_],
    *,
    start: Means | None = None,
    steps: int = STEPS,
    rate: float = RATE,
    batch_size: int = 32,
    memory_budget: int | None = None,
) -> Fitted:
    """Fit the constants of every circuit on a reference set.

    Args:
        model: a loaded model.
        graph: its graph.
        items: the reference set.
        masks: intact edges, ``[n_circuit, n_edges]``.
        start: where to start from; by default the means over ``items``.
        steps: steps of gradient descent.
        rate: size of the first step, in root mean squares of each node's outputs.
        batch_size: rows (circuits × items) per pass.
        memory_budget: bytes that the sources' outputs of a pass may take.

    Raises:
        CircuitError: the divergence is NaN.
    """
    start = Means.of(model, items, batch_size) if start is None else start
    budget = DEFAULT_BUDGET if memory_budget is None else memory_budget
    own: list[dict[tuple[int, int], Reference]] = [{} for _ in masks]
    before, after = np.zeros(len(masks)), np.zeros(len(masks))
    for key, group in Means.grouped(items).items():
        share = len(group) / len(items)
        rows = rows_at_once(model, graph, group, batch_size, budget // _KEPT_FOR_GRADIENTS)
        batches = [
            _Batch.of(model, group[first : first + rows]) for first in range(0, len(group), rows)
        ]
        at_once = max(1, rows // len(batches[0].clean))
        for first in range(0, len(masks), at_once):
            chosen = slice(first, first + at_once)
            found = _descend(model, graph, batches, masks[chosen], start.by_key[key], steps, rate)
            for place, constants in zip(own[chosen], found.constants, strict=True):
                place[key] = constants
            before[chosen] += share * found.before
            after[chosen] += share * found.after
    return Fitted([Means(x) for x in own], before, after)


@dataclass(frozen=True)
class _Batch:
    """Items of one length: their clean inputs and reads, with the clean run's probabilities."""

    clean: Tensor
    reads: Reads

    @classmethod
    @torch.no_grad()
    def of(cls, model: LoadedModel, items: Sequence[Item]) -> _Batch:
        ids = torch.tensor([item.clean for item in items], device=model.device)
        unembed = at(model.hf, model.anatomy.unembed)
        final = run_layers(model, ids, NOTHING).final
        return cls(ids, reads_for("kl", items, model.device, final, unembed))


@dataclass(frozen=True)
class _Found:
    """Constants of some circuits for one length and step, with the divergences."""

    constants: list[Reference]
    before: NDArray[np.float64]
    after: NDArray[np.float64]


@torch.enable_grad()
def _descend(
    model: LoadedModel,
    graph: Graph,
    batches: Sequence[_Batch],
    masks: NDArray[np.bool_],
    start: Reference,
    steps: int,
    rate: float,
) -> _Found:
    """Gradient descent for some circuits at once; none makes a difference to another."""
    parts = [start.embed, *start.heads, *start.mlps]  # [1, pos, width] each
    sizes = [_size(part) for part in parts]
    moved = [part.new_zeros(len(masks), *part.shape[1:]).requires_grad_(True) for part in parts]
    adam = torch.optim.Adam(moved, lr=rate)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / max(1, steps))
    best = torch.full((len(masks),), torch.inf, dtype=torch.float64)
    kept = [x.detach().clone() for x in moved]
    first = best
    for step in range(steps + 1):
        adam.zero_grad()
        loss = torch.zeros_like(best)
        for batch in batches:
            constants = [part + size * x for part, size, x in zip(parts, sizes, moved, strict=True)]
            loss += _diverged(model, graph, batch, masks, _reference(constants))
        loss /= sum(len(batch.clean) for batch in batches)
        first = loss if step == 0 else first
        better = (loss < best).to(model.device)
        for old, new in zip(kept, moved, strict=True):
            old[better] = new.detach()[better]
        best = torch.minimum(best, loss)
        if step < steps:
            adam.step()
            falling.step()
    constants = [part + size * x for part, size, x in zip(parts, sizes, kept, strict=True)]
    whole = _reference(constants)
    return _Found(
        [_row(whole, row) for row in range(len(masks))],
        first.numpy(),
        best.numpy(),
    )


def _diverged(
    model: LoadedModel,
    graph: Graph,
    batch: _Batch,
    masks: NDArray[np.bool_],
    constants: Reference,
) -> Tensor:
    """Sum over a batch of the divergence from the clean run, float64 on the CPU, ``[n_circuit]``.

    Its gradient is added to that of the constants, which have one row per circuit.
    """
    times, (batch_size, length) = len(masks), batch.clean.shape
    cut = constants.map(lambda x: x.repeat_interleave(batch_size, 0))
    final = masked_run(
        model,
        graph,
        batch.clean.repeat(times, 1),
        cut,
        list(cut.streams(model)),
        keep_tables(graph, masks, cut.embed.dtype, model.device, batch_size),
        positions=slice(0, length),
    )
    rows = torch.arange(batch_size, device=model.device).repeat(times)
    value, _ = read_out(model, "kl", final, batch.reads.take(rows))
    loss = -value.unflatten(0, (times, batch_size)).sum(1)
    if loss.requires_grad:
        loss.sum().backward()  # type: ignore[no-untyped-call]
    return loss.detach().double().cpu()


def _size(part: Tensor) -> float:
    """Root mean square of a node's mean outputs; 1 for a node that writes nothing."""
    return float(part.square().mean().sqrt()) or 1.0


def _reference(parts: Sequence[Tensor]) -> Reference:
    """The embedding's, all layers' heads' and all MLPs' outputs, in this order."""
    layers = len(parts) // 2
    return Reference(parts[0], list(parts[1 : 1 + layers]), list(parts[1 + layers :]))


def _row(whole: Reference, row: int) -> Reference:
    return whole.map(lambda x: x[row : row + 1].detach())
