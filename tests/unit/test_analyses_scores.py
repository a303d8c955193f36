"""Scores by read: hand-computed shares, reads with an effect, and what stays without one."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses.scores import Measured, assembled, clear_reads
from mechshift_lib.circuits.graph.graph import Graph

GRAPH = Graph(n_layers=1, n_heads=1, n_kv_heads=1, kv="ungrouped")


def table(effects: dict[int, list[float]]) -> pd.DataFrame:
    """One row an example and position, in the order of positions; ``step`` is the position."""
    rows = [
        {"example": example, "position": position, "step": position, "effect": effect}
        for position, values in effects.items()
        for example, effect in enumerate(values)
    ]
    return pd.DataFrame(rows)


def measured(effects: dict[int, list[float]], first: list[float]) -> Measured:
    """Scores that are ``first`` at edge 0 and 0 elsewhere."""
    items = table(effects)
    scores = np.zeros((len(items), GRAPH.n_edges), dtype=np.float32)
    scores[:, 0] = first
    return Measured(GRAPH, items, scores)


def test_each_reads_scores_are_shares_of_its_own_mean_effect():
    own = measured({0: [2.0, 6.0], 3: [0.5, 0.5]}, [2.0, 2.0, 0.25, 0.5])
    found = assembled("arm", own, [0, 3])
    assert found.shares
    assert found.reads.tolist() == [0, 3]
    assert found.effect.tolist() == [4.0, 0.5]
    np.testing.assert_allclose(found.by_read[:, :, 0], [[0.5, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(found.by_example[:, 0], [0.5, 0.75])
    np.testing.assert_allclose(found.by_step[:, 0], [0.5, 0.75])
    assert found.mean[0] == pytest.approx(0.625)
    assert found.by_example[:, 1:].any() == np.False_


def test_the_size_of_a_reads_metric_makes_no_difference():
    effects = {0: [1.0, 2.0, 3.0], 1: [4.0, 4.0, 7.0]}
    own = measured(effects, [0.3, 0.2, 0.1, 1.0, 2.0, 3.0])
    larger = Measured(GRAPH, own.items.copy(), own.scores.copy())
    chosen = (own.items.position == 1).to_numpy()
    larger.items.loc[chosen, "effect"] *= 10
    larger.scores[chosen] *= 10
    one, other = (assembled("arm", x, [0, 1]) for x in (own, larger))
    np.testing.assert_allclose(one.by_example, other.by_example, rtol=1e-6)


def test_a_read_counts_only_where_every_model_has_a_clear_effect():
    clear, vague, against = [1.0, 1.2, 0.9, 1.1], [1.0, -0.9, 2.0, -1.0], [-1.0, -1.1, -0.9, -1.2]
    arm = table({0: clear, 1: clear, 2: vague, 3: clear})
    mdm = table({0: clear, 1: against, 2: clear, 3: vague})
    assert clear_reads([arm, mdm]) == [0]
    assert clear_reads([arm, arm]) == [0, 1, 3]
    assert clear_reads([arm[arm.example == 0], mdm]) == []  # one example has no interval


def test_an_example_without_a_metric_at_a_read_is_left_out_there():
    own = measured({0: [1.0, 3.0], 1: [1.0, 1.0]}, [1.0, 1.0, 1.0, 1.0])
    items = own.items.drop(index=2).reset_index(drop=True)
    found = assembled("mdm", Measured(GRAPH, items, np.delete(own.scores, 2, 0)), [0, 1])
    assert np.isnan(found.by_read[1, 0]).all()
    np.testing.assert_allclose(found.by_example[:, 0], [0.5, 0.75])


def test_without_a_clear_effect_scores_stay_in_units_of_the_metric():
    own = measured({0: [2.0, 6.0], 1: [-1.0, 1.0]}, [2.0, 2.0, 4.0, 6.0])
    found = assembled("arm", own, [])
    assert not found.shares
    np.testing.assert_allclose(found.by_example[:, 0], [3.0, 4.0])


def test_a_read_at_which_this_model_has_no_effect_is_left_out_of_its_circuit():
    own = measured({0: [2.0, 2.0], 1: [-1.0, -1.0]}, [1.0, 1.0, 5.0, 5.0])
    found = assembled("continued", own, [0, 1])
    assert found.reads.tolist() == [0]
    np.testing.assert_allclose(found.by_example[:, 0], [0.5, 0.5])
