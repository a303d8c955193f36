"""Attribution of nodes by gradients (Nanda 2023; Hanna et al. 2024).

score(u) = Σ over positions and d_model of (a_u^clean − a_u^corrupted) · ∂M/∂a_u, with the gradient
methods of :mod:`mechshift_lib.circuits.attribution.points`: **positive = corrupting this node
lowers the metric**. Everything downstream of a node goes through the edges that leave it, so its
score is the sum of the scores of these edges, for every method and any number of points. A head's
gradient is taken at its output before the output projection, which is linear: d_head numbers
instead of d_model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.choices import GRADIENT_METHODS
from mechshift_lib.circuits.attribution.loop import worked_batches
from mechshift_lib.circuits.attribution.plan import Plan, PlanOptions
from mechshift_lib.circuits.attribution.points import Endpoints, visit_points
from mechshift_lib.circuits.attribution.scores import Scored, ScoreSums
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.metrics import check_metric
from mechshift_lib.circuits.tracing.layers import NODES, Kept, LayerRun
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


@dataclass(frozen=True)
class NodeAttribution:
    """Scores of all nodes that write for every example.

    Attributes:
        graph: the graph; its sources are the nodes.
        examples: indices of the examples, ascending, ``[n_example]``.
        by_example: mean over an example's steps, weighted by their number of reads, float32,
            ``[n_example, n_source]``.
        steps: denoising steps that occur, ascending, ``[n_step]``.
        by_step: mean over the examples with that step, float32, ``[n_step, n_source]``.
        metric_clean: metric of each example on its clean input, ``[n_example]``.
        metric_corrupted: the same on its corrupted input.
        by_position: where it was asked for, mean over examples of what each position brings,
            float32, ``[n_position, n_source]``; over positions it sums to :attr:`scores`.
    """

    graph: Graph
    examples: NDArray[np.int64]
    by_example: NDArray[np.float32]
    steps: NDArray[np.int64]
    by_step: NDArray[np.float32]
    metric_clean: NDArray[np.float64]
    metric_corrupted: NDArray[np.float64]
    by_position: NDArray[np.float32] | None = None

    @property
    def names(self) -> list[str]:
        """Names of the nodes, in the order of the scores."""
        return self.graph.sources

    @property
    def scores(self) -> NDArray[np.float32]:
        """Mean over examples, ``[n_source]``."""
        return self.by_example.mean(0, dtype=np.float64).astype(np.float32)

    def frame(self) -> pd.DataFrame:
        """One row per node: ``node, layer, score``, the layer of ``input`` being −1."""
        return pd.DataFrame(
            {"node": self.names, "layer": self.graph.layer_of_source, "score": self.scores}
        )


def attribute_nodes(
    model: LoadedModel,
    items: Sequence[Item],
    plan: Plan | None = None,
    **options: Unpack[PlanOptions],
) -> NodeAttribution:
    """Score ``input``, every head and every MLP on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        plan: how (see :class:`~mechshift_lib.circuits.attribution.plan.Plan`); a gradient method.
        options: fields of the plan that are to be others.

    Raises:
        CircuitError: an item is malformed or doesn't fit the model, an option is unknown, or the
            metric is NaN.
    """
    plan = Plan.of(plan, options)
    check_plan(plan, model, items)
    graph = Graph.for_model(model)
    sums = ScoreSums(items, graph.n_sources, by_position=plan.by_position)

    def scored(batch: Sequence[Item]) -> Scored:
        ends = Endpoints.of(model, batch, plan.metric)
        target = _Nodes(model, graph, ends)
        visit_points(model, ends, target, plan)
        found = target.scores.cpu().numpy()
        return Scored(found.sum(1), ends.metrics, ends.positions, found)

    for batch, found in worked_batches(items, plan, scored):
        sums.add(batch, found)
    return sums.result(NodeAttribution, graph)


def check_plan(plan: Plan, model: LoadedModel, items: Sequence[Item]) -> None:
    """Refuse what nodes or neurons can't be attributed by.

    Raises:
        CircuitError: as :meth:`Plan.check`, or the method takes no gradients.
    """
    check_metric(plan.metric)
    if plan.method not in GRADIENT_METHODS:
        raise CircuitError(
            f"Nodes can't be attributed by {plan.method!r}: choose one of "
            f"{', '.join(GRADIENT_METHODS)}, or patch them with patch_nodes."
        )
    plan.check(model, items)


def change(clean: Tensor, corrupted: Tensor, positions: slice) -> Tensor:
    """Clean minus corrupted at the positions that matter, in float32 at least."""
    dtype = torch.promote_types(clean.dtype, torch.float32)
    return clean[:, positions].to(dtype) - corrupted[:, positions].to(dtype)


@dataclass
class _Nodes:
    """Scores of the nodes of a batch, ``[batch, n_active, n_source]``, summed over points."""

    model: LoadedModel
    graph: Graph
    ends: Endpoints
    keep: frozenset[Kept] = NODES
    scores: Tensor = field(init=False)

    def __post_init__(self) -> None:
        embed = self.ends.clean.embed[:, self.ends.positions]
        dtype = torch.promote_types(embed.dtype, torch.float32)
        self.scores = embed.new_zeros(*embed.shape[:2], self.graph.n_sources, dtype=dtype)

    def tensors(self, run: LayerRun) -> list[Tensor]:
        """Output of ``input`` where the run has it, and of all heads and MLPs."""
        start = [run.start] if run.first == 0 else []
        return start + [x for pair in zip(run.heads, run.mlps, strict=True) for x in pair]

    def add(self, run: LayerRun, gradients: Sequence[Tensor | None], weight: float) -> None:
        """Multiply a point's gradients with the differences."""
        clean, corrupted = self.ends.clean, self.ends.corrupted
        left = iter(gradients)
        if run.first == 0:
            self._add(0, 1, clean.embed, corrupted.embed, next(left), weight)
        for layer in range(run.first, self.graph.n_layers):
            at, heads = self.graph.sources_before(layer), self.graph.n_heads
            z = clean.heads[layer], corrupted.heads[layer]
            self._add(at, heads, *z, next(left), weight)
            m = clean.mlps[layer], corrupted.mlps[layer]
            self._add(at + heads, 1, *m, next(left), weight)

    def _add(
        self,
        first: int,
        count: int,
        clean: Tensor,
        corrupted: Tensor,
        gradient: Tensor | None,
        weight: float,
    ) -> None:
        """Add to ``count`` sources from ``first`` on, whose outputs lie side by side."""
        if gradient is None:  # the metric doesn't depend on them at this point
            return
        positions = self.ends.positions
        product = change(clean, corrupted, positions) * gradient[:, positions]
        score = product.unflatten(-1, (count, -1)).sum(-1)
        self.scores[..., first : first + count] += weight * score
