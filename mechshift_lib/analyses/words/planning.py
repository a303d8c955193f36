"""Words of the chapter on plans: what places carry, what cuts cost, what is read and used."""

from __future__ import annotations

import pandas as pd

from mechshift_lib.analyses.words import formatting as fmt
from mechshift_lib.plots.planning import CUTS, NAMES
from mechshift_lib.plots.theme import count_text, label

SHARE = fmt.span("share", ".1f", 100)
OVER = fmt.span("value", "+.1f", 100)
CARRIED = (
    "Of what corruption takes, masks that wait carry {mdm/waiting} in the MDM (a mean over the "
    "inner layers and {trainings}; {n} examples each)."
)
PEAKS = (
    "At the layer that half of the examples choose, masks that wait carry {mdm} of the gap on the "
    "other half (MDM, {trainings}, {n} examples in that half)."
)
CUT = (
    "In percentage points of answers that are right, cutting attention to the masks that wait "
    "costs the MDM {mdm/waiting} beyond what cutting it to as many tokens of the prompt costs "
    "(negative: less than that; means over {trainings}; {n} examples each)."
)
AGREE = (
    "Over layers, steps and tokens, how well a later token can be read at its place and how much "
    "that place carries have a rank correlation of {mdm} in the MDM and of {arm} in the ARM (1: "
    "the same order, 0: none; means over {trainings})."
)
NONE = fmt.Finding("Every answer of this pair's tasks is one token, so no mask waits.")
NO_CELLS = fmt.Finding(
    "Every answer of this pair's tasks is one token, so no later token can be read or used."
)


def compared(row: pd.Series) -> str:
    """``MDM``, or ``MDM − ARM`` where there is a base."""
    return label(row.model) + (f" − {label(row.base)}" if row.base else "")


def _over(table: pd.DataFrame, index: str, names: dict[str, str], text: fmt.Text) -> pd.DataFrame:
    """Models and differences between them over trainings, a column for each of ``index``."""
    rows = table.assign(compared=[compared(row) for _, row in table.iterrows()])
    return fmt.grid(rows, ["task", "compared"], index, text, names)


def carried(by_seed: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """What each place carries, over trainings; the sentence is of masks that wait."""
    shown = _over(over, "place", {p: f"{name} (%)" for p, name in NAMES.items()}, OVER)
    told = over[(over.base == "") & (over.place == "waiting")]
    if told.empty:
        return fmt.Finding(NONE.said, shown)
    told = told.assign(n=int(by_seed.n.max()))
    return fmt.told(
        CARRIED,
        told,
        ["model", "place"],
        fmt.span("value", ".1f", 100),
        shown,
        " %",
        trainings=fmt.trainings(by_seed.seed.nunique()),
    )


def peaks(by_seed: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """The strongest layer of masks that wait, chosen and measured on different examples."""
    if by_seed.empty:
        return NONE
    texts = {
        "training": fmt.value("seed", "d"),
        "layer that is chosen": fmt.value("layer", "d"),
        "share on the others (%) [95 % over examples]": SHARE,
    }
    told = over[over.base == ""].assign(n=int(by_seed.n.max()))
    return fmt.told(
        PEAKS,
        told,
        ["model"],
        fmt.span("value", ".1f", 100),
        fmt.lines(by_seed, ["task", "model"], texts),
        " %",
        trainings=fmt.trainings(by_seed.seed.nunique()),
    )


def cuts(by_seed: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """What is lost beyond as many tokens of the prompt, over trainings."""
    told = over[(over.base == "") & (over.kind == "waiting")]
    if told.empty:
        return NONE
    shown = _over(over, "kind", {k: f"{name} (points)" for k, name in CUTS.items()}, OVER)
    told = told.assign(n=int(by_seed.n.max()))
    text, seeds = fmt.span("value", "+.1f", 100), by_seed.seed.nunique()
    return fmt.told(CUT, told, ["model", "kind"], text, shown, trainings=fmt.trainings(seeds))


def accuracies(accuracy: pd.DataFrame, by_seed: pd.DataFrame) -> pd.DataFrame:
    """Accuracies without a cut, with it and with its control, and the metric's fall, by training.

    Exact intervals over examples; the metric's by bootstrap.
    """
    kinds = [kind for kind in CUTS if kind in set(accuracy.kind)]
    rows = []
    for kind in kinds:
        about = ["task", "model", "seed"]
        control = accuracy[accuracy.kind == f"{kind}-control"].set_index(about)
        fall = by_seed[by_seed.kind == kind].set_index(about)
        for _, row in accuracy[accuracy.kind == kind].iterrows():
            key = tuple(row[about])
            fell, other = fall.loc[key], control.loc[key]
            text = fmt.span("accuracy", ".0f", 100)
            rows.append(
                {"task": label(row.task), "model": label(row.model), "training": str(row.seed)}
                | {
                    "cut": CUTS[kind],
                    "n": str(row.n),
                    "whole (%)": fmt.number(row.whole, ".0f", 100),
                }
                | {"cut (%)": text(row), "prompt cut (%)": text(other)}
                | {"metric's further fall": fmt.span("fell", prefix="fell_")(fell)}
            )
    return pd.DataFrame(rows)


def agree(by_seed: pd.DataFrame, over: pd.DataFrame) -> fmt.Finding:
    """Do later tokens stand where they are used? Over trainings, and by training below."""
    if by_seed.empty:
        return NO_CELLS
    texts = {
        "training": fmt.value("seed", "d"),
        "rank correlation": fmt.value("rank", "+.2f"),
        "within layers": fmt.value("within", "+.2f"),
        "cells": fmt.value("cells", "d"),
        "can be read (%)": fmt.value("accuracy", ".0f", 100),
        "input alone (%)": fmt.value("input", ".0f", 100),
        "is used (%)": fmt.value("used", ".1f", 100),
    }
    told = over[over.base == ""]
    told = told[told.value.notna() | told.value.isna().all()]  # a task with too few cells
    return fmt.told(
        AGREE,
        told,
        ["model"],
        fmt.span("value", "+.2f"),
        fmt.lines(by_seed, ["task", "model"], texts),
        trainings=fmt.trainings(by_seed.seed.nunique()),
    )


def agree_over(over: pd.DataFrame) -> pd.DataFrame:
    """The rank correlations over trainings and their differences between models."""
    rows = over[over.value.notna()]
    rows = rows.assign(compared=[compared(row) for _, row in rows.iterrows()])
    texts = {
        "rank correlation [95 % over trainings]": fmt.span("value", "+.2f"),
        "trainings": lambda row: count_text(pd.Series([row.n])),
    }
    return fmt.lines(rows, ["task", "compared"], texts)
