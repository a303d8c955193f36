"""Words of the page on what would change our mind: templates over verdicts and simulated power."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.outlook import FARTHEST, WANTED, Power, needed
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.analyses.words.verdicts import sentence
from mechshift_lib.comparison.claims import SAID, Claim
from mechshift_lib.comparison.verdicts import Outcome, Verdict
from mechshift_lib.plots.theme import OUTCOME_SIGNS

#: Outcome -> what would turn it.
TURNS: dict[Outcome, str] = {
    "reproduced": "falls with any yardstick that its interval no longer clears",
    "not reproduced": (
        "is open again if more trainings move the interval up to the smallest effect that matters, "
        "and stands only with every yardstick beaten"
    ),
    "reversed": "is taken back by an interval that reaches 0 on any yardstick",
    "undecided": (
        "is settled by intervals above 0 on every yardstick, or by one below the smallest effect "
        "that matters; no number of trainings settles it while a yardstick is missing"
    ),
    "doesn't apply": "can be asked once the precondition that fails holds",
    "not measured": "changes with anything that is measured",
}
#: What stands in place of a number of trainings.
LACKS, TOO_MANY = "no number", "more than {most:,}"
HEAD = ("pair", "what stands", "n that would set it apart from 0")
ENOUGH = (
    "Simulated on {pair}, {needed} trainings find a shift of a published size in at least "
    "{wanted} % of studies."
)
NOT_ENOUGH = (
    "Simulated on {pair}, not even {most} trainings find a shift of a published size often enough "
    "(in {share} % of studies)."
)
NO_POWER = "On {pair} no shift of a published size could be simulated, so no number is known."
SIZES = "The ARMs of this book have {each} parameters."
#: Claim -> the experiment that would decide it where nothing of this book can.
DECIDES: dict[Claim, str] = {
    "C1": (
        "At the paper's size: post-train the same ARM several times, by diffusion and by its own "
        "loss for as many tokens, and compare where both have moved as far."
    ),
    "C2": (
        "A task whose circuit in the ARM lies deep, so that there is room to move up, with the "
        "control beside it."
    ),
    "C3": (
        "The same two measures at the paper's size, with hundreds of components and tens of "
        "thousands of tokens, in several trainings with their controls."
    ),
    "C4": (
        "The same two measures at the paper's size, with explanations in free words by a language "
        "model that are scored on held-out texts, in several trainings with their controls."
    ),
    "C5": "Answers of hundreds of tokens in tens of steps, one position asked for at a time.",
    "C6": "Early and other heads of equal effect on the control, taken out while the model writes.",
    "C7": "A circuit that lies deep in the ARM, measured in wordings that both models were taught.",
}


def rules(found: Sequence[Verdict]) -> str:
    """What would turn a verdict of each kind that there is, as a Markdown table."""
    there = {verdict.outcome for verdict in found}
    rows = [
        f"| {OUTCOME_SIGNS[outcome]} {outcome} | {turn} |"
        for outcome, turn in TURNS.items()
        if outcome in there
    ]
    return "\n".join(["| a claim that is | turns so |", "|---|---|", *rows])


def claim(
    found: Sequence[Verdict], powers: Mapping[str, Power | None], titles: Mapping[str, str]
) -> str:
    """What stands for one claim on every pair, and how much more would settle it, in Markdown.

    Args:
        found: its verdicts, of all pairs.
        powers: pair -> what simulations say of C1.
        titles: pair -> title.
    """
    name = found[0].claim
    # What it says, without naming another claim: only verdicts name claims.
    about = re.sub(r" of C[1-7]", "", SAID[name])
    said: dict[tuple[str, str], list[str]] = {}
    for verdict in found:
        said.setdefault((sentence(verdict), more(verdict)), []).append(titles[verdict.pair])
    rows = [[listed(names), *texts] for texts, names in said.items()]
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    parts = [f"**{about[:1].upper()}{about[1:]}.**"]
    parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if name == "C1":
        parts += [power(one, titles[pair]) for pair, one in powers.items()]
    parts.append(f"*What would decide.* {DECIDES[name]}")
    return "\n\n".join(parts)


def more(verdict: Verdict) -> str:
    """How many of what ``n`` counts would set an undecided effect apart from 0."""
    if verdict.outcome != "undecided":
        return fmt.MISSING
    if verdict.missing or math.isnan(verdict.low):
        return LACKS
    number = needed(verdict)
    return TOO_MANY.format(most=FARTHEST) if number is None else f"about {number:,}"


def power(found: Power | None, pair: str) -> str:
    """What simulations say of the number of trainings."""
    if found is None:
        return NO_POWER.format(pair=pair)
    share = f"{100 * found.share:.0f}"
    if found.needed is None:
        return NOT_ENOUGH.format(pair=pair, most=found.most, share=share)
    return ENOUGH.format(pair=pair, needed=found.needed, wanted=f"{100 * WANTED:.0f}")


def sizes(found: Mapping[str, int]) -> str:
    """How large the models of the book are."""
    each = [f"{number:,} ({title})" for title, number in found.items()]
    return SIZES.format(each=listed(each)) if each else ""
