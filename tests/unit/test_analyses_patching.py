"""Activation patching of a pair: effects, arrival and sentences from hand-made metrics."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import narrative_patching as told
from mechshift_lib.analyses.patching import (
    Patched,
    arrival_depth,
    arrived_share,
    correlations,
)

REGIMES = {"ioi": "local", "countdown": "global", "infilling": "global"}


def patched(values, items, direction="denoise"):
    """Metrics ``[n_item, n_layer, n_pos]`` of the residual stream."""
    item, layer, position = (i.ravel() for i in np.indices(values.shape))
    rows = pd.DataFrame(
        {"site": "resid", "direction": direction, "layer": layer, "head": -1}
        | {"position": position, "item": item, "value": values.ravel()}
    )
    return Patched(rows, items)


def two_examples():
    """Example 7 has two items with 3 reads and 1, example 9 has one."""
    return pd.DataFrame(
        {"example": [7, 7, 9], "step": [0, 1, 0], "weight": [0.75, 0.25, 1.0]}
        | {"clean": [4.0, 8.0, 2.0], "corrupted": [0.0, 4.0, -2.0]}
    )


def test_an_effect_is_a_ratio_of_means_over_examples():
    values = np.array([[[4.0, 0.0]], [[4.0, 6.0]], [[-2.0, -1.0]]])
    found = patched(values, two_examples())
    # Gaps are 4, 4 and 4; restored are 4, 0, 0 and 0, 2, 1.
    expected = [(0.75 * 4) / 8, (0.25 * 2 + 1) / 8]
    np.testing.assert_allclose(found.effects("resid")[0, 0], expected)
    np.testing.assert_allclose(found.effects("resid", step=1)[0, 0], [0, 0.5])
    weights = np.array([[0.0, 1.0]])  # a draw of example 9 only
    np.testing.assert_allclose(found.effects("resid", draws=weights)[0, 0], [0, 0.25])


def test_noising_counts_what_is_lost():
    values = np.array([[[0.0, 4.0]], [[8.0, 8.0]], [[2.0, 2.0]]])
    found = patched(values, two_examples(), "noise")
    effects = found.effects("resid", "noise")[0, 0]
    np.testing.assert_allclose(effects, [(0.75 * 4) / 8, 0], atol=1e-12)


def test_the_answer_arrives_where_its_share_passes_a_half():
    answer = np.array([False, True])
    effects = np.array([[[1.0, 0.0], [0.75, 0.25], [0.0, 1.0]]])
    share = arrived_share(effects, answer)
    np.testing.assert_allclose(share, [[0, 0.25, 1]])
    # Half is passed a third of the way from layer 1 to layer 2, of 2 layers.
    np.testing.assert_allclose(arrival_depth(share), [(1 + 1 / 3) / 2])
    np.testing.assert_allclose(arrival_depth(np.array([[0.6, 1.0], [0.0, 0.2]])), [0, 1])


def test_a_negative_effect_is_no_share_and_none_at_all_is_not_a_number():
    effects = np.array([[[-1.0, 2.0], [0.0, 0.0]]])
    share = arrived_share(effects, np.array([False, True]))
    assert share[0, 0] == 1
    assert np.isnan(share[0, 1])


def test_correlations_are_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 20))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(correlations(a, b), expected)
    assert np.isnan(correlations(np.ones((1, 4)), b[:1, :4]))


def depths(mdm, control=None, tasks=("countdown", "infilling"), half=0.02):
    rows = []
    for task, shift in zip(tasks, mdm, strict=True):
        rows.append((task, "arm", "", 0.5))
        rows.append((task, "mdm", "", 0.5 + shift))
        rows.append((task, "mdm", "arm", shift))
        if control is not None:
            rows.append((task, "continued", "arm", control))
            rows.append((task, "mdm", "continued", shift - control))
    frame = pd.DataFrame(rows, columns=["task", "role", "base", "depth"])
    return frame.assign(low=frame.depth - half, high=frame.depth + half, n=10)


def test_arrival_speaks_for_c2_only_beyond_the_control_and_on_global_tasks():
    both = told.arrival(depths([-0.1, -0.1]), REGIMES)
    assert "agrees with the direction of C2" in both
    assert "in part" in told.arrival(depths([-0.1, 0.0]), REGIMES)
    assert "doesn't show C2" in told.arrival(depths([0.1, 0.0]), REGIMES)
    assert "doesn't show C2" in told.arrival(depths([-0.1, -0.1], control=-0.1), REGIMES)
    local = told.arrival(depths([-0.1], tasks=("ioi",)), REGIMES)
    assert "says nothing about C2" in local


@pytest.mark.parametrize(
    ("control", "expected"),
    [(0.9, "lower than the control's"), (0.1, "higher than"), (0.52, "not told apart")],
)
def test_agreement_of_heads_is_told_beside_the_control(control, expected):
    rows = [("arm-mdm", 0.5), ("arm-continued", control)]
    table = pd.DataFrame(rows, columns=["comparison", "correlation"]).assign(task="ioi")
    table = table.assign(low=table.correlation - 0.05, high=table.correlation + 0.05)
    assert expected in told.agreement(table)
    assert "control" not in told.agreement(table.iloc[:1])


def test_strong_heads_are_named_and_the_rest_counted():
    rows = [
        {"role": role, "direction": direction, "layer": 0, "head": head, "n": 9}
        | {"effect": effect if direction == "denoise" else 0.02}
        for role, strengths in (("arm", [0.9, 0.2, 0.3, 0.4, 0.5, 0.6]), ("mdm", [0.05] * 6))
        for head, effect in enumerate(strengths)
        for direction in ("denoise", "noise")
    ]
    text = told.heads(pd.DataFrame(rows), "ioi")
    assert "ARM: `a0.h0` 90 % (noised 2 %), `a0.h5` 60 %" in text
    assert "and 1 more" in text
    assert "MDM: no head alone restores 10 %" in text


def test_tasks_with_steps_are_named():
    assert "no steps to compare" in told.steps([])
    assert "Countdown and Infilling" in told.steps(["countdown", "infilling"])
