"""Faithfulness of a pair's circuits: curves and areas from hand-made metrics."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import faithfulness
from mechshift_lib.circuits.evaluation.curve import FRACTIONS, Curve, cmd, cpr


def evaluated(seed=0, n=5):
    """Random metrics of an own and a foreign circuit and two random ones, for ``n`` examples."""
    rng = np.random.default_rng(seed)
    full, empty = rng.normal(3, 1, n), rng.normal(-1, 1, n)
    rows = []
    ranked = [("mdm", "signed"), ("mdm", "absolute"), ("arm", "signed")]
    for circuit, by in [*ranked, *((name, "signed") for name in faithfulness.RANDOM)]:
        for fraction in FRACTIONS:
            for example in rng.permutation(n):
                rows.append(
                    {"circuit": circuit, "by": by, "fraction": fraction, "example": example + 40}
                    | {"value": rng.normal(), "full": full[example], "empty": empty[example]}
                    | {"count": max(1, int(fraction * 100)), "correct": 0.5}
                )
    return pd.DataFrame(rows)


def curve_of(found, circuit, by):
    rows = found[(found.circuit == circuit) & (found.by == by)]
    first = rows.drop_duplicates("example").sort_values("example")
    values = rows.pivot(index="fraction", columns="example", values="value").to_numpy()
    return Curve(
        fractions=np.array(FRACTIONS),
        n_edges=np.arange(len(FRACTIONS)),
        by=by,
        selection="top",
        examples=first.example.to_numpy(),
        values=values,
        correct=values,
        full=first["full"].to_numpy(),
        empty=first["empty"].to_numpy(),
    )


def test_curves_and_areas_are_those_of_the_engine():
    found = evaluated()
    drawn = faithfulness.curves(found, draws=10)
    for circuit in ("mdm", "arm"):
        curve = curve_of(found, circuit, "signed")
        np.testing.assert_allclose(drawn[circuit, "signed"][0], curve.faithfulness)
        assert faithfulness.area(drawn[circuit, "signed"], "cpr")[0] == pytest.approx(cpr(curve))
    own = curve_of(found, "mdm", "absolute")
    assert faithfulness.area(drawn["mdm", "absolute"], "cmd")[0] == pytest.approx(cmd(own))
    assert drawn["mdm", "signed"].shape == (11, len(FRACTIONS))


def test_random_rankings_are_averaged_and_leave_no_curve_of_their_own():
    found = evaluated()
    drawn = faithfulness.curves(found, draws=3)
    assert set(drawn) == {("mdm", "signed"), ("mdm", "absolute"), ("arm", "signed")} | {
        ("random", "signed")
    }
    each = [curve_of(found, name, "signed").faithfulness for name in faithfulness.RANDOM]
    np.testing.assert_allclose(drawn["random", "signed"][0], np.mean(each, axis=0))


def test_all_circuits_are_drawn_over_the_same_examples():
    found = evaluated()
    twin = found[found.circuit == "mdm"].assign(circuit="arm")
    both = pd.concat([found[found.circuit != "arm"], twin])
    drawn = faithfulness.curves(both, draws=20)
    np.testing.assert_array_equal(drawn["arm", "signed"], drawn["mdm", "signed"])


def test_the_smallest_faithful_circuit_is_named_or_the_largest_there_is():
    rows = [
        {"task": "ioi", "model": "arm", "circuit": "arm", "by": "signed", "fraction": f}
        | {"count": int(1000 * f), "faithfulness": value, "correct": 1.0}
        for f, value in ((0.05, 0.5), (0.1, 0.9), (1.0, 1.0))
    ]
    found = faithfulness.smallest(pd.DataFrame(rows))
    assert found.fraction.to_list() == [0.1]
    largest = faithfulness.smallest(pd.DataFrame(rows[:1]))
    assert largest.fraction.to_list() == [0.05]
