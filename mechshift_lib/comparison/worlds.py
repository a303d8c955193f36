"""Error rates of the rule for C1, by simulation: worlds in which we know what is true.

A world starts from scores that were really measured, one array ``[n_example, n_edges]`` for each
seed, task and model. True scores of an ARM are their mean; those of the other models are moved
from them by a drift that the world prescribes. Examples are drawn anew with the covariance that
the real ones have, the same draw for all models of a seed, as examples are really shared.

A drift has a relative size r, which is what C1 is about: where it is the same on both tasks, C1 is
false. Every edge moves by r times its score times a number of mean 0 and variance 1, its own or
one that all edges of a source or of a reader share; or (``measured``) by the really measured move
times such a number, scaled to r in the norm of :mod:`mechshift_lib.comparison.noiseless`. The
latter can also make edges strong that were weak.

The rule for C1. In each training the noiseless cosine of a model's circuit with the ARM's on IOI
minus that on Countdown: of the MDM; of the MDM minus the same of the control; and where a pair has
it, of the MDM at the step where it had moved as far as the control, minus the same of the control.
Over trainings, at least three: the mean and Student's interval of each, at 98 %, as 95 % isn't
enough for a few trainings whose differences are skewed. C1 is reproduced if all intervals lie above
0 (:func:`mechshift_lib.comparison.verdicts.decide`). Here without the contrast of the matched MDM,
which can only make false verdicts rarer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mechshift_lib.comparison import claims
from mechshift_lib.comparison.noiseless import noiseless_cosines, product, weights
from mechshift_lib.comparison.over_seeds import contrast_over_seeds
from mechshift_lib.comparison.verdicts import Outcome, decide
from mechshift_lib.errors import CircuitError

Array = NDArray[np.float64]
#: Scores of one circuit and of others, ``[n_example, n_edges]`` -> its similarity to each of these.
Similarity = Callable[[NDArray[np.floating], Sequence[NDArray[np.floating]]], list[float]]
Shared = Literal["edge", "source", "reader", "measured"]
World = Literal[
    "no drift",
    "alike",
    "more everywhere",
    "shared by source",
    "shared by reader",
    "heavy tails",
    "uneven trainings",
    "sizes as measured",
    "alike, more on Countdown",
    "control more on IOI",
    "planted",
]
WORLDS: tuple[World, ...] = get_args(World)
#: Worlds in which C1 is false: the MDM's drift, relative to its scores, is the same on both tasks,
#: or differs by task as its control's does.
NULLS: tuple[World, ...] = WORLDS[:-1]
#: Degrees of freedom of the heavy-tailed moves: the fewest with which they have a variance.
TAILS = 3
#: Standard deviation of the logarithm of a drift over uneven trainings.
UNEVEN = 0.4
#: How much further models move on one task where a world says that they move further on it.
UNEQUAL = 2.0
#: Examples of a simulated training, or as many as were measured where they are fewer: more cost
#: time and make every error rarer.
EXAMPLES = 30
#: Largest drift that is simulated: there the cosine is 0.2.
LARGEST = 5.0


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
    """How far models move in a world, relative to the ARM's mean scores.

    Attributes:
        control: of the control on the local task.
        local: of the MDM on the local task.
        planned: of the MDM on the global task.
        control_planned: of the control on the global task; None: as on the local one.
        shared: what moves by one number together.
        heavy: moves have tails of Student's t with :data:`TAILS` degrees of freedom.
        uneven: drifts differ by task and training, with the mean as given.
    """

    control: float
    local: float
    planned: float
    control_planned: float | None = None
    shared: Shared = "edge"
    heavy: bool = False
    uneven: bool = False


def drift_of(world: World, control: float, mdm: float, planted: float) -> Drift:
    """What a world prescribes.

    Args:
        world: its name.
        control: drift of the control, as really measured.
        mdm: drift of the MDM on the local task, as really measured.
        planted: its drift on the global task where a shift is planted.
    """
    further = UNEQUAL * control
    return {
        "no drift": Drift(0.0, 0.0, 0.0),
        "alike": Drift(control, control, control),
        "more everywhere": Drift(control, mdm, mdm),
        "shared by source": Drift(control, mdm, mdm, shared="source"),
        "shared by reader": Drift(control, mdm, mdm, shared="reader"),
        "heavy tails": Drift(control, mdm, mdm, heavy=True),
        "uneven trainings": Drift(control, mdm, mdm, uneven=True),
        "sizes as measured": Drift(control, mdm, mdm, shared="measured"),
        # Beyond the ARM's the contrast is real here, beyond the control's there is none.
        "alike, more on Countdown": Drift(control, control, further, further),
        # And here the other way round.
        "control more on IOI": Drift(further, mdm, mdm, control),
        "planted": Drift(control, mdm, planted, shared="measured"),
    }[world]


def true_drift(arm: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Relative size of the move between two models' mean scores, without noise and scale.

    Raises:
        CircuitError: one of the two is noise only.
    """
    [cosine] = noiseless_cosines(arm, [other])
    if math.isnan(cosine):
        raise CircuitError("These scores are noise only: more examples are needed.")
    return _drift(cosine)


