"""Circuit evaluation: run a model with only some edges intact.

A reader takes in Σ_u (kept ? this run's output of u : reference output of u); the reference is what
an :class:`mechshift_lib.circuits.evaluation.ablation.Ablation` says. Norms are recomputed, and
nothing but the edges into ``logits`` reaches the logits. All edges intact is the clean run, and
none, when resampling, the corrupted run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.batch import Measured, rows_at_once, run_batch
from mechshift_lib.circuits.evaluation.masked import keep_tables, masked_run
from mechshift_lib.circuits.evaluation.optimal import prepare
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import buckets, check_batch_size, check_items
from mechshift_lib.circuits.questions.means import ItemMeans
from mechshift_lib.circuits.questions.metrics import check_metric
from mechshift_lib.circuits.questions.reading import unembedded
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class CircuitRuns:
    """What each circuit achieves on every example.

    An example's value is the mean over its items, weighted by their number of reads.

    Attributes:
        graph: the graph whose edges were cut.
        examples: indices of the examples, ascending, ``[n_example]``.
        values: metric, ``[n_circuit, n_example]``.
        correct: share of the reads whose likeliest token is an answer, ``[n_circuit, n_example]``.
        clean: metric of the clean run, ``[n_example]``.
        corrupted: metric of the corrupted run, ``[n_example]``.
    """

    graph: Graph
    examples: NDArray[np.int64]
    values: NDArray[np.float64]
    correct: NDArray[np.float64]
    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]


def run_circuits(
    model: LoadedModel,
    items: Sequence[Item],
    masks: Masks,
    *,
    metric: str = "logit-diff",
    ablation: Ablation | str = Ablation.RESAMPLE,
    reference: Sequence[Item] | None = None,
    batch_size: int = 32,
    memory_budget: int | None = None,
    progress: bool = False,
) -> CircuitRuns:
    """Run every circuit on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        masks: intact edges, ``[n_circuit, n_edges]`` in the order of ``graph.names``.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        ablation: what cut edges carry.
        reference: the set that mean ablation averages over and optimal ablation is fitted on; the
            items themselves without one.
        batch_size: rows (circuits × items) per pass, fewer once a GPU's memory runs out; makes no
            difference to the values.
        memory_budget: bytes that the sources' outputs of a pass may take (1 GiB by default);
            passes get fewer rows to keep to it, at least one.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed, the masks have another shape, an option is unknown, the
            reference set lacks a length or step, or the metric is NaN.
    """
    check_items(items, model)
    check_metric(metric)
    graph = Graph.for_model(model)
    masks = check_masks(masks, graph)
    check_batch_size(batch_size)
    prepared = prepare(model, graph, items, masks, ablation, reference, batch_size, memory_budget)
    shape = (len(masks),)
    values, correct = ItemMeans(items, shape, np.float64), ItemMeans(items, shape, np.float64)
    ends = ItemMeans(items, (2,), np.float64)
    total = len(masks) * len(items)
    with tqdm(total=total, desc="circuits", unit="run", disable=not progress) as bar:
        size = BatchSize(batch_size)

        def measured(some: Sequence[Item]) -> list[Measured]:
            at_once, done = max(1, size.rows // len(some)), bar.n
            try:
                return [
                    run_batch(model, graph, some, masks[which], metric, ablated, at_once, bar)
                    for which, ablated in prepared
                ]
            except torch.OutOfMemoryError:
                bar.n = done  # all of it is run again
                raise

        for bucket in buckets(items):
            size.rows = rows_at_once(model, graph, bucket, size.rows, memory_budget)
            for some, found in retrying_batches(bucket, size, measured, rows_each=len(masks)):
                values.add(some, np.concatenate([part.values for part in found], 1))
                correct.add(some, np.concatenate([part.correct for part in found], 1))
                ends.add(some, found[0].ends)
    return CircuitRuns(
        graph=graph,
        examples=values.examples,
        values=values.by_example.T,
        correct=correct.by_example.T,
        clean=ends.by_example[:, 0],
        corrupted=ends.by_example[:, 1],
    )


@torch.no_grad()
def circuit_logits(
    model: LoadedModel,
    items: Sequence[Item],
    mask: NDArray[np.bool_],
    *,
    ablation: Ablation | str = Ablation.RESAMPLE,
    reference: Sequence[Item] | None = None,
    padding: Literal["left", "right"] | None = None,
) -> Tensor:
    """Logits at the reads when only a circuit is intact, ``[batch, n_read, vocab]``, in one pass.

    Args:
        model: a loaded model.
        items: questions with the same number of reads, of one length unless padded.
        mask: intact edges, ``[n_edges]``.
        ablation: what cut edges carry.
        reference: see :func:`run_circuits`.
        padding: pad shorter items on this side.

    Raises:
        CircuitError: lengths or numbers of reads differ, mean or optimal ablation with padding,
            or as in
            :func:`run_circuits`.
    """
    check_items(items, model)
    graph = Graph.for_model(model)
    masks = check_masks(np.asarray(mask)[None], graph)
    if len({len(item.reads) for item in items}) > 1:
        raise CircuitError("Logits need items with the same number of reads: ask one at a time.")
    longest = max(len(item.clean) for item in items)
    if padding is None and any(len(item.clean) < longest for item in items):
        raise CircuitError("The items have several lengths: say on which side to pad them.")
    kind = Ablation.named(ablation)
    if padding is not None and kind.by_position:
        raise CircuitError(
            f"{kind.capitalize()} ablation goes by position, so it can't be padded: leave it out."
        )
    ((_, ablated),) = prepare(model, graph, items, masks, kind, reference, len(items))
    left = padding == "left"
    clean, corrupted, kept = (
        torch.tensor([_padded(part, longest, left) for part in parts], device=model.device)
        for parts in (
            [item.clean for item in items],
            [item.corrupted for item in items],
            [(1,) * len(item.clean) for item in items],
        )
    )
    attention_mask = None if padding is None else kept
    cut = ablated.reference(items, run_layers(model, corrupted, mask=attention_mask))
    final = masked_run(
        model,
        graph,
        clean,
        cut,
        list(cut.streams(model)),
        keep_tables(graph, masks, cut.embed.dtype, model.device, len(items)),
        positions=slice(0, longest),
        mask=attention_mask,
    )
    reads = torch.tensor(
        [
            [read + (longest - len(item.clean) if left else 0) for read in item.reads]
            for item in items
        ],
        device=model.device,
    )
    taken = final.gather(1, reads[..., None].expand(-1, -1, final.shape[2]))
    return unembedded(model, taken)


def check_masks(masks: Masks, graph: Graph) -> Masks:
    """Circuits as an array of booleans.

    Raises:
        CircuitError: another shape or type.
    """
    masks = np.asarray(masks)
    if masks.ndim != 2 or masks.shape[1] != graph.n_edges or masks.dtype != np.bool_:
        raise CircuitError(
            f"Circuits must be an array of booleans [n_circuit, {graph.n_edges}], not "
            f"{masks.dtype} {list(masks.shape)}."
        )
    return masks


def _padded(ids: Sequence[int], length: int, left: bool) -> list[int]:
    """Ids padded with 0."""
    padding = [0] * (length - len(ids))
    return [*padding, *ids] if left else [*ids, *padding]
