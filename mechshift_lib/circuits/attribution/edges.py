"""Attribution of edges by gradients, or by exact patching.

score(u→v) = Σ over positions and d_model of (a_u^clean − a_u^corrupted) · ∂M/∂(input of v), M being
the metric: **positive = corrupting this edge lowers the metric**. Where gradients are taken is a
matter of the method (:mod:`mechshift_lib.circuits.attribution.points`); differences stay endpoint
to endpoint. Readers take in the residual stream before the norm, and gradients pass through norms.
Everything is accumulated in float32, an item at a time, so scores depend neither on the batch size
nor on a short last batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.circuits.attribution.gradients import SiteGradients, reader_gradients
from mechshift_lib.circuits.attribution.points import (
    METHODS,
    Endpoints,
    check_method,
    interpolation_points,
    visit_points,
)
from mechshift_lib.circuits.attribution.products import edge_scores
from mechshift_lib.circuits.attribution.scores import Attribution, EdgeSums
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import (
    active_positions,
    batches,
    buckets,
    check_batch_size,
    check_items,
)
from mechshift_lib.circuits.questions.metrics import check_metric
from mechshift_lib.circuits.tracing.layers import READERS, Kept, LayerRun
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.models.anatomy import gather_qkv, projections
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

__all__ = [
    "METHODS",
    "Attribution",
    "active_positions",
    "attribute",
    "batches",
    "check_items",
    "interpolation_points",
]

#: Points summed before they are multiplied with the differences. A point keeps a direction per
#: site until then, so this bounds their memory; the products are cheap beside sixteen runs.
POINTS_AT_ONCE = 16

#: Bytes that a batch's scores by position may take where no budget is given.
RESOLVED_BUDGET = 2**30


def attribute(
    model: LoadedModel,
    items: Sequence[Item],
    *,
    metric: str = "logit-diff",
    method: str = "eap-ig",
    steps: int = 5,
    points: str = "left",
    batch_size: int = 32,
    by_position: bool = False,
    memory_budget: int | None = None,
    progress: bool = False,
) -> Attribution:
    """Score every edge on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        method: one of :data:`METHODS` (see :mod:`mechshift_lib.circuits.attribution.points`).
        steps: interpolation points m of ``eap-ig``, and of each sublayer in
            ``eap-ig-activations``.
        points: ``"left"`` for k/m with k = 0 … m−1, ``"right"`` for 1 … m, in ``eap-ig``.
        batch_size: items per pass (patched runs per pass for ``exact``), fewer once a GPU's memory
            runs out; makes no difference to the scores.
        by_position: resolve scores by position of the reader, too; all items must have one length.
            For ``exact`` these are patches at single positions, which don't add up to the scores.
        memory_budget: for the gradient methods, bytes that differences and reader gradients may
            take at once, and scores by position (64 MiB and 1 GiB without one); makes no
            difference to the scores.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed or doesn't fit the model, an option is unknown, or the
            metric is NaN.
    """
    check_metric(metric)
    check_method(method, metric, steps, points)
    check_batch_size(batch_size)
    check_items(items, model)
    if method == "exact":
        return exact_scores(
            model,
            items,
            metric=metric,
            by_position=by_position,
            batch_size=batch_size,
            progress=progress,
        )
    graph = Graph.for_model(model)
    sums = EdgeSums(graph, items, by_position=by_position)
    if by_position:
        batch_size = min(batch_size, _resolved_rows(graph, items, memory_budget))

    def scored(batch: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor, slice]:
        ends = Endpoints.of(model, batch, metric)
        target = EdgeTarget(model, graph, ends, by_position, memory_budget)
        visit_points(model, ends, target, metric=metric, method=method, steps=steps, points=points)
        return target.finish(), ends.metric_clean, ends.metric_corrupted, ends.positions

    with tqdm(total=len(items), desc=method, unit="item", disable=not progress) as bar:
        size = BatchSize(batch_size)
        for bucket in buckets(items):
            for batch, found in retrying_batches(bucket, size, scored):
                sums.add(batch, *found)
                bar.update(len(batch))
    return sums.attribution()


def _resolved_rows(graph: Graph, items: Sequence[Item], memory_budget: int | None) -> int:
    """Items whose scores by position fit into the budget, at least one."""
    budget = RESOLVED_BUDGET if memory_budget is None else memory_budget
    one = 4 * len(items[0].clean) * graph.n_readers * graph.n_sources
    return max(1, budget // one)


@dataclass
class EdgeTarget:
    """Gradients at every reader's input, multiplied with the sources' differences.

    Attributes:
        model: the model of the runs.
        graph: its graph.
        ends: the batch's clean and corrupted runs.
        by_position: keep the reader's position.
        memory_budget: see :func:`mechshift_lib.circuits.attribution.products.edge_scores`.
        keep: what readers take in.
        sites: gradients of the points that aren't multiplied yet.
    """

    model: LoadedModel
    graph: Graph
    ends: Endpoints
    by_position: bool = False
    memory_budget: int | None = None
    keep: frozenset[Kept] = READERS
    sites: list[SiteGradients] = field(default_factory=list, init=False)
    _points: int = field(default=0, init=False)
    _scores: Tensor | None = field(default=None, init=False)

    def tensors(self, run: LayerRun) -> list[Tensor]:
        """Outputs of the projections to q, k and v, and of the norms before MLPs and logits."""
        layers = zip(run.qkv, run.mlp_normed, strict=True)
        return [x for qkv, normed in layers for x in (*qkv, normed)] + [run.final]

    def add(self, run: LayerRun, gradients: Sequence[Tensor | None], weight: float) -> None:
        """Add one point to the sites of the layers that it ran."""
        if not self.sites:
            dtype = torch.promote_types(run.final.dtype, torch.float32)
            self.sites = reader_gradients(self.model, dtype)
        positions = self.ends.positions
        streams = [x for pair in zip(run.attn_in, run.mlp_in, strict=True) for x in pair]
        parts = iter(zip(gradients, self.tensors(run), strict=True))
        n_projections = len(projections(self.model.anatomy))
        sites = self.sites[2 * run.first :]
        for site, stream in zip(sites, [*streams, run.final_in], strict=True):
            single = site.rows is None
            found = [next(parts) for _ in range(1 if single else n_projections)]
            if all(gradient is None for gradient, _ in found):
                continue  # nothing that reads here reaches the metric
            filled = [torch.zeros_like(x) if g is None else g for g, x in found]
            given = [gradient[:, positions] for gradient in filled]
            anatomy, d_head = self.model.anatomy, self.model.d_head
            stream = stream.detach()[:, positions]
            if single:
                site.add(stream, given[0], weight)
                continue
            read = [x.detach()[:, positions] for _, x in found]
            projected = gather_qkv(anatomy, read, d_head)
            site.add(stream, gather_qkv(anatomy, given, d_head), weight, projected)
        self._points += 1
        if self._points == POINTS_AT_ONCE:
            self._multiply()

    def finish(self) -> Tensor:
        """The scores, as :func:`~mechshift_lib.circuits.attribution.products.edge_scores` does."""
        if self._points:
            self._multiply()
        assert self._scores is not None
        return self._scores

    def _multiply(self) -> None:
        ends = self.ends
        scores = edge_scores(
            self.model,
            self.graph,
            ends.clean,
            ends.corrupted,
            self.sites,
            ends.positions,
            by_position=self.by_position,
            memory_budget=self.memory_budget,
        )
        self._scores = scores if self._scores is None else self._scores.add_(scores)
        self.sites, self._points = [], 0
