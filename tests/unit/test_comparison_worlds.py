"""Inference over trainings, and how often the rule for C1 errs where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from mechshift_lib.comparison import worlds as W
from mechshift_lib.comparison.over_seeds import contrast_over_seeds, sign_flip
from mechshift_lib.comparison.similarity import cosine
from mechshift_lib.errors import CircuitError

EDGES, SOURCES = 160, 8


def real(noise: float, seed: int, move: float) -> W.Real:
    """Heavy-tailed scores, as real ones are, with noise that grows with them."""
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(EDGES) ** 3

    def one(shift: float) -> np.ndarray:
        moved = mean + shift * np.abs(mean) * rng.standard_normal(EDGES)
        return moved + noise * np.abs(mean) * rng.standard_normal((24, EDGES))

    return W.Real(one(0.0), one(move), one(move / 2))


def simulation(seeds: int = 5) -> W.Simulation:
    local = [real(0.5, s, 0.3) for s in range(2)]
    planned = [real(1.0, 10 + s, 0.3) for s in range(2)]  # noisier, as Countdown is
    sources = np.arange(EDGES) % SOURCES
    return W.Simulation(local, planned, sources, cosine, seeds=seeds, splits=4)


def test_contrasts_over_seeds_are_students_t() -> None:
    values = [0.1, 0.3, 0.2, 0.25, 0.05]
    found = contrast_over_seeds(values, "the control")
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.effect, found.n, found.against) == (pytest.approx(0.18), 5, "the control")
    assert math.isnan(contrast_over_seeds([0.4], "x").low)


def test_sign_flips_are_counted() -> None:
    assert sign_flip([1.0, 2.0, 3.0]) == 1 / 8
    assert sign_flip([1.0, -1.0]) == 3 / 4
    assert sign_flip([-1.0]) == 1.0
    with pytest.raises(ValueError, match="1 to 20"):
        sign_flip([])


def test_the_size_of_a_move_is_found_beneath_the_noise() -> None:
    rng = np.random.default_rng(0)
    mean = rng.standard_normal(4000)
    move = rng.standard_normal(4000)
    move *= 0.3 * np.linalg.norm(mean) / np.linalg.norm(move)
    arm, other = (m + 3.0 * rng.standard_normal((50, 4000)) for m in (mean, mean + move))
    assert W.true_drift(arm, other) == pytest.approx(0.3, abs=0.08)
    assert W.true_drift(arm, mean + 3.0 * rng.standard_normal((50, 4000))) < 0.15
    with pytest.raises(CircuitError, match="noise only"):
        W.true_drift(np.array([[1.0, -1.0], [-1.0, 1.0]]), arm[:2, :2])


def test_simulated_moves_have_the_size_that_is_prescribed() -> None:
    sim, rng = simulation(), np.random.default_rng(1)
    mean, move = rng.standard_normal(EDGES), rng.standard_normal(EDGES)
    for by_source in (False, True):
        found = sim._move(mean, move, 0.4, by_source, rng)
        assert np.linalg.norm(found) == pytest.approx(0.4 * np.linalg.norm(mean))
    factors = (found / mean).reshape(-1, SOURCES)  # of the last: shared by source
    assert np.allclose(factors, factors[0])
    assert not sim._move(mean, move, 0.0, False, rng).any()


def test_null_worlds_have_no_effect_and_few_false_verdicts_and_a_planted_shift_is_found() -> None:
    sim = simulation()
    control, mdm = sim.drifts()
    planted = W.planted_drift(sim, mdm, 0.3)
    assert planted is not None
    assert W.planted_drift(sim, mdm, 5.0, draws=1) is None
    drifts = {world: W.drift_of(world, control, mdm, planted) for world in W.WORLDS}
    by = {row["world"]: row for row in W.error_rates(sim, drifts, studies=60)}
    assert list(by) == list(W.WORLDS)
    for world in W.NULLS:
        assert abs(float(by[world]["effect"])) < 0.02, world
        # 5 % is the promise; 60 studies of a 5 % world exceed 8 with probability 0.2 %.
        assert int(by[world]["reproduced"]) <= 8, world
    assert float(by["planted"]["effect"]) == pytest.approx(0.3, abs=0.05)
    assert int(by["planted"]["reproduced"]) > 42


def test_one_training_decides_nothing() -> None:
    sim = simulation(seeds=1)
    drift = W.drift_of("planted", 0.1, 0.2, 2.0)
    assert W.judged(sim.overlaps(drift, np.random.default_rng(0))) == "undecided"


def test_what_a_simulation_needs_is_said() -> None:
    with pytest.raises(CircuitError, match="same trainings"):
        W.Simulation([real(1, 0, 0.1)], [], np.zeros(EDGES, dtype=np.int64), cosine)
