"""What every page says of a claim.

It is apart from other ways of showing things, so that pages that name no claim aren't made anew
when a rule of verdicts changes.
"""

from __future__ import annotations

from mechshift_lib.analyses import verdicts
from mechshift_lib.analyses.page import say
from mechshift_lib.analyses.study import Study
from mechshift_lib.analyses.words.verdicts import sentence
from mechshift_lib.comparison.claims import Claim


def verdict(study: Study, claim: Claim) -> None:
    """Say how a claim fares on a pair, on each task that it is about, as every page says it."""
    say("\n\n".join(sentence(found) for found in verdicts.of(study, claim)))
