"""Exact patching of single edges: the yardstick for every attribution method.

score(u→v) = M(clean run) − M(clean run in which v alone takes in u's output of the corrupted run),
M being the metric: positive = corrupting this edge lowers the metric. Everything behind v is
computed again, norms included, and nothing in front of it.

A pass has one row per patched edge and item. Edges into one layer go together: all layers below are
skipped with the clean run's residual stream. What lies behind is written out where that is proven
to be what the model computes (:mod:`mechshift_lib.circuits.tracing.written_out`), and traced
elsewhere. Edges into ``logits`` need no pass; items that differ in their reads alone share theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from mechshift_lib.circuits.attribution.loop import worked_batches
from mechshift_lib.circuits.attribution.plan import Plan, PlanOptions
from mechshift_lib.circuits.attribution.products import source_differences
from mechshift_lib.circuits.attribution.scores import Attribution, Scored, ScoreSums
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.sites import by_site
from mechshift_lib.circuits.questions.items import (
    active_positions,
)
from mechshift_lib.circuits.questions.metrics import Reads, item_metric, reads_for
from mechshift_lib.circuits.questions.reading import unembedded
from mechshift_lib.circuits.tracing.layers import NODES, STREAMS, Kept, LayerRun, run_layers
from mechshift_lib.circuits.tracing.resuming import run_behind
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.circuits.tracing.written_out import WrittenOut, written_out
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at, gather_qkv, projection_bias, projection_rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.norms import normed
from mechshift_lib.models.readout import Item

#: What a run is patched from: what nodes write, and what stands at every reader.
PATCHED: frozenset[Kept] = NODES | {"attn_in", "qkv", "attended", "mlp_in"}
#: Memory for the sources' differences of the items that are patched together, in bytes.
_BUDGET = 1 << 28
#: Rows of a pass for each item of a batch: they need no gradients, and what they keep is small.
_ROWS = 8


def exact_scores(
    model: LoadedModel,
    items: Sequence[Item],
    plan: Plan | None = None,
    *,
    edges: Sequence[int] | None = None,
    **options: Unpack[PlanOptions],
) -> Attribution:
    """Patch every edge on its own and measure what the metric loses.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        plan: metric, whether every edge is patched at single positions of the reader, too (these
            don't add up to the scores, for which it is patched at all positions at once), and items
            that are worked on together, a pass having 8 times as many rows (edges × items); see
            :class:`~mechshift_lib.circuits.attribution.plan.Plan`.
        edges: positions of the edges to patch, in the order of ``graph.names``; all without. Edges
            that aren't patched score 0.
        options: fields of the plan that are to be others.

    Raises:
        CircuitError: an item is malformed, an edge or option is unknown, items of several lengths
            are to be resolved by position, or the metric is NaN.
    """
    plan = replace(Plan.of(plan, options), method="exact")
    plan.check(model, items)
    graph = Graph.for_model(model)
    chosen = _chosen(graph, edges)
    sums = ScoreSums(items, graph.n_edges, by_position=plan.by_position)

    def patched(batch: Sequence[Item]) -> Scored:
        setting = _Setting.of(model, graph, batch, plan)
        scores = setting.scores(chosen, None)
        resolved = None
        if plan.by_position:
            places = range(setting.n_positions)
            resolved = np.stack([setting.scores(chosen, place) for place in places], 1)
        return Scored(scores, setting.metrics, setting.positions, resolved)

    rows = _items_at_once(model, graph, items, plan.batch_size)
    for batch, found in worked_batches(
        items, plan, patched, rows=rows, each=len(chosen), unit="edge"
    ):
        sums.add(batch, found)
    return sums.result(Attribution, graph)


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
class _Setting:
    """A batch of items with their clean runs, and how far every source is from them.

    Items that differ in their reads alone share a run.

    Attributes:
        model: the model.
        graph: its graph.
        metric: name of the metric.
        batch_size: rows per pass.
        items: items of each run, one run after the other, ``[n_item]``.
        counts: number of items of each run, ``[n_run]``.
        reads: the items' reads, their positions as places in ``columns``.
        columns: positions that are read, ascending, ``[n_column]``.
        clean: the clean runs up to the last position that matters.
        layers: the layers written out, or ``None`` where passes are traced.
        change: output of every source, corrupted minus clean, at ``positions``:
            ``[n_run, pos, n_source, d_model]``.
        positions: positions at which anything can differ.
        clean_metric: ``[n_item]``.
        corrupted_metric: ``[n_item]``.
    """

    model: LoadedModel
    graph: Graph
    metric: str
    batch_size: int
    items: Tensor
    counts: Tensor
    reads: Reads
    columns: Tensor
    clean: LayerRun
    layers: WrittenOut | None
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
        plan: Plan,
    ) -> _Setting:
        """Run a batch of items of one length clean and corrupted."""
        positions, device = active_positions(items, model.attention), model.device
        asked: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for index, item in enumerate(items):
            inputs = (item.clean[: positions.stop], item.corrupted[: positions.stop])
            asked.setdefault(inputs, []).append(index)
        ids, other = (torch.tensor(x, device=device) for x in zip(*asked, strict=True))
        counts = torch.tensor([len(members) for members in asked.values()], device=device)
        order = torch.tensor([i for members in asked.values() for i in members], device=device)
        run_of = torch.empty_like(order)
        run_of[order] = torch.arange(len(counts), device=device).repeat_interleave(counts)
        unembed = at(model.hf, model.anatomy.unembed)
        clean, corrupted = run_layers(model, ids, PATCHED), run_layers(model, other, STREAMS)
        finals = [run.final[run_of] for run in (clean, corrupted)]
        reads = reads_for(plan.metric, items, device, finals[0], unembed)
        metrics = [item_metric(plan.metric, final, unembed, reads) for final in finals]
        columns, places = reads.positions.unique(return_inverse=True)
        return cls(
            model=model,
            graph=graph,
            metric=plan.metric,
            batch_size=_ROWS * plan.batch_size,
            items=order,
            counts=counts,
            reads=replace(reads, positions=places),
            columns=columns,
            clean=clean,
            layers=written_out(model, clean, corrupted, positions, columns),
            change=source_differences(model, corrupted, clean, positions),
            positions=positions,
            clean_metric=metrics[0],
            corrupted_metric=metrics[1],
        )

    @property
    def metrics(self) -> NDArray[np.float64]:
        """Both metrics of each item, ``[batch, 2]``."""
        both = torch.stack([self.clean_metric, self.corrupted_metric], 1)
        found: NDArray[np.float64] = both.double().cpu().numpy()
        return found

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
        found = np.zeros((len(self.items), self.graph.n_edges), dtype=np.float32)
        where = slice(None) if position is None else slice(position, position + 1)
        size = BatchSize(self.batch_size)
        differs = self.change[:, where].ne(0).any(3).any(1).cpu().numpy()  # [n_run, n_source]
        for edges in by_site(self.graph, chosen):
            runs, columns = np.nonzero(differs[:, self.graph.source_index[edges]])
            rows = edges[columns]
            for part, (within, items, lost) in retrying_batches(
                range(len(rows)),
                size,
                lambda part, runs=runs, rows=rows: self._lost(  # type: ignore[misc]
                    runs[list(part)], rows[list(part)], where
                ),
                within=True,
            ):
                found[items, rows[list(part)][within]] = lost
        return found

    def _lost(
        self, runs: NDArray[np.int64], edges: NDArray[np.int64], where: slice
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """What one pass measures: one row per run and edge of one site.

        Returns:
            For each item of each row: the row, the item, and what is lost.
        """
        device = self.model.device
        row = torch.from_numpy(runs).to(device)
        values = self._final_in(row, edges, where).to(self.change.dtype)
        counts, first = self.counts[row], self.counts.cumsum(0) - self.counts
        rows = torch.arange(len(row), device=device).repeat_interleave(counts)
        nth = torch.arange(len(rows), device=device) - (counts.cumsum(0) - counts)[rows]
        items = self.items[first[row][rows] + nth]
        metric = item_metric(
            self.metric,
            values[rows],
            lambda x: unembedded(self.model, x),
            self.reads.take(items),
        )
        lost = (self.clean_metric[items] - metric).float()
        return rows.cpu().numpy(), items.cpu().numpy(), lost.cpu().numpy()

    def _final_in(self, row: Tensor, edges: NDArray[np.int64], where: slice) -> Tensor:
        """Input of the final norm at ``columns``, one row patched at each edge of one site.

        Args:
            row: run of each edge, ``[n_row]``.
            edges: the edges.
            where: which of ``positions`` are patched.
        """
        graph = self.graph
        sources = torch.from_numpy(graph.source_index[edges]).to(row.device)
        layer, split = int(graph.reader_layer[edges[0]]), graph.split[edges[0]]
        if split == "logits":
            taken = self._patched(self.clean.final_in, row, sources, where)
            return taken[:, self.columns]
        if split == "mlp":
            taken = self._patched(self.clean.mlp_in[layer], row, sources, where)
            if self.layers is not None:
                return self.layers.behind_mlp(layer, taken, row)
            norm = at(self.model.anatomy.layer(self.model.hf, layer), self.model.anatomy.mlp_norm)
            normed_in = normed(self.model, norm, taken)
            attended = self.clean.attended[layer][row]
            return self._traced(layer, row, attended=attended, mlp_normed=normed_in)
        # What a reader takes in depends on the source alone, so sources are normed once
        pairs, pair = torch.unique(row * graph.n_sources + sources, return_inverse=True)
        runs, writers = pairs // graph.n_sources, pairs % graph.n_sources
        taken = self._patched(self.clean.attn_in[layer], runs, writers, where)
        readers = torch.from_numpy(graph.reader_index[edges]).to(row.device)
        readers = readers - graph.readers_of(layer, "q").start
        if self.layers is not None:
            return self.layers.behind_qkv(layer, taken, pair, readers, row)
        return self._traced(layer, row, qkv=self._patched_qkv(layer, taken, pair, readers, row))

    def _patched(self, stream: Tensor, row: Tensor, sources: Tensor, where: slice) -> Tensor:
        """The clean stream with the sources' outputs of the corrupted run, ``[n_row, pos, d]``."""
        taken = stream[row].to(self.change.dtype)
        taken[:, self.positions][:, where] += self.change[row, where, sources]
        return taken

    def _traced(self, layer: int, row: Tensor, **taken: Tensor) -> Tensor:
        """A traced pass, whose final stream is read at ``columns``."""
        ids, stream = self.clean.ids[row], self.clean.attn_in[layer][row]
        return run_behind(self.model, ids, layer, stream, **taken)[:, self.columns]

    def _patched_qkv(
        self, layer: int, taken: Tensor, pair: Tensor, readers: Tensor, row: Tensor
    ) -> Tensor:
        """q, k and v of the clean run, one reader of each row patched, ``[n_row, pos, …]``."""
        model, width = self.model, self.model.d_head
        block = model.anatomy.layer(model.hf, layer)
        x = normed(model, at(block, model.anatomy.attn_norm), taken)
        used, place = readers.unique(return_inverse=True)
        weights = projection_rows(model.hf, model.anatomy, layer, width).unflatten(0, (-1, width))
        weights = weights[used].flatten(0, 1).to(x.dtype)
        bias = projection_bias(model.hf, model.anatomy, layer, width)
        if bias is not None:
            bias = bias.unflatten(0, (-1, width))[used].flatten().to(x.dtype)
        projected = linear(x, weights, bias).unflatten(-1, (-1, width))
        qkv = gather_qkv(model.anatomy, [y[row] for y in self.clean.qkv[layer]], width)
        qkv = qkv.unflatten(-1, (-1, width)).clone()
        rows = torch.arange(len(row), device=row.device)
        qkv[rows, :, readers] = projected[pair, :, place].to(qkv.dtype)
        return qkv.flatten(2)
