"""Inference over trainings, and how often the rule for C1 errs where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from mechshift_lib.comparison import worlds as W
from mechshift_lib.comparison.noiseless import noiseless_cosines, product, weights
from mechshift_lib.comparison.over_seeds import contrast_over_seeds, differences, sign_flip
from mechshift_lib.errors import CircuitError

EDGES, SOURCES = 160, 8
ENDS = (np.arange(EDGES) % SOURCES, np.arange(EDGES) // SOURCES)


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
    return W.Simulation(local, planned, *ENDS, {"noiseless": noiseless_cosines}, seeds)


def test_contrasts_over_seeds_are_students_t() -> None:
    values = [0.1, 0.3, 0.2, 0.25, 0.05]
    found = contrast_over_seeds([*values, math.nan], "the control")
    expected = ttest_1samp(values, 0).confidence_interval(0.98)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.effect, found.n, found.against) == (pytest.approx(0.18), 5, "the control")
    assert (found.of, found.error, found.freedom) == ("trainings", pytest.approx(0.01), 4)
    assert not contrast_over_seeds([0.4, 0.5], "x").known
    assert math.isnan(contrast_over_seeds([math.nan], "x").effect)


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
    arm, other = (m + 3.0 * rng.standard_normal((50, 4000)) for m in (mean, 0.5 * (mean + move)))
    assert W.true_drift(arm, other) == pytest.approx(0.3, abs=0.15)
    assert W.true_drift(arm, -arm) == pytest.approx(W.LARGEST)
    assert W.true_drift(arm, arm) == 0.0
    with pytest.raises(CircuitError, match="noise only"):
        W.true_drift(*(np.outer([1.0, -1.0, 1.0, -1.0], [1.0, 2.0]) for _ in range(2)))


def test_examples_are_drawn_with_the_real_covariance() -> None:
    measured = real(0.5, 1, 0.3)
    drawn = W._Drawn(measured)
    rng = np.random.default_rng(0)
    found = np.concatenate([drawn.draw(rng) for _ in range(200)], axis=1)
    assert abs(found.mean(1)).max() < 0.2 * found.std()
    real_scores = np.stack([measured.arm, measured.mdm, measured.control])
    assert found.std(1) == pytest.approx(real_scores.std(1, ddof=1), rel=0.1)
    one, other = measured.arm[:, 3], measured.mdm[:, 3]  # an example is shared by all models
    expected = np.corrcoef(one, other)[0, 1]
    assert np.corrcoef(found[0, :, 3], found[1, :, 3])[0, 1] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("shared", ["edge", "source", "reader", "measured"])
def test_simulated_moves_have_the_size_and_the_pattern_that_are_prescribed(shared: str) -> None:
    sim, rng = simulation(), np.random.default_rng(1)
    measured = real(0.1, 3, 0.3)
    drawn, arm = W._Drawn(measured), measured.arm
    drift = W.Drift(0.0, 0.0, 0.0, shared=shared)
    moves = np.array([sim._move(drawn, 0, 0.4, drift, rng) for _ in range(300)])
    weight = weights(arm)
    size = (moves**2 @ weight).mean() / product(arm, arm, weight)
    assert np.sqrt(size) == pytest.approx(0.4, rel=0.1)
    factors = (moves[0] / arm.mean(0)).reshape(-1, SOURCES)
    assert np.allclose(factors, factors[0]) == (shared == "source")
    assert np.allclose(factors, factors[:, :1]) == (shared == "reader")
    assert not sim._move(drawn, 0, 0.0, drift, rng).any()


def test_tails_are_heavier_and_trainings_uneven_where_a_world_says_so() -> None:
    sim, rng = simulation(), np.random.default_rng(2)
    drawn = W._Drawn(real(0.1, 3, 0.3))

    def sizes(**kind: bool) -> np.ndarray:
        drift = W.Drift(0.0, 0.0, 0.0, **kind)
        moves = np.array([sim._move(drawn, 0, 1.0, drift, rng) for _ in range(400)])
        return np.abs(moves / drawn.mean)

    plain, heavy, uneven = sizes(), sizes(heavy=True), sizes(uneven=True)
    assert heavy.max() > 2 * plain.max()
    spread = [np.std(np.log((x**2).mean(1))) / 2 for x in (plain, uneven)]
    assert spread[0] < 0.1
    assert spread[1] == pytest.approx(W.UNEVEN, rel=0.15)


def test_null_worlds_have_no_effect_and_few_false_verdicts_and_a_planted_shift_is_found() -> None:
    sim = simulation()
    control, mdm = sim.drifts()
    planted = W.planted_drift(sim, "noiseless", mdm, 0.3)
    assert planted is not None
    assert W.planted_drift(sim, "noiseless", mdm, 5.0, draws=1) is None
    drifts = {world: W.drift_of(world, control, mdm, planted) for world in W.WORLDS}
    rows = W.error_rates(sim, drifts, studies=60, seeds=(3, 5))
    assert [row["seeds"] for row in rows] == [3, 5] * len(W.WORLDS)
    by = {row["world"]: row for row in rows if row["seeds"] == 5}
    assert list(by) == list(W.WORLDS)
    for world in W.NULLS:
        # Where both models move further on one task, only the control tells that C1 is false.
        alike = world == "alike, more on Countdown"
        assert (abs(float(by[world]["effect"])) < 0.02) != alike, world
        # 5 % is the promise; 60 studies of a 5 % world exceed 8 with probability 0.2 %.
        assert int(by[world]["reproduced"]) <= 8, world
    assert float(by["planted"]["effect"]) == pytest.approx(0.3, abs=0.05)
    assert int(by["planted"]["reproduced"]) >= 54


def test_the_control_moves_further_on_the_task_that_a_world_says() -> None:
    sim, rng = simulation(), np.random.default_rng(3)
    for world, further in (("alike, more on Countdown", 1), ("control more on IOI", 0)):
        drift = W.drift_of(world, 0.4, 0.6, 9.0)
        found = np.mean([sim.overlaps(drift, rng)["noiseless"].mean(0) for _ in range(30)], axis=0)
        mdm, control = found.T
        cosine = [1 / np.sqrt(1 + r**2) for r in (0.4, 0.4 * W.UNEQUAL)]
        assert control[[1 - further, further]] == pytest.approx(cosine, abs=0.05)
        same = cosine[::1] if further else [1 / np.sqrt(1 + 0.6**2)] * 2
        assert mdm == pytest.approx(same, abs=0.05)


def test_some_studies_only_are_judged_by_what_takes_long() -> None:
    sim = simulation(3)
    sim.similarities["slow"] = sim.similarities["noiseless"]
    rows = W.error_rates(
        sim, {"x": W.Drift(0.1, 0.1, 0.1)}, studies=5, seeds=(3,), fewer={"slow": 2}
    )
    assert {row["measure"]: row["studies"] for row in rows} == {"noiseless": 5, "slow": 2}
    assert sum(int(rows[1][kind]) for kind in W.KINDS) == 2


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_trainings_decide_nothing(seeds: int) -> None:
    sim = simulation(seeds=seeds)
    drift = W.drift_of("planted", 0.1, 0.2, 2.0)
    found = sim.overlaps(drift, np.random.default_rng(0))["noiseless"]
    assert W.judged(found) == "undecided"


def test_what_a_simulation_needs_is_said() -> None:
    with pytest.raises(CircuitError, match="same trainings"):
        W.Simulation([real(1, 0, 0.1)], [], *ENDS, {})


def test_shown_differences_leave_out_what_is_missing_and_are_of_95_per_cent() -> None:
    wide = pd.DataFrame({"mdm": [1.0, 2.0, 4.0, np.nan], "arm": [0.0, 1.0, 1.0, 1.0]})
    [row] = differences(wide, [("mdm", "arm"), ("mdm", "continued")])
    expected = ttest_1samp([1.0, 1.0, 3.0], 0).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
    assert (row["model"], row["base"], row["n"]) == ("mdm", "arm", 3)
    assert row["difference"] == pytest.approx(5 / 3)
