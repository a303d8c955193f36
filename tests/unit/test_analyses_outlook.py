"""What would change a verdict: by hand, for every outcome, and from simulated power."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from mechshift_lib.analyses import Study, outlook
from mechshift_lib.analyses.words import outlook as words
from mechshift_lib.analyses.words.verdicts import sentence
from mechshift_lib.comparison.claims import CLAIMS
from mechshift_lib.comparison.verdicts import OUTCOMES, Contrast, absent, judge

from ..support.claims import contradictions
from ..support.study import make_pair
from ..support.verdicts import contrast, of_every_outcome

POWER = pd.DataFrame(
    {"seeds": [3, 5, 8] * 2, "reproduced": [10, 95, 100, 2, 60, 92], "studies": [100] * 6}
)


def judged(*found: Contrast):
    about = {"measure": "how much", "unit": "depth", "page": "overlap"}
    return judge("C2", "toy", found, task="countdown", **about)


def test_the_number_that_would_set_an_effect_apart_from_zero() -> None:
    """A half-width of 0.1 with 20 examples: 0.05 needs half of it, so four times as many."""
    assert outlook.more(judged(contrast(0.05))) == pytest.approx(4)
    assert outlook.needed(judged(contrast(0.05))) == 80
    skewed = Contrast("the ARM", -0.1, -0.2, 0.3, 10)
    assert outlook.more(judged(skewed)) == pytest.approx(16)
    assert outlook.needed(judged(skewed)) == 160


def test_what_is_no_matter_of_number_has_none() -> None:
    assert outlook.needed(judged(contrast(0.5))) is None  # decided
    assert outlook.needed(judged(contrast(0.05), absent("the control"))) is None
    assert outlook.needed(judged(Contrast("the ARM", 0.1, math.nan, math.nan, 5))) is None
    assert outlook.needed(judged(contrast(0.0))) is None
    assert outlook.needed(judged(contrast(0.001))) is None  # near 0: no number would be meant


def test_trainings_are_as_many_as_the_least_favourable_world_needs() -> None:
    found = outlook.power_of(POWER)
    assert found == outlook.Power(needed=8, most=8, share=0.92)
    few = outlook.power_of(POWER[POWER.seeds != 8])
    assert few == outlook.Power(needed=None, most=5, share=0.6)
    assert outlook.power_of(POWER.iloc[:0]) is None
    assert "8 trainings find" in words.power(found, "Toy")
    assert "at least 90 % of studies" in words.power(found, "Toy")
    assert "not even 5 trainings" in words.power(few, "Toy")
    assert "(in 60 % of studies)" in words.power(few, "Toy")
    assert "no number is known" in words.power(None, "Toy")


def cells(text: str) -> list[str]:
    """Cells of the Markdown tables in a text."""
    return [cell.strip() for line in text.splitlines() for cell in line.split("|")]


def test_every_outcome_is_told_what_would_turn_it() -> None:
    verdicts = of_every_outcome("toy")
    assert {v.outcome for v in verdicts} == set(OUTCOMES)
    pages = {}
    for claim in CLAIMS:
        about = [v for v in verdicts if v.claim == claim]
        text = words.claim(about, {"toy": outlook.power_of(POWER)}, {"toy": "Toy"})
        assert sentence(about[0]) in cells(text)
        assert words.more(about[0]) in cells(text)
        assert ("Simulated on Toy" in text) == (claim == "C1")
        assert "nan" not in text
        pages[claim] = text
    assert contradictions(pages, verdicts, {"toy": "Toy"}) == []
    more = {v.claim: words.more(v) for v in verdicts}
    assert (more["C7"], more["C5"], more["C6"]) == ("no number", "about 80", "–")
    text = words.rules(verdicts)
    assert [line.split(" | ")[0][4:] for line in text.splitlines()[2:]] == list(OUTCOMES)
    assert "| ✓ reproduced | falls with any yardstick" in text
    assert "undecided" not in words.rules([v for v in verdicts if v.claim == "C6"])


def test_an_effect_at_zero_is_more_than_can_be_counted() -> None:
    [one] = [v for v in of_every_outcome("toy") if v.claim == "C5"]
    assert words.more(replace(one, effect=1e-9)) == "more than 1,000"


def test_equal_verdicts_of_two_pairs_are_said_once() -> None:
    [one] = [v for v in of_every_outcome("toy") if v.claim == "C3"]
    text = words.claim([one, replace(one, pair="other")], {}, {"toy": "Toy", "other": "Other"})
    assert "| Toy and Other |" in text
    assert text.count(sentence(one)) == 1


def test_sizes_are_read_from_the_weights(tmp_path) -> None:
    make_pair(tmp_path, tasks=("ioi",), seeds=(0,))
    study = Study.open("toy", results=str(tmp_path / "results"), pool="all", root=tmp_path)
    [(title, number)] = outlook.sizes([study]).items()
    # Embedding tied to the head; two layers of attention (one KV head for two), MLP and norms.
    rows, width = study.model("arm", 0).vocab_size, 32
    attention = 2 * width * width + 2 * width * width // 2 + width + 2 * width // 2
    layer = attention + 3 * width * 2 * width + 2 * width
    assert title == "Toy"
    assert number == rows * width + 2 * layer + width
    assert f"{number:,} (Toy)" in words.sizes({"Toy": number})
    assert outlook.power(study) is None
