"""What attribution is asked for: one plan for edges, nodes, neurons and exact patching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from mechshift_lib.choices import METHODS, POINTS
from mechshift_lib.circuits.questions.items import check_batch_size, check_items
from mechshift_lib.circuits.questions.metrics import COMPARES_WITH_CLEAN, check_metric
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: Methods that take gradients (:mod:`mechshift_lib.circuits.attribution.points` says where).


class PlanOptions(TypedDict, total=False):
    """Fields of :class:`Plan`, as keyword arguments."""

    metric: str
    method: str
    steps: int
    points: str
    batch_size: int
    by_position: bool
    memory_budget: int | None
    progress: bool


@dataclass(frozen=True)
class Plan:
    """How scores are made; without anything else EAP-IG with five points.

    Attributes:
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        method: one of :data:`METHODS`; for nodes and neurons of :data:`GRADIENT_METHODS`.
        steps: interpolation points m of ``eap-ig``, and of each sublayer in
            ``eap-ig-activations``.
        points: ``"left"`` for k/m with k = 0 … m−1, ``"right"`` for 1 … m, in ``eap-ig``.
        batch_size: items per pass (for ``exact`` 8 patched runs per pass for each), fewer once a
            GPU's memory runs out; makes no difference to the scores.
        by_position: resolve scores by position (of an edge's reader), too; all items must have one
            length. For ``exact`` these are patches at single positions, which don't add up to the
            scores.
        memory_budget: for edges by gradients, bytes that differences and reader gradients may
            take at once, and scores by position (64 MiB and 1 GiB without one); makes no
            difference to the scores.
        progress: show a progress bar.
    """

    metric: str = "logit-diff"
    method: str = "eap-ig"
    steps: int = 5
    points: str = "left"
    batch_size: int = 32
    by_position: bool = False
    memory_budget: int | None = None
    progress: bool = False

    @classmethod
    def of(cls, plan: Plan | None, options: PlanOptions) -> Plan:
        """A plan, or the default one, with some fields changed."""
        return replace(cls() if plan is None else plan, **options)

    def check(self, model: LoadedModel, items: Sequence[Item]) -> None:
        """Refuse what can't be done, before anything is run.

        Raises:
            CircuitError: an item is malformed or doesn't fit the model, or an option is unknown or
                out of range.
        """
        check_metric(self.metric)
        check_method(self.method, self.metric, self.steps, self.points)
        check_batch_size(self.batch_size)
        check_items(items, model)


def interpolation_points(method: str, steps: int, points: str = "left") -> list[float]:
    """Shares of the clean run at which gradients are taken.

    ``eap`` has one, the clean input, and ``clean-corrupted`` two; ``eap-ig`` has k/m with
    k = 0 … m−1 (``"left"``, as the reference implementation) or 1 … m (``"right"``, as the paper);
    ``eap-ig-activations`` has 1/m … 1 for every sublayer, as the reference implementation;
    ``exact`` has none.

    Raises:
        CircuitError: unknown method or points, or fewer than one step.
    """
    if method not in METHODS:
        raise CircuitError(f"Unknown method {method!r}: choose one of {', '.join(METHODS)}.")
    if points not in POINTS:
        raise CircuitError(f"Unknown points {points!r}: choose 'left' or 'right'.")
    if steps < 1:
        raise CircuitError(f"EAP-IG needs at least one step, not {steps}.")
    fixed = {"eap": [1.0], "clean-corrupted": [0.0, 1.0], "exact": []}
    if method in fixed:
        return fixed[method]
    shift = 0 if method == "eap-ig" and points == "left" else 1
    return [(k + shift) / steps for k in range(steps)]


def check_method(method: str, metric: str, steps: int = 5, points: str = "left") -> None:
    """Refuse a method that is unknown, or whose gradients vanish for this metric.

    Raises:
        CircuitError: as :func:`interpolation_points`; or a metric that is largest at the clean run
            with a method that takes gradients nowhere else.
    """
    shares = interpolation_points(method, steps, points)
    if metric in COMPARES_WITH_CLEAN and shares and min(shares) == 1:
        raise CircuitError(
            f"The metric {metric!r} has no gradient at the clean run, where {method!r} takes it: "
            "use 'eap-ig' with points 'left', 'clean-corrupted' or 'exact', or another metric."
        )
