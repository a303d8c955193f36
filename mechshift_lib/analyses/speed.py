"""What the benchmarks of ``benchmarks/`` measured, as tables and sentences.

Nothing is measured here: the page shows the files that ``make bench`` wrote, with their provenance.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.errors import ResultError
from mechshift_lib.plots.theme import label

#: Aims for EAP-IG against the floor, set before anything was measured: time, and memory above the
#: loaded model; and the time at 7B shapes.
TIME_AIM, MEMORY_AIM, LARGE_TIME_AIM = 1.3, 1.5, 1.5
#: Aim for a step of a model in the page, in milliseconds.
STEP_AIM = 100

MIB = 2**20
#: Columns of the benchmark of patching -> what heads them.
HEADS = {
    "per_second": "per second",
    "traced_per_second": "by traced passes",
    "literal_per_second": "literally",
    "speedup": "× as many as literally",
}


@dataclass(frozen=True)
class Benchmark:
    """One file of ``data/benchmarks``.

    Attributes:
        rows: what was measured.
        settings: under which settings.
        provenance: where and with which code and versions.
    """

    rows: pd.DataFrame
    settings: dict[str, Any]
    provenance: dict[str, Any]


def read_benchmark(name: str, root: Path = ROOT) -> Benchmark | None:
    """A benchmark's file, or ``None`` where it wasn't run.

    Raises:
        ResultError: the file is damaged.
    """
    path = root / "data" / "benchmarks" / f"{name}.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Benchmark(pd.DataFrame(found["rows"]), found["settings"], found["provenance"])
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{path} is damaged: make it again with `make bench`.") from error


def where(benchmark: Benchmark) -> str:
    """A sentence on where, when and with what a benchmark ran."""
    found = benchmark.provenance
    hardware, versions = found["hardware"], found["versions"]
    commit = (found["commit"] or "unknown")[:10]
    if found["dirty"]:
        commit += " with uncommitted changes"
    return (
        f"Measured on {found['created'][:10]} on {hardware['gpu'] or hardware['processor']} "
        f"(code: commit {commit}; torch {versions['torch']}, transformers "
        f"{versions['transformers']}, nnsight {versions['nnsight']})."
    )


def attribution(benchmark: Benchmark) -> str:
    """Whether attribution keeps to its aims, shape by shape."""
    settings = benchmark.settings
    lines = [
        f"EAP-IG (inputs, m = {settings['steps']}) on batches of {settings['batch']} examples of "
        f"{settings['length']} tokens, one thread; least of {settings['repeats']} times, memory "
        f"above the loaded model. The aims are at most {TIME_AIM} × the floor's time and "
        f"{MEMORY_AIM} × its memory.\n"
    ]
    for row in benchmark.rows.itertuples():
        lines.append(
            f"- **{row.shape}** ({row.edges:,} edges): {row.time_ratio:.2f} × the floor's time "
            f"({_aim(row.time_ratio, TIME_AIM)}; single repeats {row.lowest_ratio:.2f} to "
            f"{row.highest_ratio:.2f}) and {row.memory_ratio:.2f} × its memory "
            f"({_aim(row.memory_ratio, MEMORY_AIM)}), {row.bytes / MIB:,.0f} against "
            f"{row.floor_bytes / MIB:,.0f} MiB."
        )
    return "\n".join([*lines, "", where(benchmark)])


def _aim(value: float, aim: float) -> str:
    return "aim met" if value <= aim else "aim missed"


def patching(benchmark: Benchmark) -> str:
    """What sharing and batching bring to exact patching and circuit evaluation."""
    settings = benchmark.settings
    parts = []
    for row in benchmark.rows.itertuples():
        unit = "circuits" if row.work.startswith("circuit") else "edges"
        part = (
            f"{row.work} does {row.per_second:,.0f} {unit} per second, counted for each "
            f"example, where the literal implementation does {row.literal_per_second:,.0f} "
            f"({row.speedup:.0f} × as many)"
        )
        if not pd.isna(getattr(row, "traced_per_second", None)):
            part += (
                f" and traced passes do {row.traced_per_second:,.0f} "
                f"({row.per_second / row.traced_per_second:.1f} × as many)"
            )
        parts.append(part)
    return (
        f"On a model of {settings['layers']} layers with {settings['heads']} heads, "
        f"{settings['edges']:,} edges, {settings['examples']} examples of {settings['length']} "
        f"tokens, one thread, by processor time: {'; '.join(parts)}. {where(benchmark)}"
    )


def exponents(benchmark: Benchmark) -> pd.DataFrame:
    """Exponents p of time ∝ valueᵖ, by least squares of the logarithms.

    Returns:
        ``varied, exponent, error, n``: ``error`` is the standard error of the slope, ``n`` the
        number of sizes.
    """
    rows = []
    for varied, part in benchmark.rows.groupby("varied", sort=False):
        x, y = np.log(part.value.to_numpy(float)), np.log(part.seconds.to_numpy(float))
        slope, intercept = np.polyfit(x, y, 1)
        rest = y - intercept - slope * x
        spread = ((x - x.mean()) ** 2).sum()
        error = np.sqrt((rest**2).sum() / (len(x) - 2) / spread)
        rows.append({"varied": varied, "exponent": slope, "error": error, "n": len(x)})
    return pd.DataFrame(rows)


def growth(benchmark: Benchmark) -> str:
    """How time grows."""
    table = exponents(benchmark)
    parts = [f"{r.varied} {r.exponent:.2f} (± {r.error:.2f})" for r in table.itertuples()]
    return (
        f"Fitted exponents of the time, with the standard error of the fit over "
        f"{int(table.n.min())} sizes each: {', '.join(parts)}. An exponent below 1 means that "
        "fixed costs and small matrix products are still felt at these sizes. More heads here "
        f"widen the model, too. {where(benchmark)}"
    )


def play(benchmark: Benchmark) -> str:
    """Whether a step of the models in the page is as short as it is to be."""
    lines = [
        f"Filling canvases of {label(benchmark.settings['task'])} in a headless browser; the bare "
        "model in torch on the same canvases, one thread. The aim is at most "
        f"{STEP_AIM} ms.\n"
    ]
    for row in benchmark.rows.itertuples():
        lines.append(
            f"- **{load_pair(row.pair).title}**, {row.what} over {row.tokens} tokens: "
            f"{row.ms:.0f} ms ({_aim(row.ms, STEP_AIM)}), {row.ratio:.1f} × torch's forward pass."
        )
    return "\n".join([*lines, "", where(benchmark)])


def large(benchmark: Benchmark | None) -> str:
    """The 7B shapes, or that they weren't measured."""
    if benchmark is None:
        return (
            "**Not measured.** There was no GPU when the benchmarks of this book were run, so "
            "nothing is known about the cost at 7B shapes. `benchmarks/bench_seven_billion.py` is "
            "tested at tiny shapes and measures them where there is one."
        )
    lines = []
    for row in benchmark.rows.itertuples():
        memory = "unknown" if pd.isna(row.bytes) else f"{row.bytes / 2**30:.1f} GiB"
        lines.append(
            f"- **{row.shape}**, all {row.edges:,} edges: {row.seconds:.1f} s, "
            f"{row.time_ratio:.2f} × the floor ({_aim(row.time_ratio, LARGE_TIME_AIM)}); peak "
            f"memory above the model {memory}."
        )
    return "\n".join([*lines, "", where(benchmark)])
