"""Made-up verdicts of every outcome."""

from __future__ import annotations

from mechshift_lib.comparison.claims import CLAIMS
from mechshift_lib.comparison.verdicts import (
    Contrast,
    Verdict,
    absent,
    inapplicable,
    judge,
    unmeasured,
)


def contrast(value: float, against: str = "the ARM") -> Contrast:
    """An effect with a half-width of 0.1, over 20 examples."""
    return Contrast(against, value, value - 0.1, value + 0.1, 20)


def of_every_outcome(pair: str) -> list[Verdict]:
    """Seven verdicts, one a claim: each outcome is among them."""

    def judged(claim: str, *found: Contrast) -> Verdict:
        about = {"measure": "how much it is", "unit": "depth", "page": "overlap"}
        return judge(claim, pair, found, task="countdown", **about)  # type: ignore[arg-type]

    return [
        judged("C1", contrast(0.5)),
        judged("C2", contrast(-0.4), contrast(-0.3, "the continued ARM")),
        unmeasured("C3", pair, "nobody has looked"),
        judged("C4", contrast(-0.4), contrast(0.3, "the continued ARM")),
        judged("C5", contrast(0.05)),
        inapplicable("C6", pair, "the pair has no Countdown"),
        judged(CLAIMS[6], contrast(0.5), absent("the continued ARM (the pair has none)")),
    ]
