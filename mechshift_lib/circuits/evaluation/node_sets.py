"""Ablation of sets of nodes: the model runs with what these nodes write replaced everywhere.

It equals cutting all edges that leave the nodes
(:func:`mechshift_lib.circuits.evaluation.runs.run_circuits`), but needs one ordinary forward pass a
set: a node whose every edge is cut can be replaced where it writes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.ablation import Ablated
from mechshift_lib.circuits.evaluation.runs import CircuitRuns, run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import batches, check_batch_size, check_items
from mechshift_lib.circuits.questions.means import ItemMeans
from mechshift_lib.circuits.questions.metrics import check_metric, item_metric, reads_for
from mechshift_lib.circuits.questions.reading import read_out
from mechshift_lib.circuits.tracing.interventions import replaced_run
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


def ablate_nodes(
    model: LoadedModel,
    items: Sequence[Item],
    node_sets: Sequence[Collection[str]],
    *,
    metric: str = "logit-diff",
    ablation: Ablation | str = Ablation.RESAMPLE,
    reference: Sequence[Item] | None = None,
    batch_size: int = 256,
    memory_budget: int | None = None,
    progress: bool = False,
) -> CircuitRuns:
    """Ablate sets of nodes, one set after the other, on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        node_sets: names of sources, such as ``["a0.h1", "m2"]``; an empty set is the clean run.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        ablation: what the nodes write instead.
        reference: the set that mean ablation averages over and optimal ablation is fitted on; the
            items themselves without one.
        batch_size: rows (sets × items) per pass; makes no difference to the values.
        memory_budget: for optimal ablation, see
            :func:`mechshift_lib.circuits.evaluation.runs.run_circuits`.
        progress: show a progress bar.

    Returns:
        The runs; a circuit is what a set of nodes leaves.

    Raises:
        CircuitError: a node is unknown or writes nothing (``logits``), or as in
            :func:`mechshift_lib.circuits.evaluation.runs.run_circuits`.
    """
    graph = Graph.for_model(model)
    cut = _cut(graph, node_sets)
    if Ablation.named(ablation) is Ablation.OPTIMAL:  # its constants belong to a circuit's edges
        return run_circuits(
            model,
            items,
            ~cut[:, graph.source_index],
            metric=metric,
            ablation=ablation,
            reference=reference,
            batch_size=batch_size,
            memory_budget=memory_budget,
            progress=progress,
        )
    check_items(items, model)
    check_metric(metric)
    check_batch_size(batch_size)
    ablated = Ablated.of(model, items, ablation, reference, batch_size)
    values, correct = (ItemMeans(items, (len(cut),), np.float64) for _ in range(2))
    ends = ItemMeans(items, (2,), np.float64)
    total = len(cut) * len(items)
    with tqdm(total=total, desc="ablation", unit="run", disable=not progress) as bar:
        for batch in batches(items, batch_size):
            found = _batch(model, batch, cut, metric, ablated, batch_size, bar)
            for sums, part in zip((values, correct, ends), found, strict=True):
                sums.add(batch, part)
    return CircuitRuns(
        graph=graph,
        examples=values.examples,
        values=values.by_example.T,
        correct=correct.by_example.T,
        clean=ends.by_example[:, 0],
        corrupted=ends.by_example[:, 1],
    )


def _cut(graph: Graph, node_sets: Sequence[Collection[str]]) -> NDArray[np.bool_]:
    """Which sources each set holds, ``[n_set, n_source]``."""
    known = {name: index for index, name in enumerate(graph.sources)}
    cut = np.zeros((len(node_sets), graph.n_sources), dtype=bool)
    for row, names in zip(cut, node_sets, strict=True):
        for name in names:
            if name not in known:
                raise CircuitError(
                    f"Unknown node {name!r}: nodes that can be ablated are 'input', heads such as "
                    f"'a0.h0' and MLPs such as 'm0', up to {graph.sources[-1]!r}."
                )
            row[known[name]] = True
    return cut


@torch.no_grad()
def _batch(
    model: LoadedModel,
    items: Sequence[Item],
    cut: NDArray[np.bool_],
    metric: str,
    ablated: Ablated,
    batch_size: int,
    bar: tqdm,
) -> list[NDArray[np.float64]]:
    """Values and shares of right reads ``[batch, n_set]``, and both ends ``[batch, 2]``."""
    clean_ids, corrupted_ids = (
        torch.tensor(ids, device=model.device)
        for ids in ([item.clean for item in items], [item.corrupted for item in items])
    )
    clean, corrupted = run_layers(model, clean_ids), run_layers(model, corrupted_ids)
    unembed = at(model.hf, model.anatomy.unembed)
    reads = reads_for(metric, items, model.device, clean.final, unembed)
    ends = [item_metric(metric, run.final, unembed, reads) for run in (clean, corrupted)]
    instead = ablated.reference(items, corrupted).map(lambda x: x.to(clean.embed.dtype))
    found = np.zeros((2, len(items), len(cut)))
    size = max(1, batch_size // len(items))
    for start in range(0, len(cut), size):
        some = slice(start, start + size)
        times = len(cut[some])
        rows = torch.arange(len(items), device=model.device).repeat(times)
        masks = torch.from_numpy(cut[some]).to(model.device).repeat_interleave(len(items), 0)
        final_in = replaced_run(model, clean_ids[rows], masks, instead.repeated(times))
        for kept, part in zip(
            found, read_out(model, metric, final_in, reads.take(rows)), strict=True
        ):
            kept[:, some] = part.double().cpu().numpy().reshape(times, -1).T
        bar.update(len(rows))
    return [found[0], found[1], torch.stack(ends, 1).double().cpu().numpy()]
