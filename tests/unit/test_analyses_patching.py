"""Activation patching of a pair: effects and arrival from hand-made metrics."""

import numpy as np
import pandas as pd

from mechshift_lib.analyses.patching import Patched
from mechshift_lib.analyses.patching_tables import arrival_depth, arrived_share, correlations


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
