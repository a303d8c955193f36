"""Attribution of nodes and of MLP neurons by gradients (Nanda 2023; Hanna et al. 2024).

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
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.circuits.attribution.points import (
    GRADIENT_METHODS,
    Endpoints,
    check_method,
    visit_points,
)
from mechshift_lib.circuits.attribution.scores import ItemMeans, PositionMeans
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import buckets, check_batch_size, check_items
from mechshift_lib.circuits.questions.metrics import check_metric
from mechshift_lib.circuits.tracing.layers import NODES, Kept, LayerRun, run_layers
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: What a run keeps of the MLPs' neurons.
NEURONS: frozenset[Kept] = frozenset({"neurons"})


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
    *,
    metric: str = "logit-diff",
    method: str = "eap-ig",
    steps: int = 5,
    points: str = "left",
    batch_size: int = 32,
    by_position: bool = False,
    progress: bool = False,
) -> NodeAttribution:
    """Score ``input``, every head and every MLP on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        method: one of :data:`mechshift_lib.circuits.attribution.points.GRADIENT_METHODS`.
        steps: interpolation points m (see
            :func:`mechshift_lib.circuits.attribution.edges.attribute`).
        points: ``"left"`` or ``"right"``, in ``eap-ig``.
        batch_size: items per pass, fewer once a GPU's memory runs out; makes no difference to the
            scores.
        by_position: resolve scores by position, too; all items must have one length.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed or doesn't fit the model, an option is unknown, or the
            metric is NaN.
    """
    _check(model, items, metric, method, steps, points, batch_size)
    graph = Graph.for_model(model)
    scores = ItemMeans(items, (graph.n_sources,))
    metrics = ItemMeans(items, (2,), np.float64)
    resolved = PositionMeans(items, graph.n_sources) if by_position else None

    def scored(batch: Sequence[Item]) -> tuple[NDArray[Any], NDArray[Any], slice]:
        ends = Endpoints.of(model, batch, metric)
        target = _Nodes(model, graph, ends)
        visit_points(model, ends, target, metric=metric, method=method, steps=steps, points=points)
        both = torch.stack([ends.metric_clean, ends.metric_corrupted], 1).double()
        return target.scores.cpu().numpy(), both.cpu().numpy(), ends.positions

    with tqdm(total=len(items), desc=method, unit="item", disable=not progress) as bar:
        size = BatchSize(batch_size)
        for bucket in buckets(items):
            for batch, (values, both, positions) in retrying_batches(bucket, size, scored):
                if resolved is not None:
                    resolved.add(batch, values, positions)
                scores.add(batch, values.sum(1))
                metrics.add(batch, both)
                bar.update(len(batch))
    return NodeAttribution(
        graph=graph,
        examples=scores.examples,
        by_example=scores.by_example,
        steps=scores.steps,
        by_step=scores.by_step,
        metric_clean=metrics.by_example[:, 0],
        metric_corrupted=metrics.by_example[:, 1],
        by_position=None if resolved is None else resolved.mean,
    )


def attribute_neurons(
    model: LoadedModel,
    items: Sequence[Item],
    *,
    metric: str = "logit-diff",
    method: str = "eap-ig",
    steps: int = 5,
    points: str = "left",
    batch_size: int = 32,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Score every hidden neuron of every MLP, at the input of the MLP's last linear map.

    A layer's neurons sum to its MLP's score (:func:`attribute_nodes`), but for
    ``eap-ig-activations``: while the MLP's output is set, its neurons have no effect.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        metric: see :func:`attribute_nodes`, also for the other arguments.
        method: a gradient method.
        steps: interpolation points m.
        points: ``"left"`` or ``"right"``.
        batch_size: items per pass.
        progress: show a progress bar.

    Returns:
        Mean over examples, ``[n_layers, d_mlp]``.

    Raises:
        CircuitError: as :func:`attribute_nodes`.
    """
    _check(model, items, metric, method, steps, points, batch_size)
    shares = ItemMeans(items, ())
    total: NDArray[np.float64] | None = None

    def scored(batch: Sequence[Item]) -> NDArray[Any]:
        ends = Endpoints.of(model, batch, metric)
        target = _Neurons.of(model, ends)
        visit_points(model, ends, target, metric=metric, method=method, steps=steps, points=points)
        values: NDArray[Any] = target.scores.double().cpu().numpy()
        return values

    with tqdm(total=len(items), desc=method, unit="item", disable=not progress) as bar:
        size = BatchSize(batch_size)
        for bucket in buckets(items):
            for batch, values in retrying_batches(bucket, size, scored):
                added = np.tensordot([shares.weight(item) for item in batch], values, 1)
                total = added if total is None else total + added
                bar.update(len(batch))
    assert total is not None
    if not np.isfinite(total).all():
        raise CircuitError("A gradient is NaN or infinite: load the model in float32.")
    return (total / len(shares.examples)).astype(np.float32)


def _check(
    model: LoadedModel,
    items: Sequence[Item],
    metric: str,
    method: str,
    steps: int,
    points: str,
    batch_size: int,
) -> None:
    check_metric(metric)
    if method not in GRADIENT_METHODS:
        raise CircuitError(
            f"Nodes can't be attributed by {method!r}: choose one of "
            f"{', '.join(GRADIENT_METHODS)}, or patch them with patch_nodes."
        )
    check_method(method, metric, steps, points)
    check_batch_size(batch_size)
    check_items(items, model)


def _change(clean: Tensor, corrupted: Tensor, positions: slice) -> Tensor:
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
        product = _change(clean, corrupted, positions) * gradient[:, positions]
        score = product.unflatten(-1, (count, -1)).sum(-1)
        self.scores[..., first : first + count] += weight * score


@dataclass
class _Neurons:
    """Scores of the neurons of a batch, ``[batch, n_layers, d_mlp]``, summed over points."""

    changes: list[Tensor]
    positions: slice
    scores: Tensor
    keep: frozenset[Kept] = NEURONS

    @classmethod
    def of(cls, model: LoadedModel, ends: Endpoints) -> _Neurons:
        """Run the clean and the corrupted input once more, now for the neurons."""
        with torch.no_grad():
            clean, corrupted = (
                run_layers(model, ends.ids, NEURONS, start=run.embed).neurons
                for run in (ends.clean, ends.corrupted)
            )
        pairs = zip(clean, corrupted, strict=True)
        changes = [_change(a, b, ends.positions) for a, b in pairs]
        zeros = torch.zeros_like(torch.stack([change[:, 0] for change in changes], 1))
        return cls(changes, ends.positions, zeros)

    def tensors(self, run: LayerRun) -> list[Tensor]:
        """The neurons of all layers that were run."""
        return run.neurons

    def add(self, run: LayerRun, gradients: Sequence[Tensor | None], weight: float) -> None:
        """Multiply a point's gradients with the differences."""
        for layer, gradient in enumerate(gradients, run.first):
            if gradient is not None:
                product = self.changes[layer] * gradient[:, self.positions]
                self.scores[:, layer] += weight * product.sum(1)
