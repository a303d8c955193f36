"""Exact patching of single edges: the yardstick for every attribution method.

score(u→v) = M(clean run) − M(clean run in which v alone takes in u's output of the corrupted run),
M being the metric: positive = corrupting this edge lowers the metric. Everything behind v is
computed again, norms included, and nothing in front of it.

A pass has one row per patched edge and item. Edges into one layer go together: all layers below are
skipped with the clean run's residual stream; what a reader takes in depends on the source alone, so
one projection serves all readers of a source. Edges into ``logits`` need no pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.circuits.attribution.products import source_differences
from mechshift_lib.circuits.attribution.scores import Attribution, ItemMeans, PositionMeans
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.sites import by_site
from mechshift_lib.circuits.questions.items import (
    active_positions,
    buckets,
    check_batch_size,
    check_items,
)
from mechshift_lib.circuits.questions.metrics import Reads, check_metric, item_metric, reads_for
from mechshift_lib.circuits.questions.reading import unembedded
from mechshift_lib.circuits.tracing.layers import NODES, Kept, LayerRun, run_layers
from mechshift_lib.circuits.tracing.resuming import run_behind
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at, gather_qkv, projection_bias, projection_rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.norms import normed
from mechshift_lib.models.readout import Item

#: What a run is patched from: what nodes write, and what stands at every reader.
PATCHED: frozenset[Kept] = NODES | {"attn_in", "qkv", "attended", "mlp_in"}
#: Memory for the sources' differences of the items that are patched together, in bytes.
_BUDGET = 1 << 28


def exact_scores(
    model: LoadedModel,
    items: Sequence[Item],
    *,
    metric: str = "logit-diff",
    edges: Sequence[int] | None = None,
    by_position: bool = False,
    batch_size: int = 32,
    progress: bool = False,
) -> Attribution:
    """Patch every edge on its own and measure what the metric loses.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        edges: positions of the edges to patch, in the order of ``graph.names``; all without. Edges
            that aren't patched score 0.
        by_position: patch every edge at single positions of the reader, too. These don't add up to
            the scores, for which it is patched at all positions at once.
        batch_size: rows (edges × items) per pass, fewer once a GPU's memory runs out; makes no
            difference to the scores.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed, an edge or option is unknown, items of several lengths
            are to be resolved by position, or the metric is NaN.
    """
    check_metric(metric)
    check_batch_size(batch_size)
    check_items(items, model)
    graph = Graph.for_model(model)
    chosen = _chosen(graph, edges)
    scores = ItemMeans(items, (graph.n_edges,))
    metrics = ItemMeans(items, (2,), np.float64)
    positions = PositionMeans(items, graph.n_edges) if by_position else None

    def patched(batch: Sequence[Item]) -> _Patched:
        setting = _Setting.of(model, graph, batch, metric, batch_size)
        ends = torch.stack([setting.clean_metric, setting.corrupted_metric], 1)
        resolved = range(setting.n_positions if by_position else 0)
        return _Patched(
            ends=ends.double().cpu().numpy(),
            scores=setting.scores(chosen, None),
            by_position=[setting.scores(chosen, position) for position in resolved],
            positions=setting.positions,
        )

    total = len(items) * len(chosen)
    with tqdm(total=total, desc="exact", unit="edge", disable=not progress) as bar:
        size = BatchSize(_items_at_once(model, graph, items, batch_size))
        for bucket in buckets(items):
            for batch, found in retrying_batches(bucket, size, patched):
                metrics.add(batch, found.ends)
                scores.add(batch, found.scores)
                if positions is not None:
                    positions.add(batch, np.stack(found.by_position, 1), found.positions)
                bar.update(len(batch) * len(chosen))
    return Attribution(
        graph=graph,
        examples=scores.examples,
        by_example=scores.by_example,
        steps=scores.steps,
        by_step=scores.by_step,
        metric_clean=metrics.by_example[:, 0],
        metric_corrupted=metrics.by_example[:, 1],
        by_position=None if positions is None else positions.mean,
    )


def _chosen(graph: Graph, edges: Sequence[int] | None) -> NDArray[np.int64]:
    """Edges to patch, ascending."""
    if edges is None:
        return np.arange(graph.n_edges)
    chosen = np.unique(np.asarray(edges, dtype=np.int64))
    if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < graph.n_edges:
        raise CircuitError(f"Edges are counted from 0 to {graph.n_edges - 1}: one is out of range.")
    return chosen


def _items_at_once(model: LoadedModel, graph: Graph, items: Sequence[Item], batch_size: int) -> int:
    """Items whose differences are held together."""
    longest = max(len(item.clean) for item in items)
    return max(1, min(batch_size, _BUDGET // (4 * graph.n_sources * longest * model.d_model)))


@dataclass(frozen=True)
class _Patched:
    """What a batch gave.

    Attributes:
        ends: metric of the clean and the corrupted runs, ``[batch, 2]``.
        scores: ``[batch, n_edges]``.
        by_position: the same of patches at each of ``positions``, where they were asked for.
        positions: positions at which anything can differ.
    """

    ends: NDArray[np.float64]
    scores: NDArray[np.float32]
    by_position: list[NDArray[np.float32]]
    positions: slice


@dataclass(frozen=True)
class _Setting:
    """A batch of items with its clean run, and how far every source is from it.

    Attributes:
        model: the model.
        graph: its graph.
        metric: name of the metric.
        batch_size: rows per pass.
        ids: clean input ids up to the last position that matters, ``[batch, pos]``.
        reads: the batch's reads.
        clean: the clean run.
        change: output of every source, corrupted minus clean, at ``positions``:
            ``[batch, pos, n_source, d_model]``.
        positions: positions at which anything can differ.
        clean_metric: ``[batch]``.
        corrupted_metric: ``[batch]``.
    """

    model: LoadedModel
    graph: Graph
    metric: str
    batch_size: int
    ids: Tensor
    reads: Reads
    clean: LayerRun
    change: Tensor
    positions: slice
    clean_metric: Tensor
    corrupted_metric: Tensor

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        graph: Graph,
        items: Sequence[Item],
        metric: str,
        batch_size: int,
    ) -> _Setting:
        """Run a batch of items of one length clean and corrupted."""
        positions = active_positions(items, model.attention)
        ids, other = (
            torch.tensor([x[: positions.stop] for x in inputs], device=model.device)
            for inputs in ([item.clean for item in items], [item.corrupted for item in items])
        )
        unembed = at(model.hf, model.anatomy.unembed)
        clean, corrupted = run_layers(model, ids, PATCHED), run_layers(model, other)
        reads = reads_for(metric, items, model.device, clean.final, unembed)
        return cls(
            model=model,
            graph=graph,
            metric=metric,
            batch_size=batch_size,
            ids=ids,
            reads=reads,
            clean=clean,
            change=source_differences(model, corrupted, clean, positions),
            positions=positions,
            clean_metric=item_metric(metric, clean.final, unembed, reads),
            corrupted_metric=item_metric(metric, corrupted.final, unembed, reads),
        )

    @property
    def n_positions(self) -> int:
        """Number of positions at which anything can differ."""
        return self.positions.stop - self.positions.start

    def scores(self, chosen: NDArray[np.int64], position: int | None) -> NDArray[np.float32]:
        """Metric lost by patching each chosen edge, ``[batch, n_edges]``.

        Args:
            chosen: edges.
            position: patch this one of ``positions`` only.
        """
        found = np.zeros((len(self.ids), self.graph.n_edges), dtype=np.float32)
        where = slice(None) if position is None else slice(position, position + 1)
        size = BatchSize(self.batch_size)
        differs = self.change[:, where].ne(0).any(3).any(1).cpu().numpy()  # [batch, n_source]
        for edges in by_site(self.graph, chosen):
            items, columns = np.nonzero(differs[:, self.graph.source_index[edges]])
            order = np.lexsort((columns, self.graph.source_index[edges][columns], items))
            items, rows = items[order], edges[columns[order]]
            for part, lost in retrying_batches(
                range(len(rows)),
                size,
                lambda part, items=items, rows=rows: self._lost(  # type: ignore[misc]
                    items[list(part)], rows[list(part)], where
                ),
                within=True,
            ):
                found[items[list(part)], rows[list(part)]] = lost
        return found

    def _lost(
        self, items: NDArray[np.int64], edges: NDArray[np.int64], where: slice
    ) -> NDArray[np.float32]:
        """What one pass measures: one row per item and edge of one site, ``[n_row]``."""
        graph, device = self.graph, self.model.device
        row = torch.from_numpy(items).to(device)
        sources = torch.from_numpy(graph.source_index[edges]).to(device)
        readers = torch.from_numpy(graph.reader_index[edges]).to(device)
        layer, split = int(graph.reader_layer[edges[0]]), graph.split[edges[0]]
        if split == "logits":
            final_in = self._patched(self.clean.final_in, row, sources, where)
        elif split == "mlp":
            taken = self._patched(self.clean.mlp_in[layer], row, sources, where)
            norm = at(self.model.anatomy.layer(self.model.hf, layer), self.model.anatomy.mlp_norm)
            final_in = run_behind(
                self.model,
                self.ids[row],
                layer,
                self.clean.attn_in[layer][row],
                attended=self.clean.attended[layer][row],
                mlp_normed=normed(self.model, norm, taken),
            )
        else:
            first = graph.readers_of(layer, "q").start
            final_in = run_behind(
                self.model,
                self.ids[row],
                layer,
                self.clean.attn_in[layer][row],
                qkv=self._patched_qkv(layer, row, sources, readers - first, where),
            )
        values = item_metric(
            self.metric,
            final_in.to(self.change.dtype),
            lambda x: unembedded(self.model, x),
            self.reads.take(row),
        )
        lost: NDArray[np.float32] = (self.clean_metric[row] - values).float().cpu().numpy()
        return lost

    def _patched(self, stream: Tensor, row: Tensor, sources: Tensor, where: slice) -> Tensor:
        """The clean stream with the sources' outputs of the corrupted run, ``[n_row, pos, d]``."""
        taken = stream[row].to(self.change.dtype)
        taken[:, self.positions][:, where] += self.change[row, where, sources]
        return taken

    def _patched_qkv(
        self, layer: int, row: Tensor, sources: Tensor, readers: Tensor, where: slice
    ) -> Tensor:
        """q, k and v of the clean run, one reader of each row patched, ``[n_row, pos, …]``."""
        model, width = self.model, self.model.d_head
        pairs, pair = torch.unique(
            row * self.graph.n_sources + sources, sorted=True, return_inverse=True
        )
        items, writers = pairs // self.graph.n_sources, pairs % self.graph.n_sources
        taken = self._patched(self.clean.attn_in[layer], items, writers, where)
        block = model.anatomy.layer(model.hf, layer)
        x = normed(model, at(block, model.anatomy.attn_norm), taken)
        weights = projection_rows(model.hf, model.anatomy, layer, width).to(x.dtype)
        bias = projection_bias(model.hf, model.anatomy, layer, width)
        projected = x @ weights.T
        if bias is not None:
            projected = projected + bias.to(x.dtype)
        qkv = gather_qkv(model.anatomy, [y[row] for y in self.clean.qkv[layer]], width)
        qkv = qkv.unflatten(-1, (-1, width)).clone()
        rows = torch.arange(len(row), device=row.device)
        new = projected.unflatten(-1, (-1, width))[pair, :, readers]  # [n_row, pos, d_head]
        qkv[rows, :, readers] = new.to(qkv.dtype)
        return qkv.flatten(2)
