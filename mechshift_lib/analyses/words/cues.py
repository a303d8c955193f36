"""Words of the chapter on cues: which one wins, in every training."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.cues import CUTS, DECISIVE, Obstacle
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.cues import SIGNALS as SIGNAL_WORDS
from mechshift_lib.plots.cues import place
from mechshift_lib.plots.theme import count_text, label

WINS = (
    "At the last number, with a target that asks for another one than is left, the number that is "
    "left has a probability of {each} (means over {trainings}, n = {n} prompts each)."
)
_WHY: dict[Obstacle, str] = {
    "no task": "it has no Countdown",
    "not solved": "ARM and MDM don't both solve Countdown",
    "no conflict": "no example of its Countdown sets the two against each other",
    "split": "its tokenizer doesn't read an equation as numbers and signs of one token each",
}
#: What is said of a pair that isn't asked.
NOT_ASKED = {
    why: fmt.Finding(f"This pair can't be asked so, as {said}.") for why, said in _WHY.items()
}
NONE = fmt.Finding("No example of this pair gives a conflict at the last number.")
SIGNALS = (
    "Of the answer, a donor with another place switches {place}, one with another name {name} "
    "(means over layers and {trainings}, n = {n} prompts each)."
)
ROUTES = (
    "When the position that is read can't see the target, the number that is left gains {each} "
    "over the target's number (logits; means over {trainings}, n = {n} prompts each)."
)
#: Columns of the questions -> what heads them.
QUESTIONS = {"at": "answer token", "elimination": "what is left", "target": "what hits the target"}
CUT_WORDS = {"direct": "hidden from the read", "any": "hidden from all"}
LOGITS = fmt.span("difference", "+.1f", 1)
NO_IOI = fmt.Finding("ARM and MDM of this pair don't both solve IOI, so no name is interchanged.")
POINTS = fmt.span("difference", "+.0f", 100)


def finding(by_seed: pd.DataFrame, over_seeds: pd.DataFrame) -> fmt.Finding:
    """What happens at the last number when the target is another equation's, and all differences
    between models over trainings.
    """
    rows = by_seed[by_seed.kind == DECISIVE]
    if rows.empty:
        return NONE
    each = [
        f"{100 * part.listed.mean():.0f} % in the {label(str(model))} (the target's number "
        f"{100 * part.targeted.mean():.0f} %)"
        for model, part in rows.groupby("model", sort=False)
    ]
    trainings = _trainings(rows)
    said = WINS.format(each=fmt.listed(each), trainings=trainings, n=count_text(rows.n))
    return fmt.Finding(said, differences(over_seeds))


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Differences of the probability of what elimination names, between models, over trainings."""
    last = table["at"].max()
    rows = table.assign(
        conflict=[f"{row.kind}, {place(row.at, last)}" for row in table.itertuples()],
        compared=[f"{label(r.model)} − {label(r.base)}" for r in table.itertuples()],
    )
    columns = {
        "points of probability [95 % over trainings]": POINTS,
        "trainings": lambda row: str(row.n),
    }
    return fmt.lines(rows, ["conflict", "compared"], columns)


def routes(by_seed: pd.DataFrame, over_seeds: pd.DataFrame) -> fmt.Finding:
    """What the target carries to the decisive read; all tokens, over trainings."""
    if by_seed.empty:
        return NONE
    rows = by_seed[(by_seed.cut == CUTS[0]) & (by_seed.tokens == "target")]
    each = [
        f"{part.change.mean():+.1f} ({label(str(model))})"
        for model, part in rows.groupby("model", sort=False)
    ]
    said = ROUTES.format(each=fmt.listed(each), trainings=_trainings(rows), n=count_text(rows.n))
    shown = over_seeds.assign(
        hidden=[f"{r.tokens}, {CUT_WORDS[r.cut]}" for r in over_seeds.itertuples()],
        compared=[f"{label(r.model)} − {label(r.base)}" for r in over_seeds.itertuples()],
    )
    columns = {"logits [95 % over trainings]": LOGITS, "trainings": lambda row: str(row.n)}
    return fmt.Finding(said, fmt.lines(shown, ["hidden", "compared"], columns))


def signals(by_seed: pd.DataFrame, over_seeds: pd.DataFrame) -> fmt.Finding:
    """How far place and name switch the answer of each model, and differences over trainings."""
    shares = {
        str(signal): fmt.by_model(
            [
                (f"{fmt.number(part.switched.mean(), '.0f', 100)} %", label(str(model)))
                for model, part in rows.groupby("model", sort=False)
            ]
        )
        for signal, rows in by_seed.groupby("signal", sort=False)
    }
    said = SIGNALS.format(**shares, trainings=_trainings(by_seed), n=count_text(by_seed.n))
    rows = over_seeds.assign(
        donor=over_seeds.signal.map(SIGNAL_WORDS),
        compared=[f"{label(r.model)} − {label(r.base)}" for r in over_seeds.itertuples()],
    )
    columns = {
        "points of the answer [95 % over trainings]": POINTS,
        "trainings": lambda row: str(row.n),
    }
    return fmt.Finding(said, fmt.lines(rows, ["donor", "compared"], columns))


def _trainings(rows: pd.DataFrame) -> str:
    return fmt.trainings(rows.seed.nunique())
