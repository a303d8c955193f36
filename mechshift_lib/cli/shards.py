"""``mechshift run PAIR --shard I/N``: one of several jobs that score a pair's circuits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from mechshift_lib.errors import ConfigError, shown

if TYPE_CHECKING:
    from mechshift_lib.analyses.parts import Shard
    from mechshift_lib.choices import BudgetName

#: Jobs beyond which a number is a slip.
MOST = 10_000


def score_shard(
    pairs: Sequence[str], analyses: Sequence[str], budget: BudgetName, text: str
) -> None:
    """Score one shard's questions of the circuits of pairs, and say what it did.

    Raises:
        ConfigError: the shard is malformed, no pair is named, another chapter is, or circuits of a
            pair can't be divided.
    """
    shard = parse_shard(text)
    if not pairs or set(analyses) - {"circuits"}:
        raise ConfigError(
            "--shard divides the scores of circuits among jobs: name a pair, and no other chapter "
            "than circuits."
        )
    from mechshift_lib.analyses.parts import KIND
    from mechshift_lib.analyses.shards import run_shard
    from mechshift_lib.analyses.study import Study

    for name in pairs:
        study = Study.open(name, budget)
        for task, circuit, n in run_shard(study, shard):
            typer.echo(f"{name}, {task}, {circuit}: {n} questions of shard {shard}")
        typer.echo(
            f"The parts of {name} are in {study.store.root / KIND}. When all {shard.of} are there: "
            f"mechshift run {name}"
        )


def parse_shard(text: str) -> Shard:
    """``"2/8"`` → the second of eight.

    Raises:
        ConfigError: it isn't of that form.
    """
    from mechshift_lib.analyses.parts import Shard

    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of <= MOST:
        raise ConfigError(
            f"--shard takes a number and how many there are, such as 1/8 or 8/8, not {shown(text)}."
        )
    return Shard(number, of)
