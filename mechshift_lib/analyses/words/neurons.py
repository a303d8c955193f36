"""Words of the chapter on neurons: what single ones stand for, and how many different things."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.analyses.neuron_tables import READINGS
from mechshift_lib.analyses.neurons import MASKED, OWN, RANDOM, WHOLE
from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.theme import count_text, label
from mechshift_lib.semantics.explanations import EXPLAINED

NONE = fmt.Finding(
    "ARM and MDM of this pair solve too few examples of any task in common for their neurons to "
    "be compared."
)
SCORED = (
    "On texts that it wasn't chosen on, the rule of a residual coordinate correlates with it by "
    "{own} on average; that of a direction of a random basis by {random}. With the texts mixed up, "
    "one coordinate in a hundred reaches {chance} ({trainings}; {texts} texts, {positions} tokens; "
    "{rules} rules)."
)
NAMED = (
    "The residual coordinate that weighs most for the answers is explained by *{arm}* in the ARM "
    "and by *{mdm}* in the MDM (training {seed})."
)
COUNTED = (
    "Of residual coordinates, {explained} reach a score of {least}. Their different explanations "
    "are {unique}; expected among {m} of them, {distinct}. Their variance, as a multiple of their "
    "layer's mean, is {relative} (means over {trainings})."
)
COMMON = (
    "The most common explanation of all is *{said}*: {shares} of the explained residual "
    "coordinates have it (means over {trainings})."
)
LOCAL = (
    "A language model on this machine explains the same coordinates with a mean score of {local}, "
    "where their rules have {rules} (training {seed})."
)
WHERE = {"stream": "residual coordinates", "mlp": "MLP neurons"}
#: Models whose neurons are named.
LISTED = ("arm", "mdm", "continued")
BASES = {OWN: "own", RANDOM: "random"}
STATES = {WHOLE: "whole", MASKED: "answers masked"}
RATIO = fmt.span("difference", "+.1f", 100)


def scored(table: pd.DataFrame, check: pd.DataFrame) -> fmt.Finding:
    """How well rules predict neurons, beside a random basis and chance.

    Args:
        table: of :func:`mechshift_lib.analyses.neuron_tables.measured`.
        check: the table of that name.
    """
    here = table[(table.state == WHOLE) & (table.threshold == EXPLAINED)]
    stream = here[here.site == "stream"]
    said = SCORED.format(
        own=_models(stream[stream.basis == OWN], "score", ".2f"),
        random=_models(stream[stream.basis == RANDOM], "score", ".2f"),
        chance=fmt.number(check.chance.max()),
        trainings=_trainings(table),
        texts=count_text(check.texts),
        positions=count_text(check.positions),
        rules=count_text(check.rules),
    )
    return fmt.Finding(said)


def named(top: pd.DataFrame, seed: int) -> fmt.Finding:
    """The neurons of one training that weigh most, with where they are strongest."""
    here = top[(top.seed == seed) & top.model.isin(LISTED)]
    first = here[here.site == "stream"].groupby("model").said.first()
    said = NAMED.format(seed=seed, **{x: first.get(x, fmt.MISSING) for x in ("arm", "mdm")})
    texts: Mapping[str, fmt.Text] = {
        "neuron": lambda row: f"layer {row.layer}, {row.neuron}",
        "rule": lambda row: row.said,
        "where true": lambda row: "more" if row.more else "less",
        "score": fmt.value("score", ".2f"),
        "of all attribution": lambda row: f"{fmt.number(row.attributed, '.1f', 100)} %",
        "strongest at": lambda row: row.contexts,
    }
    rows = here.assign(of=here.site.map(WHERE))
    return fmt.Finding(said, fmt.lines(rows, ["model", "of"], texts))


def counted(table: pd.DataFrame, judged: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """How many explanations and how much variance; ratios over trainings below.

    Args:
        table: of :func:`mechshift_lib.analyses.neuron_tables.measured`.
        judged: its rows that are judged.
        over: of :func:`mechshift_lib.analyses.neuron_tables.over_trainings`.
    """
    shares = judged.assign(explained=judged.explained / judged.neurons)
    said = COUNTED.format(
        least=fmt.number(EXPLAINED, ".1f"),
        explained=_models(shares, "explained", ".0f", 100, " %"),
        unique=_models(judged, "unique", ".0f"),
        distinct=_models(judged, "distinct", ".1f"),
        m=fmt.number(judged.m.min(), ".0f"),
        relative=_models(judged, "relative", ".2f"),
        trainings=_trainings(table),
    )
    rows = over.assign(
        what=[READINGS[x][0] for x in over.reading],
        compared=[f"{label(r.model)} / {label(r.base)}" for r in over.itertuples()],
    )
    texts = {"100 · ln of the ratio [95 % over trainings]": RATIO}
    texts["trainings"] = fmt.value("n", "d")
    return fmt.Finding(said, fmt.lines(rows, ["what", "compared"], texts))


def measures(table: pd.DataFrame) -> pd.DataFrame:
    """Every measure in the paper's manner and in ours, means over trainings, to be folded."""
    by = ["site", "state", "basis", "threshold", "model"]
    means = table.drop(columns="seed").groupby(by, sort=False).mean().reset_index()
    means["site"] = means.site.map(WHERE)
    means["state"] = means.state.map(STATES)
    means["basis"] = means.basis.map(BASES)
    means["model"] = means.model.map(label)
    return means


def common(table: pd.DataFrame, trainings: int) -> fmt.Finding:
    """The explanations that most coordinates have."""
    first = table[table.said == table.said.iloc[0]].set_index("model").share
    shares = listed(
        [
            f"{fmt.number(first[x], '.0f', 100)} % in the {label(x)}"
            for x in ("arm", "mdm")
            if x in first
        ]
    )
    return fmt.Finding(
        COMMON.format(said=table.said.iloc[0], shares=shares, trainings=fmt.trainings(trainings))
    )


def published(table: pd.DataFrame) -> pd.DataFrame:
    """The published row of each model, and what would make its variance one of counts."""
    texts: Mapping[str, fmt.Text] = {
        "unique explanations": fmt.value("unique_explanatory_components", "d"),
        "variance": lambda row: f"{row.variance:,.1f}",
        "its square root": lambda row: fmt.number(row.variance**0.5, ".0f"),
    }
    return fmt.lines(table.rename(columns={"family": "model"}), ["model"], texts)


def local(table: pd.DataFrame, seed: int) -> fmt.Finding:
    """What a local language model says beside the rules."""
    said = LOCAL.format(
        local=fmt.number(table.score.mean()), rules=fmt.number(table.rule_score.mean()), seed=seed
    )
    texts: Mapping[str, fmt.Text] = {
        "neuron": lambda row: f"layer {row.layer}, {row.neuron}",
        "explanation": lambda row: row.said,
        "score": fmt.value("score", ".2f"),
        "rule": lambda row: row.rule,
        "rule's score": fmt.value("rule_score", ".2f"),
    }
    return fmt.Finding(said, fmt.lines(table, ["model"], texts))


def _models(table: pd.DataFrame, column: str, form: str, scale: float = 1, unit: str = "") -> str:
    """``12 in the ARM, 15 in the MDM and 13 in the continued ARM``: means over trainings."""
    means = table.groupby("model")[column].mean()
    order = [x for x in ("arm", "mdm", "continued") if x in means]
    return listed([f"{fmt.number(means[x], form, scale)}{unit} in the {label(x)}" for x in order])


def _trainings(table: pd.DataFrame) -> str:
    return fmt.trainings(table.seed.nunique())
