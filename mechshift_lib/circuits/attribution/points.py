"""Where gradients are taken: the points of each gradient method, and the runs at them.

- ``eap``: the clean input (Syed et al. 2023).
- ``eap-ig``: m points of the straight line from the corrupted to the clean output of ``input``
  (Hanna et al. 2024, inputs variant).
- ``clean-corrupted``: the clean and the corrupted input, halves of the weight each.
- ``eap-ig-activations``: for each sublayer (``input``; all heads of a layer together; each MLP)
  and k = 1 … m the *clean* run with that sublayer's output set to corrupted + (k/m)(clean −
  corrupted); all (1 + 2L) · m runs weigh the same. So a gradient is averaged over interpolations
  of sublayers before *and* after the place where it is taken, and nothing flows back through a
  sublayer while it is set: this is what the reference implementation of EAP-IG computes.
- ``exact``: no gradients, but a patched run per edge
  (:mod:`mechshift_lib.circuits.attribution.exact`).

At the points of ``eap-ig-activations``, layers below the sublayer compute what the clean run does.
They are skipped on the way up, and, being at one and the same point, passed once on the way down:
the cotangents that arrive at their tops are summed first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.attribution.plan import Plan, interpolation_points
from mechshift_lib.circuits.questions.items import active_positions
from mechshift_lib.circuits.questions.metrics import (
    Reads,
    item_metric,
    reads_for,
)
from mechshift_lib.circuits.tracing.heap import give_back
from mechshift_lib.circuits.tracing.layers import (
    INPUTS,
    Kept,
    LayerRun,
    Replacement,
    Sublayer,
    run_layers,
)
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


@dataclass(frozen=True)
class Endpoints:
    """The clean and the corrupted run of a batch of items of one length.

    Attributes:
        ids: clean input ids, ``[batch, pos]``.
        reads: what is read.
        clean: what every node writes on the clean input.
        corrupted: the same on the corrupted input.
        metric_clean: metric on the clean input, ``[batch]``.
        metric_corrupted: metric on the corrupted input, ``[batch]``.
        positions: positions that can carry a score.
    """

    ids: Tensor
    reads: Reads
    clean: LayerRun
    corrupted: LayerRun
    metric_clean: Tensor
    metric_corrupted: Tensor
    positions: slice

    @classmethod
    def of(cls, model: LoadedModel, items: Sequence[Item], metric: str) -> Endpoints:
        """Run a batch of items on both inputs.

        Raises:
            CircuitError: the metric is unknown, or NaN or infinite for an item.
        """
        clean_ids, corrupted_ids = (
            torch.tensor([getattr(item, name) for item in items], device=model.device)
            for name in ("clean", "corrupted")
        )
        clean, corrupted = (run_layers(model, ids) for ids in (clean_ids, corrupted_ids))
        unembed = at(model.hf, model.anatomy.unembed)
        reads = reads_for(metric, items, model.device, clean.final, unembed)
        return cls(
            ids=clean_ids,
            reads=reads,
            clean=clean,
            corrupted=corrupted,
            metric_clean=item_metric(metric, clean.final, unembed, reads),
            metric_corrupted=item_metric(metric, corrupted.final, unembed, reads),
            positions=active_positions(items, model.attention),
        )

    @property
    def metrics(self) -> NDArray[np.float64]:
        """Both metrics of each item, ``[batch, 2]``."""
        both = torch.stack([self.metric_clean, self.metric_corrupted], 1)
        found: NDArray[np.float64] = both.double().cpu().numpy()
        return found


class Target(Protocol):
    """What gradients are taken for."""

    @property
    def keep(self) -> frozenset[Kept]:
        """What a run has to keep for it."""

    def tensors(self, run: LayerRun) -> list[Tensor]:
        """The tensors of a run whose gradients are asked for."""

    def add(self, run: LayerRun, gradients: Sequence[Tensor | None], weight: float) -> None:
        """Add their gradients, weighted; ``None`` where the metric doesn't depend on a tensor."""


def visit_points(
    model: LoadedModel,
    ends: Endpoints,
    target: Target,
    plan: Plan,
) -> None:
    """Take gradients of the metric at every point of a method.

    Args:
        model: a loaded model.
        ends: the batch's clean and corrupted runs.
        target: receives the gradients; their weights sum to 1 over the points.
        plan: its metric, summed over the batch, its gradient method, steps and points.

    Raises:
        CircuitError: an option is unknown, or the metric is NaN at a point.
    """
    shares = interpolation_points(plan.method, plan.steps, plan.points)
    sublayers = 1 + 2 * model.n_layers if plan.method == "eap-ig-activations" else 1
    weight = 1 / (sublayers * len(shares))
    for share in shares:
        start = torch.lerp(ends.corrupted.embed, ends.clean.embed, share)
        _visit(model, ends, target, plan.metric, weight, start)
    if plan.method == "eap-ig-activations":
        _visit_sublayers(model, ends, target, plan.metric, weight, shares)


def _visit(
    model: LoadedModel,
    ends: Endpoints,
    target: Target,
    metric: str,
    weight: float,
    start: Tensor,
    first: int = 0,
    replacement: Replacement | None = None,
) -> Tensor | None:
    """Take gradients at one point; returns that at the start where layers below were skipped.

    Nothing of the run outlives the call, though its frame does: see
    :func:`~mechshift_lib.circuits.tracing.layers.run_layers`.
    """
    run = run_layers(
        model, ends.ids, target.keep, start=start, first=first, replacement=replacement
    )
    unembed = at(model.hf, model.anatomy.unembed)
    total = item_metric(metric, run.final, unembed, ends.reads).sum()
    tensors = target.tensors(run)
    gone = give_back(tensors)
    asked = tensors if first == 0 else [*tensors, run.start]
    gradients = torch.autograd.grad(total, asked, allow_unused=True)
    back = None if first == 0 else gradients[-1]
    target.add(run, gradients[: len(tensors)], weight)
    del run, total, tensors, asked, gradients
    gone()
    return back


def _visit_sublayers(
    model: LoadedModel,
    ends: Endpoints,
    target: Target,
    metric: str,
    weight: float,
    shares: Sequence[float],
) -> None:
    """The points of ``eap-ig-activations`` but those of ``input``."""
    keep = target.keep | INPUTS
    below = run_layers(model, ends.ids, keep, start=ends.clean.embed)
    dtype = torch.promote_types(ends.clean.embed.dtype, torch.float32)
    tops = []
    for layer, stream in enumerate(below.attn_in):
        arriving = torch.zeros_like(stream, dtype=dtype)
        sides: dict[Sublayer, tuple[Tensor, Tensor]] = {
            "heads": (ends.corrupted.heads[layer], ends.clean.heads[layer]),
            "mlp": (ends.corrupted.mlps[layer], ends.clean.mlps[layer]),
        }
        for sublayer, (corrupted, clean) in sides.items():
            for share in shares:
                given = Replacement(sublayer, torch.lerp(corrupted, clean, share))
                back = _visit(model, ends, target, metric, weight, stream, layer, given)
                if back is not None:
                    arriving += weight * back
        tops.append(arriving.to(stream.dtype))
    tensors = target.tensors(below)
    target.add(below, torch.autograd.grad(below.attn_in, tensors, tops, allow_unused=True), 1.0)
