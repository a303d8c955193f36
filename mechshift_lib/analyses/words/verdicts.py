"""Verdicts in words: the only sentences of the book that say how a claim fares.

Templates over :class:`Verdict`; what is decided is decided there, and no two numbers are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.comparison.claims import SAID
from mechshift_lib.comparison.verdicts import OUTCOMES, Outcome, Unit, Verdict
from mechshift_lib.plots.palette import OUTCOME_COLORS
from mechshift_lib.plots.theme import OUTCOME_SIGNS, label


@dataclass(frozen=True)
class _Written:
    """How effects in a unit are written: ``0.041`` as ``+4.1 % of the model's depth``."""

    name: str
    short: str
    scale: float = 100
    form: str = "+z.1f"


_UNITS: dict[Unit, _Written] = {
    "cosine": _Written("in cosine", "in cosine", 1, "+z.2f"),
    "depth": _Written("% of the model's depth", "% of depth"),
    "accuracy": _Written("percentage points of accuracy", "points"),
    "components": _Written("percentage points", "points"),
    "logarithm": _Written("in natural logarithm", "in ln", 1, "+z.2f"),
}
#: What a sentence says after the outcome, with and without an effect.
_EFFECT = "{measure}: {effect} against {yardstick}, {least}n = {n} {of}."
_NO_EFFECT = "{missing}."
#: How each sentence of the book's answer begins, and the outcomes that it is about.
_ANSWERS: dict[str, tuple[Outcome, ...]] = {
    "Reproduced here:": ("reproduced",),
    "Not reproduced, or the other way round:": ("not reproduced", "reversed"),
    "Undecided:": ("undecided",),
}
_OVER = "They rest on {units}, each held against the yardstick that favours it least."
#: Units of one pair, and of several that have the same number.
_OF, _EACH_OF = "{units} of {title}", "{units} each of {title}"
_NOTHING = "None of the paper's claims."
_VERBS: dict[Outcome, str] = {outcome: f"is {outcome}" for outcome in OUTCOMES}
_VERBS["doesn't apply"] = "doesn't apply"


def effect(verdict: Verdict, *, short: bool = False) -> str:
    """``+0.04 in cosine [-0.01, +0.09]``; empty where there is no effect.

    Args:
        verdict: whose effect is written, with the interval that its outcome is read from.
        short: with the unit's short name, for cells.
    """
    if verdict.unit is None or math.isnan(verdict.effect):
        return ""
    written = _UNITS[verdict.unit]
    value, low, high = (
        format(written.scale * x, written.form).replace("-", "−")
        for x in (verdict.effect, *verdict.interval)
    )
    ends = "" if math.isnan(verdict.low) else f" [{low}, {high}]"
    return f"{value} {written.short if short else written.name}{ends}"


def sentence(verdict: Verdict) -> str:
    """What a page says about a claim, in one line of Markdown.

    Equal verdicts give equal sentences, so no two pages can differ.
    """
    where = f" on {label(verdict.task)}" if verdict.task else ""
    sign, verb = OUTCOME_SIGNS[verdict.outcome], _VERBS[verdict.outcome]
    least = "" if verdict.contrasts == 1 else f"the least favourable of {verdict.contrasts}; "
    template = _EFFECT if effect(verdict) else _NO_EFFECT
    said = template.format(
        measure=_capital(verdict.measure),
        missing=_capital(verdict.missing),
        effect=effect(verdict),
        yardstick=verdict.yardstick,
        least=least,
        n=verdict.n,
        of=verdict.of.removesuffix("s") if verdict.n == 1 else verdict.of,
    )
    lacks = f" Missing: {verdict.missing}." if verdict.missing and effect(verdict) else ""
    return f"{sign} **{verdict.claim} {verb}**{where}. {said}{lacks}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def badge(outcome: Outcome) -> str:
    """Sign and word of an outcome as HTML, with its colour beside it."""
    color, sign = OUTCOME_COLORS[outcome], OUTCOME_SIGNS[outcome]
    style = f"border-left: 0.4em solid {color}; padding-left: 0.4em; white-space: nowrap"
    return f'<span class="outcome" style="{style}">{sign} {outcome}</span>'


def cell(verdicts: Sequence[Verdict]) -> str:
    """A claim on a pair as a cell of the grid, a line each: task, outcome and effect."""
    lines = []
    for verdict in verdicts:
        task = label(verdict.task) if verdict.task and len(verdicts) != 1 else ""
        value, opens, ends = effect(verdict, short=True).partition(" [")
        whole = f' <span style="white-space: nowrap">[{ends}</span>' if opens else ""
        lines += [task, badge(verdict.outcome), value + whole]
    return "<br>".join(filter(None, lines))


