"""The paper's claims: what each says, and the smallest effect that would matter to it."""

from __future__ import annotations

from typing import Literal, get_args

Claim = Literal["C1", "C2", "C3", "C4", "C5", "C6", "C7"]
CLAIMS: tuple[Claim, ...] = get_args(Claim)

#: What each claim says, in the words of this book: the only definition that its pages use.
SAID: dict[Claim, str] = {
    "C1": "ARM and MDM share more edges on IOI than on Countdown",
    "C2": "on global tasks the MDM's circuit lies earlier than the ARM's",
    "C3": "ARM components are specialised, MDM components diffuse",
    "C4": "the ARM's neurons have fewer unique explanations, of higher variance",
    "C5": "more than 90 % of the MDM's components stay from step to step",
    "C6": "ablating early structures hurts the MDM on Countdown more than controls do",
    "C7": "the earlier circuits of C2 hold under other prompts, circuit sizes and steps",
}
#: The smallest effect that matters, in the claim's unit; 0 where only an effect of the other sign
#: is held against a claim. Both are judgements: published sizes are of other estimands (Jaccard
#: indices; means over 30 edges that weigh the same) and can't be carried over.
MARGINS: dict[Claim, float] = {"C1": 0.05, "C2": 0.05, "C3": 0.05, "C4": 0.1, "C7": 0.05}


def margin(claim: Claim) -> float:
    """The smallest effect that matters, in the claim's unit: below it, a claim isn't reproduced.

    C1: five hundredths of a cosine. C3: a twentieth of the components, or of the tokens. C4: a
    tenth of a natural logarithm, about a tenth more explanations or a tenth less variance. C2 and
    C7: a twentieth of the model's depth, which is also how deep a circuit must lie at least to have
    room for a shift.
    """
    return MARGINS.get(claim, 0.0)
