"""A batch of items through many circuits: what a pass holds, and what it can leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.attribution.products import source_differences
from mechshift_lib.circuits.evaluation.ablation import Ablated, Reference
from mechshift_lib.circuits.evaluation.masked import keep_tables, masked_run
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import active_positions
from mechshift_lib.circuits.questions.metrics import item_metric, reads_for
from mechshift_lib.circuits.questions.reading import read_out
from mechshift_lib.circuits.tracing.layers import Written, run_layers
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

Masks = NDArray[np.bool_]

#: Memory that a pass may take for the sources' outputs unless a budget is given, in bytes.
DEFAULT_BUDGET = 1 << 30


def rows_at_once(
    model: LoadedModel,
    graph: Graph,
    batch: Sequence[Item],
    batch_size: int,
    memory_budget: int | None,
) -> int:
    """Rows per pass that keep the sources' outputs within the budget."""
    budget = DEFAULT_BUDGET if memory_budget is None else memory_budget
    row = 4 * graph.n_sources * len(batch[0].clean) * model.d_model
    return max(1, min(batch_size, budget // row))


@dataclass(frozen=True)
class Measured:
    """What a batch of items gave: values and shares of right reads ``[batch, n_circuit]``.

    ``ends`` are the metrics of the clean and the corrupted runs, ``[batch, 2]``.
    """

    values: NDArray[np.float64]
    correct: NDArray[np.float64]
    ends: NDArray[np.float64]


@torch.no_grad()
def run_batch(
    model: LoadedModel,
    graph: Graph,
    items: Sequence[Item],
    masks: Masks,
    metric: str,
    ablated: Ablated,
    circuits: int,
    bar: tqdm,
) -> Measured:
    """Run every circuit on items of one length, ``circuits`` of them at once.

    Circuits that leave the first layers whole go together, and skip them.
    """
    positions, stop = _positions(items, ablated, model.attention)
    clean_ids, corrupted_ids = (
        torch.tensor([ids[:stop] for ids in parts], device=model.device)
        for parts in ([item.clean for item in items], [item.corrupted for item in items])
    )
    unembed = at(model.hf, model.anatomy.unembed)
    clean, corrupted = run_layers(model, clean_ids), run_layers(model, corrupted_ids)
    reads = reads_for(metric, items, model.device, clean.final, unembed)
    ends = [item_metric(metric, run.final, unembed, reads) for run in (clean, corrupted)]
    cut = ablated.reference(items, corrupted).map(lambda x: x[:, :stop])
    streams = list(cut.streams(model))
    starts = whole_layers(graph, masks)
    known = _known(model, clean, cut, positions) if starts.max(initial=0) > 0 else None
    found = np.zeros((2, len(items), len(masks)))
    order = np.argsort(starts, kind="stable")
    for first in range(0, len(order), circuits):
        some = order[first : first + circuits]
        times, start = len(some), int(starts[some[0]])
        seen = None if start == 0 or known is None else known[:, : graph.sources_before(start)]
        final = masked_run(
            model,
            graph,
            clean_ids.repeat(times, 1),
            cut.repeated(times),
            [x.repeat(times, 1, 1) for x in streams],
            keep_tables(graph, masks[some], cut.embed.dtype, model.device, len(items)),
            positions=positions,
            before=None if seen is None else seen.repeat(times, 1, 1, 1),
            start=start,
        )
        rows = torch.arange(len(items), device=model.device).repeat(times)
        for row, part in enumerate(
            read_out(model, metric, final, reads.take(rows), positions.start)
        ):
            found[row][:, some] = part.double().cpu().numpy().reshape(times, -1).T
        bar.update(len(rows))
    return Measured(found[0], found[1], torch.stack(ends, 1).double().cpu().numpy())


def whole_layers(graph: Graph, masks: Masks) -> NDArray[np.int64]:
    """Number of layers before the first into which an edge is cut, ``[n_circuit]``."""
    starts = np.full(len(masks), graph.n_layers)
    for layer in range(graph.n_layers - 1, -1, -1):
        first = layer * graph.readers_per_layer
        edges = graph.edges_of(slice(first, first + graph.readers_per_layer))
        starts[~masks[:, edges].all(1)] = layer
    return starts


def _positions(items: Sequence[Item], ablated: Ablated, attention: str) -> tuple[slice, int]:
    """Positions at which a run can differ from its reference, and how many are run at all."""
    length = len(items[0].clean)
    stop = max(max(item.reads) for item in items) + 1 if attention == "causal" else length
    if ablated.kind is Ablation.RESAMPLE:
        return active_positions(items, attention), stop
    return slice(0, stop), stop


def _known(model: LoadedModel, clean: Written, cut: Reference, positions: slice) -> Tensor:
    """Every source's output, clean run minus reference, ``[batch, n_source, pos, d_model]``."""
    return source_differences(model, clean, cut, positions).transpose(1, 2)
