"""The paper's claims: what each says, and the smallest effect that would matter to it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from mechshift_lib.comparison import published
from mechshift_lib.config import ROOT

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
#: Part of the smaller published effect that is the smallest effect to matter.
SHARE = 0.25


@lru_cache
def smallest_shift(root: Path = ROOT) -> float:
    """The shift of source depth that would matter, in layers / number of layers.

    :data:`SHARE` of the smaller shift of the two published families on Countdown. It is of
    unweighted means over 30 edges, so it is no margin for a mean weighted by score: it only says
    whether a circuit lies deep enough to be able to shift at all.
    """
    table = published.top_edge_depth(published.read_table("top_edges", root))
    rows = table[table.task == "countdown"].pivot(
        index="series", columns="role", values="source_depth"
    )
    return SHARE * float((rows.arm - rows.mdm).min())


@lru_cache
def margin(claim: Claim, root: Path = ROOT) -> float:
    """The smallest effect that matters, in the claim's unit: below it, a claim isn't reproduced.

    C1: :data:`SHARE` of the smaller published difference of overlaps (Jaccard index) between IOI
    and Countdown. Everything else: 0. For C2 the published depths are means over 30 edges that
    weigh the same, ours are weighted by score over many more; a size of the one is no size of the
    other, so only an effect of the other sign is held against the claim.
    """
    if claim != "C1":
        return 0.0
    overlaps = published.overlap_table(
        published.read_table("overlap", root), published.read_table("top_edges", root)
    )
    rows = overlaps.pivot(index="series", columns="task", values="top1000")
    return SHARE * float((rows.ioi - rows.countdown).min())
