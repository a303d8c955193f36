"""Faithfulness, CPR and CMD on numbers made by hand."""

import dataclasses

import numpy as np
import pytest

from mechshift_lib.circuits.evaluation.curve import FRACTIONS, Curve, cmd, cpr, faithfulness
from mechshift_lib.errors import CircuitError


def curve(by="signed", **changes):
    """Two examples: the mean metric rises from 1 to 5, past 5 to 7, and back to 5."""
    values = np.array([[1.0, 1.0], [2.0, 4.0], [6.0, 8.0], [4.0, 6.0]])
    made = Curve(
        fractions=np.array([0.1, 0.2, 0.5, 1.0]),
        n_edges=np.array([1, 2, 5, 10]),
        by=by,
        selection="top",
        examples=np.array([3, 8]),
        values=values,
        correct=np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]]),
        full=np.array([4.0, 6.0]),
        empty=np.array([0.0, 2.0]),
    )
    return dataclasses.replace(made, **changes)


def test_faithfulness_is_a_ratio_of_means():
    # mean empty 1, mean full 5: (1, 3, 7, 5) → (0, ½, 1½, 1)
    np.testing.assert_allclose(curve().faithfulness, [0, 0.5, 1.5, 1])
    # with spans 1 and 6 the examples' own ratios are 3 and 1, of mean 2; that of the means is 9/7
    values, full, empty = np.array([[3.0, 6.0]]), np.array([1.0, 6.0]), np.zeros(2)
    np.testing.assert_allclose(faithfulness(values, full, empty), [9 / 7])


def test_areas_by_the_trapezoid_rule():
    # widths .1 .3 .5: f in the middle ¼, 1, 1¼; |1 − f| = (1, ½, ½, 0): ¾, ½, ¼
    assert cpr(curve()) == pytest.approx(0.1 * 0.25 + 0.3 * 1 + 0.5 * 1.25)
    assert cmd(curve("absolute")) == pytest.approx(0.1 * 0.75 + 0.3 * 0.5 + 0.5 * 0.25)


def test_the_whole_model_at_every_point_on_the_grid_of_mib():
    n = len(FRACTIONS)
    whole = curve(
        fractions=np.array(FRACTIONS),
        n_edges=np.arange(n),
        values=np.tile([4.0, 6.0], (n, 1)),
        correct=np.ones((n, 2)),
    )
    assert cpr(whole) == pytest.approx(0.999)
    assert cmd(dataclasses.replace(whole, by="absolute")) == pytest.approx(0)


def test_each_area_refuses_the_other_ranking_and_single_points():
    with pytest.raises(CircuitError, match="CPR is defined for edges ranked by signed"):
        cpr(curve("absolute"))
    with pytest.raises(CircuitError, match="CMD is defined for edges ranked by absolute"):
        cmd(curve("signed"))
    with pytest.raises(CircuitError, match="CPR is defined"):
        curve("absolute").interval("cpr")
    with pytest.raises(CircuitError, match="Unknown area 'auc'"):
        curve().interval("auc")
    point = {"fractions": np.array([0.1]), "values": np.ones((1, 2)), "correct": np.ones((1, 2))}
    with pytest.raises(CircuitError, match="at least 2 fractions"):
        cpr(curve(**point))


def test_no_span_is_said():
    with pytest.raises(CircuitError, match="same metric"):
        _ = curve(empty=np.array([4.0, 6.0])).faithfulness
    with pytest.raises(CircuitError, match="same metric"):
        _ = curve(full=np.array([np.nan, 6.0])).faithfulness


def test_frame_and_intervals_resample_examples():
    rng = np.random.default_rng(0)
    n = 40
    full, empty = 5 + rng.normal(size=n), rng.normal(size=n)
    values = np.stack([empty + 0.25 * (full - empty) + rng.normal(size=n), full])
    made = curve(
        fractions=np.array([0.5, 1.0]),
        n_edges=np.array([5, 10]),
        examples=np.arange(n),
        values=values,
        correct=np.ones((2, n)),
        full=full,
        empty=empty,
    )
    frame = made.frame(draws=2000)
    assert list(frame)[:4] == ["fraction", "n_edges", "value", "faithfulness"]
    np.testing.assert_allclose(frame["faithfulness"], made.faithfulness)
    np.testing.assert_allclose(frame["value"], values.mean(1))
    assert (frame["n"] == n).all()
    # the whole model is faithful in every draw; half of it as uncertain as its noise, ~ 1/√40/5
    assert frame["low"][1] == pytest.approx(1)
    assert frame["high"][1] == pytest.approx(1)
    half = (frame["high"][0] - frame["low"][0]) / 2
    assert half == pytest.approx(1.96 / np.sqrt(n) / 5, rel=0.3)
    assert frame["low"][0] < frame["faithfulness"][0] < frame["high"][0]
    low, high = made.interval("cpr", draws=2000)
    assert low < cpr(made) < high
    assert (low, high) == made.interval("cpr", draws=2000)  # seeded
    assert (low, high) != made.interval("cpr", draws=2000, seed=1)
    assert high - low == pytest.approx(half / 2, rel=0.01)  # half the width at a corner of 0.5


def test_one_example_has_no_interval():
    one = curve(
        examples=np.array([0]),
        values=np.array([[0.0], [1.0], [2.0], [2.0]]),
        correct=np.ones((4, 1)),
        full=np.array([2.0]),
        empty=np.array([0.0]),
    )
    np.testing.assert_allclose(one.frame()["faithfulness"], [0, 0.5, 1, 1])
    assert one.frame()[["low", "high"]].isna().all(axis=None)
    assert np.isnan(one.interval("cpr")).all()