def _drift(cosine: float) -> float:
    """A move of relative size r that has no direction leaves a cosine of 1 / √(1 + r²)."""
    least = 1 / np.sqrt(1 + LARGEST**2)
    return float(np.sqrt(min(max(cosine, least), 1.0) ** -2 - 1))


class _Drawn:
    """What simulated trainings are drawn from: one real training on one task.

    Attributes:
        mean: the ARM's mean scores, ``[n_edges]``.
        moves: size of the really measured move of MDM and control, ``[2, n_edges]``.
        norm: size of a measured move that is as large as the ARM's scores, for each, ``[2]``.
        noise: scores of ARM, MDM and control without their means, ``[3, n_example, n_edges]``.
    """

    def __init__(self, real: Real) -> None:
        scores = [np.asarray(x, dtype=np.float64) for x in (real.arm, real.mdm, real.control)]
        means = [x.mean(0) for x in scores]
        weight = weights(scores[0])
        self.mean = means[0]
        self.moves = np.abs(np.stack(means[1:]) - self.mean)
        own = max(product(scores[0], scores[0], weight), 0.0)
        self.norm = np.sqrt(own / np.maximum(self.moves**2 @ weight, np.finfo(float).tiny))
        # Single precision halves the time of a draw; the noise needs no more.
        centred = [x - m for x, m in zip(scores, means, strict=True)]
        self.noise = np.stack(centred).astype(np.float32)

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Noise of new examples with the real covariance, ``[3, n_example, n_edges]``."""
        n = self.noise.shape[1]
        numbers = rng.standard_normal((min(n, EXAMPLES), n), dtype=np.float32)
        numbers /= np.float32(np.sqrt(n - 1))
        return numbers @ self.noise


class Simulation:
    """Draws data of a world and judges it by the rule of the book."""

    def __init__(
        self,
        local: Sequence[Real],
        planned: Sequence[Real],
        sources: NDArray[np.int64],
        readers: NDArray[np.int64],
        similarities: Mapping[str, Similarity],
        seeds: int = 5,
    ) -> None:
        """Prepare.

        Args:
            local: what was measured on the local task, one training each.
            planned: on the global task, the same trainings.
            sources: source of every edge, counted from 0, ``[n_edges]``.
            readers: reader of every edge, counted from 0, ``[n_edges]``.
            similarities: of two circuits, by name.
            seeds: trainings of a simulated study, each drawn from a random real one.

        Raises:
            CircuitError: there is no training, or the tasks have different ones.
        """
        if not local or len(local) != len(planned):
            raise CircuitError("A simulation needs the same trainings of both tasks, at least one.")
        self.tasks = ([_Drawn(x) for x in local], [_Drawn(x) for x in planned])
        self.real = list(local)
        self.ends = {"source": sources, "reader": readers}
        self.similarities, self.seeds = dict(similarities), seeds

    def drifts(self) -> tuple[float, float]:
        """Drifts of control and MDM on the local task: of the mean cosine."""
        both = [noiseless_cosines(r.arm, [r.control, r.mdm]) for r in self.real]
        control, mdm = np.mean(both, axis=0)
        return _drift(float(control)), _drift(float(mdm))

    def overlaps(
        self,
        drift: Drift,
        rng: np.random.Generator,
        seeds: int | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, Array]:
        """Similarities of one simulated study by name, each ``[seed, task, (mdm, control)]``.

        Args:
            drift: how far models move.
            rng: of the draws.
            seeds: trainings, by default those of the simulation.
            names: of the similarities that are wanted, by default all.
        """
        seeds = self.seeds if seeds is None else seeds
        wanted = {n: self.similarities[n] for n in names or self.similarities}
        found = {name: np.empty((seeds, 2, 2)) for name in wanted}
        for s in range(seeds):
            which = int(rng.integers(len(self.tasks[0])))
            for t, reals in enumerate(self.tasks):
                arm, *others = self._training(reals[which], t, drift, rng)
                for name, similarity in wanted.items():
                    found[name][s, t] = similarity(arm, others)
        return found

    def _training(
        self, real: _Drawn, task: int, drift: Drift, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], ...]:
        """Scores of ARM, MDM and control, ``[n_example, n_edges]`` each; task 0: the local one."""
        drawn = real.draw(rng)
        drawn += real.mean.astype(np.float32)
        arm, mdm, control = drawn
        mdm += self._move(real, 0, drift.planned if task else drift.local, drift, rng)
        here, planned = drift.control, drift.control_planned
        if task and planned is not None:
            here = planned
        control += self._move(real, 1, here, drift, rng)
        return arm, mdm, control

    def _move(
        self, real: _Drawn, model: int, r: float, drift: Drift, rng: np.random.Generator
    ) -> Array:
        """A move of relative size ``r`` from the ARM's mean scores, ``[n_edges]``.

        ``model`` is 0 for the MDM's really measured moves and 1 for the control's.
        """
        if drift.uneven:
            r *= float(np.exp(UNEVEN * rng.standard_normal() - UNEVEN**2 / 2))
        ends = self.ends.get(drift.shared, np.arange(len(real.mean)))
        size = int(ends.max()) + 1
        if drift.heavy:
            numbers = rng.standard_t(TAILS, size) / np.sqrt(TAILS / (TAILS - 2))
        else:
            numbers = rng.standard_normal(size)
        if drift.shared == "measured":
            return np.asarray(r * real.norm[model] * real.moves[model] * numbers)
        return np.asarray(r * real.mean * numbers[ends])


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
    simulation: Simulation, measure: str, mdm: float, effect: float, draws: int = 6, seed: int = 0
) -> float | None:
    """Drift on the global task at which its similarity is ``effect`` lower.

    Args:
        simulation: data and similarities.
        measure: name of the similarity that the effect is of.
        mdm: drift of the MDM on the local task.
        effect: similarity of the local task minus that of the global one.
        draws: simulated studies that are averaged at each drift that is tried.
        seed: seed of the draws.

    Returns:
        None where no drift up to :data:`LARGEST` does that.
    """

    def lower(planned: float) -> float:
        rng = np.random.default_rng(seed)
        drift = Drift(0.0, mdm, planned, shared="measured")
        found = [simulation.overlaps(drift, rng, names=[measure])[measure] for _ in range(draws)]
        return float(np.mean([contrasts(one)[0].mean() for one in found]))

    low, high = 0.0, LARGEST
    if lower(high) < effect:
        return None
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if lower(middle) < effect else (low, middle)
    return (low + high) / 2


def error_rates(
    simulation: Simulation,
    drifts: Mapping[str, Drift],
    *,
    studies: int,
    seeds: Sequence[int] = (5,),
    seed: int = 0,
    fewer: Mapping[str, int] | None = None,
    progress: Callable[[], object] | None = None,
) -> list[dict[str, float | str | int]]:
    """How often each world ends in each verdict.

    Args:
        simulation: data and similarities.
        drifts: name of a world -> how far models move in it (:func:`drift_of`).
        studies: simulated studies a world.
        seeds: numbers of trainings that a study is judged by, the first ones of the largest.
        seed: seed of the draws.
        fewer: similarities that only the first so many studies are judged by, as they take long.
        progress: called after every study.

    Returns:
        One row a similarity, world and number of trainings: ``measure, world, seeds``, a count of
        studies for each of ``reproduced, "not reproduced", undecided, reversed``, ``control, local,
        planned`` (drifts), ``effect`` (mean of the first contrast), ``studies``.
    """
    rows: list[dict[str, float | str | int]] = []
    for number, (world, drift) in enumerate(drifts.items()):
        rng = np.random.default_rng([seed, number])
        drawn: list[dict[str, Array]] = []
        for study in range(studies):
            names = [n for n in simulation.similarities if study < (fewer or {}).get(n, studies)]
            drawn.append(simulation.overlaps(drift, rng, max(seeds), names))
            if progress is not None:
                progress()
        for measure in simulation.similarities:
            for n in seeds:
                found = [one[measure][:n] for one in drawn if measure in one]
                outcomes = [judged(one) for one in found]
                counts: dict[str, int] = {kind: outcomes.count(kind) for kind in KINDS}
                effect = float(np.mean([contrasts(one)[0].mean() for one in found]))
                row: dict[str, float | str | int] = {
                    "measure": measure,
                    "world": world,
                    "seeds": n,
                    "studies": len(found),
                    "control": drift.control,
                    "local": drift.local,
                    "planned": drift.planned,
                    "effect": effect,
                    **counts,
                }
                rows.append(row)
    return rows


#: Outcomes that a simulated study can have.
KINDS: tuple[Outcome, ...] = ("reproduced", "not reproduced", "undecided", "reversed")
