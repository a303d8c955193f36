"""Attribution of single neurons by gradients: hidden ones of MLPs, or coordinates of the stream.

It is that of nodes (:mod:`mechshift_lib.circuits.attribution.nodes`), one number for each hidden
neuron of an MLP (at the input of its last linear map), or for each coordinate of the residual
stream at the end of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.attribution.loop import worked_batches
from mechshift_lib.circuits.attribution.nodes import change, check_plan
from mechshift_lib.circuits.attribution.plan import Plan, PlanOptions
from mechshift_lib.circuits.attribution.points import Endpoints, visit_points
from mechshift_lib.circuits.questions.means import ItemMeans
from mechshift_lib.circuits.tracing.layers import INPUTS, Kept, LayerRun, run_layers
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: Which neurons: those of MLPs, or coordinates of the residual stream.
Site = Literal["mlp", "stream"]
SITES: tuple[Site, ...] = get_args(Site)
#: What a run keeps for them.
KEPT: dict[Site, frozenset[Kept]] = {"mlp": frozenset({"neurons"}), "stream": INPUTS}


def neurons_of(run: LayerRun, site: Site) -> list[Tensor]:
    """Neurons of every layer that was run, ``[batch, pos, width]``; the stream at a layer's end."""
    return run.neurons if site == "mlp" else run.inputs[1:]


def attribute_neurons(
    model: LoadedModel,
    items: Sequence[Item],
    plan: Plan | None = None,
    site: Site = "mlp",
    **options: Unpack[PlanOptions],
) -> NDArray[np.float32]:
    """Score every hidden neuron of every MLP, or every coordinate of the stream.

    An MLP's neurons sum to its score
    (:func:`~mechshift_lib.circuits.attribution.nodes.attribute_nodes`), but for
    ``eap-ig-activations``: while the MLP's output is set, its neurons have no effect.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        plan: how (see :class:`~mechshift_lib.circuits.attribution.plan.Plan`); a gradient method.
        site: which neurons, one of :data:`SITES`.
        options: fields of the plan that are to be others.

    Returns:
        Mean over examples, ``[n_layers, d_mlp]`` or ``[n_layers, d_model]``.

    Raises:
        CircuitError: as for nodes, the site is unknown, or scores by position are asked for.
    """
    if site not in SITES:
        raise CircuitError(f"Unknown neurons {site!r}: choose one of {', '.join(SITES)}.")
    plan = Plan.of(plan, options)
    check_plan(plan, model, items)
    if plan.by_position:
        raise CircuitError("Neurons aren't resolved by position: leave by_position out.")
    shares = ItemMeans(items, ())
    total: NDArray[np.float64] | None = None

    def scored(batch: Sequence[Item]) -> NDArray[Any]:
        ends = Endpoints.of(model, batch, plan.metric)
        target = _Neurons.of(model, ends, site)
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
    """Scores of the neurons of a batch, ``[batch, n_layers, width]``, summed over points."""

    changes: list[Tensor]
    positions: slice
    scores: Tensor
    site: Site

    @property
    def keep(self) -> frozenset[Kept]:
        """What a run keeps of each layer."""
        return KEPT[self.site]

    @classmethod
    def of(cls, model: LoadedModel, ends: Endpoints, site: Site) -> _Neurons:
        """Run the clean and the corrupted input once more, now for the neurons."""
        with torch.no_grad():
            clean, corrupted = (
                neurons_of(run_layers(model, ends.ids, KEPT[site], start=run.embed), site)
                for run in (ends.clean, ends.corrupted)
            )
        pairs = zip(clean, corrupted, strict=True)
        changes = [change(a, b, ends.positions) for a, b in pairs]
        zeros = torch.zeros_like(torch.stack([change[:, 0] for change in changes], 1))
        return cls(changes, ends.positions, zeros, site)

    def tensors(self, run: LayerRun) -> list[Tensor]:
        """The neurons of all layers that were run."""
        return neurons_of(run, self.site)

    def add(self, run: LayerRun, gradients: Sequence[Tensor | None], weight: float) -> None:
        """Multiply a point's gradients with the differences."""
        for layer, gradient in enumerate(gradients, run.first):
            if gradient is not None:
                product = self.changes[layer] * gradient[:, self.positions]
                self.scores[:, layer] += weight * product.sum(1)
