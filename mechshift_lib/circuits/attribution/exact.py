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
from dataclasses import dataclass, replace
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
            don't add up to the scores, for which it is patched at all positions at once), and rows
            (edges × items) per pass; see :class:`~mechshift_lib.circuits.attribution.plan.Plan`.
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
        plan: Plan,
    ) -> _Setting:
        """Run a batch of items of one length clean and corrupted."""
        positions = active_positions(items, model.attention)
        ids, other = (
            torch.tensor([x[: positions.stop] for x in inputs], device=model.device)
            for inputs in ([item.clean for item in items], [item.corrupted for item in items])
        )
        unembed = at(model.hf, model.anatomy.unembed)
        clean, corrupted = run_layers(model, ids, PATCHED), run_layers(model, other)
        reads = reads_for(plan.metric, items, model.device, clean.final, unembed)
        return cls(
            model=model,
            graph=graph,
            metric=plan.metric,
            batch_size=plan.batch_size,
            ids=ids,
            reads=reads,
            clean=clean,
            change=source_differences(model, corrupted, clean, positions),
            positions=positions,
            clean_metric=item_metric(plan.metric, clean.final, unembed, reads),
            corrupted_metric=item_metric(plan.metric, corrupted.final, unembed, reads),
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
