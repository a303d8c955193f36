"""Words of the specification curve: what is found in how many of all ways to measure it."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.robustness import FEWEST, TASK
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.comparison.claims import margin
from mechshift_lib.plots.theme import label

NONE = (
    f"Fewer than {FEWEST} Countdown problems of a training are solved by both models and can be "
    "put otherwise, so the shift can't be measured again."
)
NONE_LOCAL = (
    f"Fewer than {FEWEST} IOI sentences of a training are solved by both models and can be put "
    "otherwise, so there is no local task to set beside Countdown."
)
CURVE = (
    "In {earlier} of {ways} ways to measure it on {task}, the MDM's sources lie earlier than the "
    "ARM's {beyond}: from {least} to {most} % of the model's depth, {middle} in the middle (means "
    "over {trainings}); rephrasing alone moves the ARM's own by {rephrasing} %."
)
NO_ROOM = (
    f"In some training the ARM's own sources lie within {100 * margin('C7'):g} % of the model's "
    "depth from the embedding: they have no room to lie earlier by as much as would matter."
)
FACTORS = {
    "prompt": "the prompt",
    "order": "the reveal order",
    "estimator": "how edges are scored",
    "size": "the circuit's size",
}


def curve(
    table: pd.DataFrame,
    levels: pd.DataFrame,
    rephrasing: float,
    control: bool,
    task: str = TASK,
) -> fmt.Finding:
    """The whole curve in a sentence; what is found with each choice below.

    Args:
        table: of :func:`robustness.curve`, with ``positive``: whether its value is above 0.
        levels: of :func:`robustness.levels`.
        rephrasing: how far the ARM's own sources move.
        control: whether the control's shift is taken off.
        task: what the models were asked.
    """
    trainings = int(table.n.max())
    text = CURVE.format(
        earlier=int(table.positive.sum()),
        ways=len(table),
        task=label(task),
        beyond="beyond what the control's do" if control else "(the pair has no control)",
        least=fmt.number(table.value.min(), "+.1f", 100),
        most=fmt.number(table.value.max(), "+.1f", 100),
        middle=fmt.number(table.value.median(), "+.1f", 100),
        trainings=f"{trainings} training{'s' if trainings != 1 else ''}",
        rephrasing=fmt.number(rephrasing, ".1f", 100),
    )
    return fmt.Finding(text, by_level(levels))


def by_level(levels: pd.DataFrame) -> pd.DataFrame:
    """What is found with each choice, a column a training."""
    rows = levels.assign(
        choice=[FACTORS[factor] for factor in levels.factor],
        training=[f"training {seed}" for seed in levels.seed],
    )
    text = fmt.value("value", "+.1f", 100)
    return fmt.grid(rows, ["choice", "said"], "training", text, {"said": "made as"})


def rephrased(table: pd.DataFrame) -> pd.DataFrame:
    """Cosines with the ARM's circuit of problems as drawn, means over trainings."""
    means = table.groupby(["circuit", "prompt"], sort=False, as_index=False).agg(
        cosine=("cosine", "mean"), n=("n", "min"), trainings=("seed", "nunique")
    )
    texts = {
        "cosine without noise": fmt.value("cosine"),
        "n": fmt.value("n", "d"),
        "trainings": fmt.value("trainings", "d"),
    }
    return fmt.lines(means, ["circuit", "prompt"], texts)