def grid(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """Claims down, pairs across, in Markdown: outcome, deciding effect, its interval.

    Args:
        verdicts: of :func:`mechshift_lib.analyses.verdicts.judged`, of all pairs.
        titles: pair -> title, in the order of the columns.
    """
    head = ["claim", *titles.values()]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for claim in dict.fromkeys(verdict.claim for verdict in verdicts):
        about = [verdict for verdict in verdicts if verdict.claim == claim]
        cells = [cell([v for v in about if v.pair == pair]) for pair in titles]
        lines.append(f"| {' | '.join([f'**{claim}** {SAID[claim]}', *cells])} |")
    return "\n".join(lines)


def summary(verdicts: Sequence[Verdict]) -> str:
    """How many verdicts of each kind there are."""
    counts = pd.Series([verdict.outcome for verdict in verdicts]).value_counts()
    parts = [f"{kind} {counts[kind]}" for kind in OUTCOMES if kind in counts]
    return f"{len(verdicts)} verdicts: {listed(parts)}."


def answers(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """The book's answer in three sentences of Markdown: what holds, what doesn't, what stays open.

    A fourth says over how many units. Effects stand in the grid (:func:`grid`).

    Args:
        verdicts: of all pairs.
        titles: pair -> title.
    """
    lines = [
        f"**{head}** {_answer([v for v in verdicts if v.outcome in outcomes], titles)}"
        for head, outcomes in _ANSWERS.items()
    ]
    units = _over([verdict for verdict in verdicts if verdict.n], titles)
    return "\n\n".join([*lines, _OVER.format(units=units)] if units else lines)


def _answer(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """The claims of one sentence, each with its pairs."""
    parts = []
    for claim in dict.fromkeys(verdict.claim for verdict in verdicts):
        about = [verdict for verdict in verdicts if verdict.claim == claim]
        where: dict[str, list[str]] = {}
        for pair, title in titles.items():
            own = [verdict for verdict in about if verdict.pair == pair]
            if own:
                where.setdefault(_what(own), []).append(title)
        said = "; ".join(listed(pairs) + what for what, pairs in where.items())
        parts.append(f"{SAID[claim]} (**{claim}**: {said})")
    return f"{_capital(listed(parts))}." if parts else _NOTHING


def _what(verdicts: Sequence[Verdict]) -> str:
    """What is said after a pair: the tasks that its verdicts are of."""
    tasks = listed([label(verdict.task) for verdict in verdicts if verdict.task])
    turned = any(verdict.outcome == "reversed" for verdict in verdicts)
    return (f" on {tasks}" if tasks else "") + (", reversed" if turned else "")


def _over(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """How many units the verdicts of pairs are over, such as ``5 trainings each of A and B``."""
    having: dict[str, list[str]] = {}
    for pair, title in titles.items():
        units = dict.fromkeys(f"{v.n} {v.of}" for v in verdicts if v.pair == pair)
        if units:
            having.setdefault(listed([*units]), []).append(title)
    return listed(
        [
            (_EACH_OF if own[1:] else _OF).format(units=units, title=listed(own))
            for units, own in having.items()
        ]
    )


def gaps(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    """What isn't measured or doesn't apply, as a Markdown list: each sentence, and of which pairs.

    Args:
        verdicts: of all pairs.
        titles: pair -> title.
    """
    pairs: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.contrasts:
            pairs.setdefault(sentence(verdict), []).append(titles[verdict.pair])
    lines = [f"- {listed(names)}: {said}" for said, names in pairs.items()]
    return "\n".join(lines) or "Every claim was asked of every pair."


def details(verdicts: Sequence[Verdict], titles: Mapping[str, str]) -> pd.DataFrame:
    """What was held against what: one row a verdict, ``n`` and yardsticks included.

    Args:
        verdicts: of all pairs.
        titles: pair -> title.
    """
    return pd.DataFrame(
        {
            "claim": [v.claim for v in verdicts],
            "pair": [titles[v.pair] for v in verdicts],
            "task": [label(v.task) if v.task else "all" for v in verdicts],
            "outcome": [f"{OUTCOME_SIGNS[v.outcome]} {v.outcome}" for v in verdicts],
            "what": [v.measure or v.missing for v in verdicts],
            "effect": [effect(v, short=True) for v in verdicts],
            "against": [v.yardstick for v in verdicts],
            "n": [f"{v.n} {v.of}" if v.n else "" for v in verdicts],
        }
    )
