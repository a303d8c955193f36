"""Words of the page on what would change our mind: templates over verdicts and simulated power."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.outlook import WANTED, Power, needed
from mechshift_lib.analyses.words.verdicts import effect, sentence
from mechshift_lib.comparison.claims import SAID, Claim
from mechshift_lib.comparison.verdicts import Outcome, Verdict

#: Outcome -> what would turn it.
TURNS: dict[Outcome, str] = {
    "reproduced": (
        "It would fall with any yardstick that its interval no longer clears: the nearest is "
        "{yardstick} ({effect})."
    ),
    "not reproduced": (
        "Too small an effect against {yardstick} rules it out ({effect}). It would be open again "
        "if more trainings moved that interval up to the smallest effect that matters, and would "
        "stand only with every yardstick beaten."
    ),
    "reversed": (
        "The effect has the other sign on every yardstick; the one nearest to turning is "
        "{yardstick} ({effect}). An interval there that reaches 0 would take the reversal back."
    ),
    "undecided": (
        "An interval above 0 on every yardstick would decide it one way, one below the smallest "
        "effect that matters the other way. The one that keeps it open is {yardstick} ({effect})."
    ),
    "doesn't apply": "It can be asked once this is no longer so: {missing}.",
    "not measured": "Anything measured would be news: {missing}.",
}
LACKS = " No number of trainings decides it without what is missing: {missing}."
NUMBER = (
    " If effect and spread stayed as they are, about {needed} of what n counts would set it apart "
    "from 0."
)
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


def claim(
    found: Sequence[Verdict], powers: Mapping[str, Power | None], titles: Mapping[str, str]
) -> str:
    """What stands for one claim on every pair, and what would turn it, in Markdown.

    Args:
        found: its verdicts, of all pairs.
        powers: pair -> what simulations say of C1.
        titles: pair -> title.
    """
    name = found[0].claim
    # What it says, without naming another claim: only verdicts name claims.
    about = re.sub(r" of C[1-7]", "", SAID[name])
    parts = [f"**{about[:1].upper()}{about[1:]}.**"]
    said: dict[str, list[str]] = {}
    for verdict in found:
        said.setdefault(f"{sentence(verdict)}\n\n{turns(verdict)}", []).append(titles[verdict.pair])
    parts += [f"*{listed(list(dict.fromkeys(names)))}*\n\n{text}" for text, names in said.items()]
    if name == "C1":
        parts += [power(one, titles[pair]) for pair, one in powers.items()]
    parts.append(f"*What would decide.* {DECIDES[name]}")
    return "\n\n".join(parts)


def turns(verdict: Verdict) -> str:
    """What would turn a verdict, in one line that doesn't name its claim."""
    said = TURNS[verdict.outcome].format(
        yardstick=verdict.yardstick, effect=effect(verdict), missing=verdict.missing
    )
    if verdict.missing and effect(verdict):
        said += LACKS.format(missing=verdict.missing)
    number = needed(verdict)
    return said if number is None else said + NUMBER.format(needed=f"{number:,}")


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
