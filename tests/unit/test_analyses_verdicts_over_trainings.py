"""C1 and C2 are judged over trainings: what decides, and what is missing."""

from __future__ import annotations

import pandas as pd
import pytest

from mechshift_lib.analyses import verdicts
from mechshift_lib.comparison.verdicts import decide


def values(n: int, **means: float) -> pd.DataFrame:
    """One number a training and circuit, spread a little."""
    return pd.DataFrame(
        {name: [mean + 0.004 * (i % 3 - 1) for i in range(n)] for name, mean in means.items()}
    )


@pytest.mark.parametrize(
    ("n", "means", "said"),
    [
        (5, {"mdm": 0.3, "continued": 0.1, "matched": 0.2}, "reproduced"),
        (5, {"mdm": 0.3, "continued": 0.3, "matched": 0.3}, "not reproduced"),
        (5, {"mdm": 0.3, "continued": 0.1, "matched": 0.1}, "not reproduced"),  # only moved further
        (5, {"mdm": -0.3, "continued": -0.1, "matched": -0.2}, "reversed"),
        (5, {"mdm": 0.3, "matched": 0.2}, "undecided"),  # no control
        (5, {"mdm": 0.3, "continued": 0.1}, "undecided"),  # no matched point
        (2, {"mdm": 0.3, "continued": 0.1, "matched": 0.2}, "undecided"),
    ],
)
def test_claims_are_decided_over_trainings(n: int, means: dict[str, float], said: str) -> None:
    found = verdicts._over_trainings(values(n, **means), "the ARM", "the same")
    assert decide(found, 0.05) == said
    lacking = {"continued", "matched"} - set(means)
    missing = " ".join(c.against for c in found if c.n == 0)
    assert (verdicts.NO_CONTROL in missing) == ("continued" in lacking)
    assert (verdicts.NO_MATCHED in missing) == (lacking == {"matched"})
    assert ("2 of at least 3" in missing) == (n == 2)
