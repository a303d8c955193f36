"""Attribution of MLP neurons by gradients, at the input of the MLP's last linear map.

It is that of nodes (:mod:`mechshift_lib.circuits.attribution.nodes`), one number for each hidden
neuron of an MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.attribution.loop import worked_batches
from mechshift_lib.circuits.attribution.nodes import change, check_plan
from mechshift_lib.circuits.attribution.plan import Plan, PlanOptions
from mechshift_lib.circuits.attribution.points import Endpoints, visit_points
from mechshift_lib.circuits.questions.means import ItemMeans
from mechshift_lib.circuits.tracing.layers import Kept, LayerRun, run_layers
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: What a run keeps for them.
NEURONS: frozenset[Kept] = frozenset({"neurons"})


def attribute_neurons(
    model: LoadedModel,
    items: Sequence[Item],
    plan: Plan | None = None,
    **options: Unpack[PlanOptions],
) -> NDArray[np.float32]:
    """Score every hidden neuron of every MLP.

    A layer's neurons sum to its MLP's score
    (:func:`~mechshift_lib.circuits.attribution.nodes.attribute_nodes`), but for
    ``eap-ig-activations``: while the MLP's output is set, its neurons have no effect.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        plan: how (see :class:`~mechshift_lib.circuits.attribution.plan.Plan`); a gradient method.
        options: fields of the plan that are to be others.

    Returns:
        Mean over examples, ``[n_layers, d_mlp]``.

    Raises:
        CircuitError: as for nodes, or scores by position are asked for.
    """
    plan = Plan.of(plan, options)
    check_plan(plan, model, items)
    if plan.by_position:
        raise CircuitError("Neurons aren't resolved by position: leave by_position out.")
    shares = ItemMeans(items, ())
    total: NDArray[np.float64] | None = None

    def scored(batch: Sequence[Item]) -> NDArray[Any]:
        ends = Endpoints.of(model, batch, plan.metric)
        target = _Neurons.of(model, ends)
        visit_points(model, ends, target, plan)
        values: NDArray[Any] = target.scores.double().cpu().numpy()
        return values

    for batch, values in worked_batches(items, plan, scored):
        added = np.tensordot([shares.weight(item) for item in batch], values, 1)
        total = added if total is None else total + added
    assert total is not None
    if not np.isfinite(total).all():
        raise CircuitError("A gradient is NaN or infinite: load the model in float32.")
    return (total / len(shares.examples)).astype(np.float32)


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
        changes = [change(a, b, ends.positions) for a, b in pairs]
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
