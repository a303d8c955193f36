"""Finds what pages say of the paper's claims, and whether it is what was decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mechshift_lib.analyses.words.verdicts import answers, gaps, grid, sentence
from mechshift_lib.comparison.verdicts import OUTCOMES, Verdict
from mechshift_lib.plots.theme import OUTCOME_SIGNS

#: Chapters that say a claim's verdict; the other chapters name none.
JUDGED = {
    "circuits": ["C5"],
    "overlap": ["C1", "C2"],
    "ablation": ["C6"],
    "components": ["C3"],
    "neurons": ["C4"],
    "robustness": ["C7"],
}
NAMED = re.compile(r"\bC[1-7]\b")
#: Words and signs that say how a claim fares, in prose that a person writes.
JUDGING = re.compile(
    "|".join(
        [r"\b(?:not |un|ir)?reproduc\w*", r"\brevers\w*", r"\b(?:un)?decided\b", r"\bholds?\b"]
        + [r"\b(?:not )?(?:shown?|shows|told|confirm\w*|refut\w*|supports?)\b"]
        + [rf"\b{re.escape(word)}\b" for word in OUTCOMES]
        + [re.escape(OUTCOME_SIGNS[word]) for word in ("reproduced", "not reproduced", "reversed")]
    )
)


def contradictions(
    pages: Mapping[str, str], verdicts: Sequence[Verdict], titles: Mapping[str, str]
) -> list[str]:
    """Lines of rendered pages that name a claim and are no words of a verdict.

    Args:
        pages: name of a page -> its Markdown. A page ``PAIR/...`` may only say its pair's verdicts.
        verdicts: of all pairs.
        titles: pair -> title.
    """
    found = []
    for page, text in pages.items():
        own = [v for v in verdicts if "/" not in page or v.pair == page.split("/")[0]]
        allowed = {sentence(verdict) for verdict in own}
        if "/" not in page:
            allowed |= {
                line for text in (answers, grid, gaps) for line in text(own, titles).splitlines()
            }
        found += [
            f"{page}: {line}"
            for line in text.splitlines()
            if line not in allowed
            and any(NAMED.search(part) and part not in allowed for part in _parts(line))
        ]
    return found


def _parts(line: str) -> list[str]:
    """A line, or the cells of a table's row."""
    return [cell.strip() for cell in line.split("|")] if line.startswith("|") else [line]


def judgements(pages: Mapping[str, str]) -> list[str]:
    """Sentences of hand-written pages that name a claim and say how it fares."""
    found = []
    for page, text in pages.items():
        for said in re.split(r"(?<=[.;])\s+|\n\s*\n|\n(?=[-|])", text):
            if NAMED.search(said) and JUDGING.search(said):
                found.append(f"{page}: {said}")
    return found
