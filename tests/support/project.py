"""A copy of the project with one training of a tiny pair and few examples: runs take seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from mechshift_lib.config import ROOT

#: Few enough for seconds, and enough for a circuit of every model.
SMALL = {"behaviour_examples": 24, "circuit_examples": 8, "ig_steps": 2, "bootstrap": 50}
#: Small parts that are copied: what computes, and how it is run.
PARTS = ("mechshift_lib", "notebooks", "workflow", "data/paper")


def make_project(
    folder: Path,
    chapters: Sequence[str] = ("behaviour",),
    budget: Mapping[str, int] | None = None,
) -> Path:
    """The project with the pair ``toy``: the tiny pair's first seed, two tasks, these chapters."""
    for part in (*PARTS, "data/models/tiny-qwen/seed0"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    described = yaml.safe_load((ROOT / "data/pairs/tiny-qwen.yaml").read_text(encoding="utf-8"))
    described |= {"name": "toy", "seeds": [0], "tasks": ["ioi", "infilling"]}
    described |= {"budgets": {"book": {**SMALL, **(budget or {})}}, "analyses": list(chapters)}
    described.pop("task_options", None)
    mix = described["training"]["mix"]
    described["training"]["mix"] = {name: mix[name] for name in described["tasks"]}
    (folder / "data" / "pairs").mkdir(parents=True)
    text = yaml.safe_dump(described)
    (folder / "data" / "pairs" / "toy.yaml").write_text(text, encoding="utf-8")
    return folder


def start(folder: Path, *arguments: str, threads: int = 1) -> subprocess.Popen[str]:
    """``mechshift`` in a project, in a process group of its own; its output is one stream."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads)}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait leave the core to others
    return subprocess.Popen(
        [sys.executable, "-m", "mechshift_lib.cli", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def stored(folder: Path) -> dict[str, bytes]:
    """Every finished table and its provenance, by its name below the project."""
    files = (folder / "results").glob("*/*/*")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.parent.name[0] != "."}


def tables(folder: Path) -> dict[str, bytes]:
    """Every finished table: what was found, without when, where and how fast."""
    return {name: data for name, data in stored(folder).items() if name.endswith(".parquet")}
