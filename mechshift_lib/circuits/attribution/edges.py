"""Attribution of edges by gradients (EAP and EAP-IG), or by exact patching.

    score(u → v) = Σ (a_u^clean − a_u^corrupted) · ∂M/∂(input of v)      (difference × gradient)

over positions and d_model, M being the metric: **positive = corrupting this edge lowers the
metric**. Where gradients are taken is a matter of the method
(:mod:`mechshift_lib.circuits.attribution.points`), and they are averaged; differences stay endpoint
to endpoint. Readers take in the residual stream before the norm, and gradients pass through norms.
Everything is accumulated in float32, an item at a time, so scores depend neither on the batch size
nor on a short last batch.

The formula with nothing in its way is ``literal_scores`` in ``tests/support/literal.py``, by plain
autograd and one edge at a time; this module must equal it. The page "EAP-IG by hand" writes it in
a notebook. What is done here instead: every reader's gradient without a copy of the residual stream
per head (:mod:`~mechshift_lib.circuits.attribution.gradients`), and all products of a chunk of
tokens at once (:mod:`~mechshift_lib.circuits.attribution.products`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Unpack

import torch
from torch import Tensor

from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.circuits.attribution.gradients import SiteGradients, reader_gradients
from mechshift_lib.circuits.attribution.loop import worked_batches
from mechshift_lib.circuits.attribution.plan import Plan, PlanOptions
from mechshift_lib.circuits.attribution.points import Endpoints, visit_points
from mechshift_lib.circuits.attribution.products import edge_scores
from mechshift_lib.circuits.attribution.scores import Attribution, Scored, ScoreSums
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.tracing.layers import READERS, Kept, LayerRun
from mechshift_lib.models.anatomy import gather_qkv
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: Points summed before they are multiplied with the differences. A point keeps a direction per
#: site until then, so this bounds their memory; the products are cheap beside sixteen runs.
POINTS_AT_ONCE = 16

#: Bytes that a batch's scores by position may take where no budget is given.
RESOLVED_BUDGET = 2**30


def attribute(
    model: LoadedModel,
    items: Sequence[Item],
    plan: Plan | None = None,
    **options: Unpack[PlanOptions],
) -> Attribution:
    """Score every edge on every example, such as ``attribute(model, items, method="eap")``.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        plan: how (see :class:`~mechshift_lib.circuits.attribution.plan.Plan`).
        options: fields of the plan that are to be others: ``metric``, ``method``, ``steps``,
            ``points``, ``batch_size``, ``by_position``, ``memory_budget``, ``progress``.

    Raises:
        CircuitError: an item is malformed or doesn't fit the model, an option is unknown, or the
            metric is NaN.
    """
    plan = Plan.of(plan, options)
    plan.check(model, items)
    if plan.method == "exact":
        return exact_scores(model, items, plan)
    graph = Graph.for_model(model)
    sums = ScoreSums(items, graph.n_edges, by_position=plan.by_position)
    rows = min(plan.batch_size, _resolved_rows(graph, items, plan)) if plan.by_position else None

    def scored(batch: Sequence[Item]) -> Scored:
        ends = Endpoints.of(model, batch, plan.metric)
        target = EdgeTarget(model, graph, ends, plan)
        visit_points(model, ends, target, plan)
        found = target.finish().cpu().numpy()[..., graph.reader_index, graph.source_index]
        if not plan.by_position:
            return Scored(found, ends.metrics, ends.positions)
        return Scored(found.sum(1), ends.metrics, ends.positions, found)

    for batch, found in worked_batches(items, plan, scored, rows=rows):
        sums.add(batch, found)
    return sums.result(Attribution, graph)


def _resolved_rows(graph: Graph, items: Sequence[Item], plan: Plan) -> int:
    """Items whose scores by position fit into the budget, at least one."""
    budget = RESOLVED_BUDGET if plan.memory_budget is None else plan.memory_budget
    one = 4 * len(items[0].clean) * graph.n_readers * graph.n_sources
    return max(1, budget // one)


@dataclass
class EdgeTarget:
    """Gradients at every reader's input, multiplied with the sources' differences.

    Attributes:
        model: the model of the runs.
        graph: its graph.
        ends: the batch's clean and corrupted runs.
        plan: whether the reader's position is kept, and how much memory products may take.
        keep: what readers take in.
        sites: gradients of the points that aren't multiplied yet.
    """

    model: LoadedModel
    graph: Graph
    ends: Endpoints
    plan: Plan
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
        left = iter(gradients)  # in the order of the tensors
        for layer, qkv in enumerate(run.qkv):
            attention, mlp = self.sites[2 * (run.first + layer) :][:2]
            cotangents = [next(left) for _ in qkv]
            self._add_attention(attention, run.attn_in[layer], qkv, cotangents, weight)
            self._add_single(mlp, run.mlp_in[layer], next(left), weight)
        self._add_single(self.sites[-1], run.final_in, next(left), weight)
        self._points += 1
        if self._points == POINTS_AT_ONCE:
            self._multiply()

    def _add_attention(
        self,
        site: SiteGradients,
        stream: Tensor,
        qkv: Sequence[Tensor],
        cotangents: Sequence[Tensor | None],
        weight: float,
    ) -> None:
        """Add a point to the q, k and v readers of a layer, those that reach the metric."""
        if all(cotangent is None for cotangent in cotangents):
            return
        filled = [
            torch.zeros_like(x) if c is None else c for x, c in zip(qkv, cotangents, strict=True)
        ]
        given, read = (
            gather_qkv(self.model.anatomy, [self._active(x) for x in parts], self.model.d_head)
            for parts in (filled, qkv)
        )
        site.add(self._active(stream), given, weight, read)

    def _add_single(
        self, site: SiteGradients, stream: Tensor, cotangent: Tensor | None, weight: float
    ) -> None:
        """Add a point to a reader that takes its norm's output as it is (an MLP, the logits)."""
        if cotangent is not None:
            site.add(self._active(stream), self._active(cotangent), weight)

    def _active(self, x: Tensor) -> Tensor:
        """A tensor of a run at the positions that can carry a score, ``[batch, active pos, …]``."""
        return x.detach()[:, self.ends.positions]

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
            by_position=self.plan.by_position,
            memory_budget=self.plan.memory_budget,
        )
        self._scores = scores if self._scores is None else self._scores.add_(scores)
        self.sites, self._points = [], 0
