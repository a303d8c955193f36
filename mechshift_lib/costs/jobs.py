"""What a chapter's job asks of a cluster: what its pair's file says, and estimates of the rest.

Imports nothing heavy: every job of a cluster reads this before it begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mechshift_lib.choices import BudgetName
from mechshift_lib.config import ROOT, FolderSource, HubSource, Pair, load_pair
from mechshift_lib.costs.memory import GIB, Held, chapter_bytes
from mechshift_lib.costs.time import Cost, read_costs, span

#: Memory of Python, torch and tables, beside the models; and the least that is asked for.
BESIDE_GIB, LEAST_GIB = 2, 6
#: Bounds of the time that is asked for, and what a chapter gets that was never measured.
LEAST_MINUTES, MOST_MINUTES, UNKNOWN_MINUTES = 60, 7 * 24 * 60, 240
#: The most that is foreseen, times this: other processors are slower.
SAFETY = 2


def asked(name: str, chapter: str, budget: BudgetName, root: Path = ROOT) -> dict[str, Any]:
    """What the job of a pair's chapter asks for, as Snakemake's resources.

    Args:
        name: the pair's.
        chapter: one of its chapters.
        budget: how much it does.
        root: the checkout.

    Returns:
        ``mem_mb`` (of main memory), ``runtime`` (minutes), ``gpu`` and ``slurm_partition``, the
        latter two ``None`` where the file says nothing.

    Raises:
        ConfigError: the pair's file is unknown or malformed.
    """
    pair = _pair(name, root)
    said = pair.cluster.of(chapter)
    gib = said.memory_gib or memory_gib(pair, budget, root)
    minutes = said.minutes or minutes_of(pair, chapter, budget, _costs(root), root)
    return {
        "mem_mb": 1024 * gib,
        "runtime": minutes,
        "gpu": said.gpus or None,
        "slurm_partition": said.partition,
    }


def memory_gib(pair: Pair, budget: BudgetName, root: Path = ROOT) -> int:
    """About how much main memory a chapter takes, in GiB, which keeps two models at a time."""
    held = []
    for role in pair.roles:
        spec = pair.declared(role)
        if isinstance(spec.source, HubSource) and spec.source.size is not None:
            held.append(Held(spec.source.size, spec.dtype, spec.quantization))
    if held:
        needed = chapter_bytes(held, pair.budget(budget).batch_size)
    else:
        needed = 2 * max(_weights(pair, role, root) for role in pair.roles)
    return max(LEAST_GIB, math.ceil(needed / GIB) + BESIDE_GIB)


def minutes_of(
    pair: Pair, chapter: str, budget: BudgetName, costs: Sequence[Cost], root: Path = ROOT
) -> int:
    """For how many minutes a chapter's job may run, by what was measured on one core."""
    source = pair.declared(pair.roles[0]).source
    parameters = _weights(pair, pair.roles[0], root) // 4
    if isinstance(source, HubSource):
        parameters = source.size.parameters if source.size else 0
    found = None
    if parameters:
        roles, tasks = len(pair.roles), len(pair.tasks)
        found = span(chapter, parameters, pair.budget(budget), roles, tasks, costs)
    if found is None:
        return UNKNOWN_MINUTES
    return min(MOST_MINUTES, max(LEAST_MINUTES, math.ceil(SAFETY * found.most / 60)))


@cache
def _pair(name: str, root: Path) -> Pair:
    return load_pair(name, root)


@cache
def _costs(root: Path) -> list[Cost]:
    """What was measured; nothing in a checkout without the table, which no result needs."""
    there = (root / "data" / "benchmarks" / "chapters.json").is_file()
    return read_costs(root) if there else []


def _weights(pair: Pair, role: str, root: Path) -> int:
    """Bytes of a model's weights files, none where they aren't in a folder of their own."""
    source = pair.declared(role).source
    if not isinstance(source, FolderSource):
        return 0
    return sum(file.stat().st_size for file in (root / source.path).glob("*.safetensors"))
