"""Error rates of the rule for C1, by simulation: worlds in which we know what is true.

A world starts from scores that were really measured, one array ``[n_example, n_edges]`` for each
seed, task and model. True scores of an ARM are their mean; those of the other models are moved
from them by a drift that the world prescribes. Examples are drawn anew with the covariance that
the real ones have, the same draw for all models of a seed, as examples are really shared.

A drift is **wild**: each edge moves by its really measured move (MDM or control against ARM)
times an independent normal number, scaled to a share of the ARM's norm. It so keeps the size that
moves of strong and of weak edges really have, and no direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.comparison import claims
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from mechshift_lib.comparison.similarity import Corrected, Measure
from mechshift_lib.comparison.verdicts import Outcome, decide
from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]
World = Literal["no drift", "alike", "more everywhere", "shared by source", "planted"]
WORLDS: tuple[World, ...] = get_args(World)
#: Worlds in which C1 is false: the MDM's drift, relative to its scores, is the same on both tasks.
NULLS: tuple[World, ...] = WORLDS[:-1]


@dataclass(frozen=True)
class Real:
    """What was measured on one task of one training.

    Attributes:
        arm: scores, ``[n_example, n_edges]``.
        mdm: of the MDM, over the same examples.
        control: of the control.
    """

    arm: NDArray[np.floating]
    mdm: NDArray[np.floating]
    control: NDArray[np.floating]


@dataclass(frozen=True)
class Drift:
    """How far models move in a world, as shares of the norm of the ARM's mean scores.

    Attributes:
        control: of the control on either task.
        local: of the MDM on the local task.
        planned: of the MDM on the global task.
        by_source: edges of one source move by the same normal number.
    """

    control: float
    local: float
    planned: float
    by_source: bool = False


def drift_of(world: World, control: float, mdm: float, planted: float) -> Drift:
    """What a world prescribes.

    Args:
        world: its name.
        control: drift of the control, as really measured.
        mdm: drift of the MDM on the local task, as really measured.
        planted: its drift on the global task where a shift is planted.
    """
    return {
        "no drift": Drift(0.0, 0.0, 0.0),
        "alike": Drift(control, control, control),
        "more everywhere": Drift(control, mdm, mdm),
        "shared by source": Drift(control, mdm, mdm, by_source=True),
        "planted": Drift(control, mdm, planted),
    }[world]


def true_drift(arm: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Size of the move between two models' mean scores, with the examples' noise taken off.

    ‖d‖² of the estimated move d is too large by the trace of its covariance; likewise for the
    ARM's own norm, of which the move is a share.
    """

    def square(x: Array) -> float:
        mean, n = x.mean(0), len(x)
        return float(mean @ mean - x.var(0, ddof=1).sum() / n)

    a, b = np.asarray(arm, dtype=np.float64), np.asarray(other, dtype=np.float64)
    norm = square(a)
    if norm <= 0:
        raise CircuitError("These scores are noise only: more examples are needed.")
    return float(np.sqrt(max(0.0, square(b - a)) / norm))


