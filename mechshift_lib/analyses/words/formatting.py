"""Numbers as readers see them, sentences from templates, and tables of text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechshift_lib.analyses.narrative import listed
from mechshift_lib.plots.theme import count_text, label

#: A sentence lists so many values of one kind; of more it says the least and the most, and the
#: table has them all.
LISTED = 2
#: What stands where there is no number.
MISSING = "–"
#: What stands in the place of the ends of an interval that has no width.
SAME = "no spread"
#: Columns -> what heads them.
HEADS = {"role": "model", "subject": "model", "regime": "kind of task"}

Text = Callable[[pd.Series], str]


@dataclass(frozen=True)
class Finding:
    """One sentence, with n and yardstick, over the table that it is read from (if there is one)."""

    said: str
    table: pd.DataFrame | None = None


def trainings(n: int) -> str:
    """``5 trainings``; of one that it decides nothing, of two that there is no interval."""
    lacks = {1: ", which decides nothing", 2: ", too few for an interval"}
    return f"{n} training{'s' if n != 1 else ''}{lacks.get(n, '')}"


def means(counts: Sequence[int] | pd.Series) -> str:
    """``means over 5 trainings``; of a single one that it decides nothing."""
    least, most = min(counts), max(counts)
    if most == 1:
        return trainings(1)
    return f"means over {trainings(least) if least == most else f'{least}–{most} trainings'}"


class _Parts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return MISSING


def number(value: float, form: str = ".2f", scale: float = 1) -> str:
    """``0.625`` -> ``0.62``, never ``-0.00``; NaN -> :data:`MISSING`. ``form`` may have a sign."""
    if "." in form:  # z stands behind the sign
        sign = form[: form[:1] in ("+", "-")]
        form = f"{sign}z{form[len(sign) :]}"
    return MISSING if pd.isna(value) else f"{scale * value:{form}}"


def value(name: str, form: str = ".2f", scale: float = 1) -> Text:
    """A function of a row that writes one of its numbers (``scale`` 100: percent)."""
    return lambda row: number(row[name], form, scale)


def span(name: str, form: str = ".2f", scale: float = 1, prefix: str = "") -> Text:
    """A function of a row that writes ``0.62 [0.55, 0.70]``; no brackets where they are NaN, and
    ``0.62 [no spread]`` where no digit differs.
    """

    def text(row: pd.Series) -> str:
        columns = (name, prefix + "low", prefix + "high")
        shown, *ends = (number(row[column], form, scale) for column in columns)
        if MISSING in (shown, *ends):
            return shown
        return f"{shown} [{SAME if ends == [shown, shown] else ', '.join(ends)}]"

    return text


def between(values: Sequence[tuple[str, str]], unit: str = "", every: str = "on each") -> str:
    """``0.62 on IOI and 0.40 on Countdown``; of more than :data:`LISTED` the least and the most.

    Args:
        values: each as it is written, such as ``0.62 [0.55, 0.70]``, and what it is of.
        unit: what stands after a value, before its interval.
        every: what stands after the value where all are the same.
    """

    def said(value: str, of: str) -> str:
        shown, *ends = value.partition(" [")
        where = f"({of})" if "," in of else f"on {of}"
        return f"{shown}{unit}{''.join(ends)} {where}"

    sizes = []
    for value, _ in values:
        with contextlib.suppress(ValueError):
            sizes.append(float(value.partition(" [")[0].replace(",", "")))
    if not values[LISTED:] or len(sizes) != len(values):  # few, or not all of them numbers
        return listed([said(*one) for one in values])
    least, most = (values[sizes.index(pick(sizes))] for pick in (min, max))
    if min(sizes) == max(sizes):
        return f"{least[0].partition(' [')[0]}{unit} {every}"
    return f"{said(*least)} to {said(*most)}"


def by_model(values: Sequence[tuple[str, str]]) -> str:
    """``15 % (ARM) and 24 % (MDM)``; ``0 % in each`` where all are written alike.

    Args:
        values: each as it is written, and what it is of.
    """
    if values[1:] and len({text for text, _ in values}) == 1:
        return f"{values[0][0]} in each"
    return listed([f"{text} ({of})" for text, of in values])


def told(
    template: str,
    rows: pd.DataFrame,
    by: Sequence[str],
    text: Text,
    table: pd.DataFrame | None = None,
    unit: str = "",
    **parts: object,
) -> Finding:
    """A finding whose sentence is filled from rows.

    Args:
        template: the sentence. ``{mdm/arm}`` becomes ``0.62 on IOI and 0.40 on Countdown``, of the
            rows that have mdm and arm in the columns ``by`` (:data:`MISSING` where there are none;
            see :func:`between` for more than two);
            ``{n}`` becomes ``n = 16``.
        rows: rows with ``task`` and ``n``.
        by: columns that say where in the sentence a row stands.
        text: how a row is written.
        table: the table below.
        unit: what stands after each value, before its interval.
        parts: what other names in the template become.
    """
    found = _Parts({"n": f"n = {count_text(rows.n)}" if len(rows) else MISSING})
    for names, part in rows.groupby(list(by), sort=False):
        each = [(text(row), label(row.task)) for _, row in part.iterrows()]
        found["/".join(map(str, names))] = between(each, unit, "on every task")
    found |= {name: str(part) for name, part in parts.items()}
    return Finding(template.format_map(found), table)


def lines(rows: pd.DataFrame, index: Sequence[str], texts: Mapping[str, Text]) -> pd.DataFrame:
    """A table of one line a row: labels of ``index``, then heading -> text."""
    names = {HEADS.get(name, name): [label(str(x)) for x in rows[name]] for name in index}
    cells = {head: [text(row) for _, row in rows.iterrows()] for head, text in texts.items()}
    return pd.DataFrame(names | cells)


def grid(
    rows: pd.DataFrame,
    index: Sequence[str],
    column: str,
    text: Text,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """A table with a column for each value of ``column``, all in the order that they come in.

    ``names`` are what is written for columns and labels that have no :func:`label`.
    """
    names = HEADS | dict(names or {})
    cells = rows.assign(cell=[text(row) for _, row in rows.iterrows()])
    wide = cells.pivot_table("cell", list(index), column, aggfunc="first", sort=False)
    wide = wide.fillna(MISSING).reset_index()
    wide[list(index)] = wide[list(index)].map(lambda x: names.get(str(x), label(str(x))))
    return wide.set_axis([names.get(str(x), label(str(x))) for x in wide.columns], axis=1)