class Simulation:
    """Draws data of a world and judges it by the rule of the book."""

    def __init__(
        self,
        local: Sequence[Real],
        planned: Sequence[Real],
        sources: NDArray[np.int64],
        measure: Measure,
        *,
        seeds: int = 5,
        splits: int = 8,
    ) -> None:
        """Prepare.

        Args:
            local: what was measured on the local task, one training each.
            planned: on the global task, the same trainings.
            sources: source of every edge, ``[n_edges]``.
            measure: similarity that is corrected for noise.
            seeds: trainings of a simulated study, each drawn from a random real one.
            splits: random halves of the examples.

        Raises:
            CircuitError: there is no training, or the tasks have different ones.
        """
        if not local or len(local) != len(planned):
            raise CircuitError("A simulation needs the same trainings of both tasks, at least one.")
        self.tasks = (list(local), list(planned))
        self.sources, self.measure = sources, measure
        self.seeds, self.splits = seeds, splits

    def drifts(self) -> tuple[float, float]:
        """Drifts of control and MDM on the local task, the mean over the real trainings."""
        both = [(true_drift(r.arm, r.control), true_drift(r.arm, r.mdm)) for r in self.tasks[0]]
        control, mdm = np.mean(both, axis=0)
        return float(control), float(mdm)

    def overlaps(self, drift: Drift, rng: np.random.Generator) -> Array:
        """Corrected similarities of one simulated study: ``[seed, task, (mdm, control)]``."""
        found = np.empty((self.seeds, 2, 2))
        for s in range(self.seeds):
            which = int(rng.integers(len(self.tasks[0])))
            for t, reals in enumerate(self.tasks):
                size = drift.planned if t else drift.local
                found[s, t] = self._training(reals[which], size, drift, rng)
        return found

    def _training(
        self, real: Real, size: float, drift: Drift, rng: np.random.Generator
    ) -> tuple[float, float]:
        arm, n = np.asarray(real.arm, dtype=np.float64), len(real.arm)
        mean = arm.mean(0)
        draw = rng.standard_normal((n, n)) / np.sqrt(n - 1)
        noise = [draw @ (np.asarray(x) - x.mean(0)) for x in (arm, real.mdm, real.control)]
        moves = [
            self._move(mean, x.mean(0) - mean, share, drift.by_source, rng)
            for x, share in ((real.mdm, size), (real.control, drift.control))
        ]
        return self._against(
            mean + noise[0], [mean + m + e for m, e in zip(moves, noise[1:], strict=True)], rng
        )

    def _move(
        self, mean: Array, real: Array, share: float, by_source: bool, rng: np.random.Generator
    ) -> Array:
        """A wild move of norm ``share`` of the mean's."""
        if share == 0.0:
            return np.zeros_like(mean)
        if by_source:
            move = mean * rng.standard_normal(int(self.sources.max()) + 1)[self.sources]
        else:
            move = np.abs(real) * rng.standard_normal(len(mean))
        return np.asarray(share * np.linalg.norm(mean) / np.linalg.norm(move) * move)

    def _against(
        self, arm: Array, others: Sequence[Array], rng: np.random.Generator
    ) -> tuple[float, float]:
        """Corrected similarity of the ARM with each other model, over shared random halves."""
        n = len(arm)
        order = rng.permuted(np.tile(np.arange(n), (self.splits, 1)), axis=1)
        weights = np.zeros((2, self.splits, n))
        for half, rows in enumerate((order[:, : n // 2], order[:, n // 2 : 2 * (n // 2)])):
            np.put_along_axis(weights[half], rows, 2 / (2 * (n // 2)), axis=1)
        (a1, a2), *rest = [weights @ x for x in (arm, *others)]
        own = float(self.measure(a1, a2).mean())
        found = []
        for b1, b2 in rest:
            between = float(self.measure(a1, b2).mean() + self.measure(a2, b1).mean()) / 2
            found.append(Corrected(between, own, float(self.measure(b1, b2).mean())).value)
        return found[0], found[1]


def contrasts(overlaps: Array) -> tuple[Array, Array]:
    """C1's two contrasts of each seed: local minus global, and that beyond the control's."""
    own = overlaps[:, 0, 0] - overlaps[:, 1, 0]
    return own, own - (overlaps[:, 0, 1] - overlaps[:, 1, 1])


def judged(overlaps: Array) -> Outcome:
    """The verdict on one simulated study, by the rule of :mod:`comparison.verdicts`."""
    named = zip(contrasts(overlaps), ("the global task", "the control"), strict=True)
    return decide(
        [contrast_over_seeds(list(x), against) for x, against in named], claims.margin("C1")
    )


def planted_drift(
    simulation: Simulation, mdm: float, effect: float, *, draws: int = 12, seed: int = 0
) -> float | None:
    """Drift on the global task at which its corrected similarity is ``effect`` lower.

    Args:
        simulation: data and the similarity that the effect is of.
        mdm: drift of the MDM on the local task.
        effect: corrected similarity of the local task minus that of the global one.
        draws: simulated studies that are averaged at each drift that is tried.
        seed: seed of the draws.

    Returns:
        None where no drift up to ten times the ARM's norm does that.
    """

    def lower(planned: float) -> float:
        rng = np.random.default_rng(seed)
        drift = Drift(0.0, mdm, planned)
        found = [contrasts(simulation.overlaps(drift, rng))[0].mean() for _ in range(draws)]
        return float(np.mean(found))

    low, high = 0.0, 10.0
    if lower(high) < effect:
        return None
    for _ in range(9):
        middle = (low + high) / 2
        low, high = (middle, high) if lower(middle) < effect else (low, middle)
    return (low + high) / 2


def error_rates(
    simulation: Simulation,
    drifts: Mapping[str, Drift],
    *,
    studies: int,
    seed: int = 0,
    progress: Callable[[], object] | None = None,
) -> list[dict[str, float | str | int]]:
    """How often each world ends in each verdict.

    Args:
        simulation: data and rule.
        drifts: name of a world -> how far models move in it (:func:`drift_of`).
        studies: simulated studies a world.
        seed: seed of the draws.
        progress: called after every study.

    Returns:
        One row a world: ``world``, a count of studies for each of ``reproduced, "not reproduced",
        undecided, reversed``, ``control, local, planned`` (drifts), ``effect`` (mean of the first
        contrast), ``studies, seeds``.
    """
    rows: list[dict[str, float | str | int]] = []
    for number, (world, drift) in enumerate(drifts.items()):
        rng = np.random.default_rng([seed, number])
        effects: list[float] = []
        outcomes: list[str] = []
        for _ in range(studies):
            found = simulation.overlaps(drift, rng)
            outcomes.append(judged(found))
            effects.append(float(contrasts(found)[0].mean()))
            if progress is not None:
                progress()
        kinds = ("reproduced", "not reproduced", "undecided", "reversed")
        rows.append(
            {"world": world}
            | {kind: outcomes.count(kind) for kind in kinds}
            | {"control": drift.control, "local": drift.local, "planned": drift.planned}
            | {"effect": float(np.mean(effects))}
            | {"studies": studies, "seeds": simulation.seeds}
        )
    return rows
