"""A run that is killed again and again ends like one that was left alone.

Takes minutes; `make test-faults` runs it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import yaml

from mechshift_lib.config import ROOT

pytestmark = pytest.mark.faults
#: Kills of the whole test, and the seed of their moments.
KILLS, SEED = 24, 5
CHAPTERS = ("behaviour", "circuits", "overlap")


#: So few examples that a run takes seconds.
SMALL = {"behaviour_examples": 24, "circuit_examples": 8, "ig_steps": 2, "bootstrap": 50}


def make_project(folder: Path) -> Path:
    """The project with the tiny pair's first seed only, two tasks and few examples."""
    copied = ("mechshift_lib", "notebooks", "workflow", "data/paper", "data/models/tiny-qwen/seed0")
    for part in copied:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    described = yaml.safe_load((ROOT / "data/pairs/tiny-qwen.yaml").read_text(encoding="utf-8"))
    described |= {"name": "toy", "seeds": [0], "tasks": ["ioi", "infilling"]}
    described |= {"budgets": {"book": SMALL}, "analyses": list(CHAPTERS)}
    described.pop("task_options")
    (folder / "data" / "pairs").mkdir(parents=True)
    text = yaml.safe_dump(described)
    (folder / "data" / "pairs" / "toy.yaml").write_text(text, encoding="utf-8")
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mechshift_lib.cli", "run", "toy", "--jobs", "1"]
    for chapter in CHAPTERS:
        command += ["--analysis", chapter]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stored(folder: Path) -> dict[str, bytes]:
    """Every finished table and its provenance."""
    files = (folder / "results").glob("*/*/*")
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.parent.name[0] != "."}


def tables(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in stored(folder).items() if name.endswith(".parquet")}


def chapters(folder: Path) -> dict[str, str]:
    """Source of the executed notebooks; their provenance differs by time."""
    found = {}
    for path in sorted((folder / "book" / "executed" / "toy").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        found[path.name] = "\n".join(cell.source for cell in cells[:-1])
    return found


def test_a_run_killed_at_random_moments_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    calm, storm = make_project(tmp_path / "calm"), make_project(tmp_path / "storm")
    process = start(calm)
    began = time.monotonic()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output.decode()
    whole = time.monotonic() - began

    draw = random.Random(SEED)
    finished: dict[str, bytes] = {}
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        assert runs < 10 * KILLS
        process = start(storm)
        try:
            process.wait(timeout=draw.uniform(0.3, 0.6 * whole))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        now = stored(storm)
        # What was finished is neither lost nor computed again.
        assert {name: now.get(name) for name in finished} == finished
        finished = now
        if chapters(storm).keys() == chapters(calm).keys():
            shutil.rmtree(storm / "book")  # all done: execute the chapters on the stored tables
    process = start(storm)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output.decode()
    assert {name: stored(storm).get(name) for name in finished} == finished
    assert tables(storm) == tables(calm)
    assert chapters(storm) == chapters(calm)


def test_two_runs_on_the_same_results_at_once_both_end_well(tmp_path: Path) -> None:
    calm, shared = make_project(tmp_path / "calm"), make_project(tmp_path / "shared")
    process = start(calm)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output.decode()
    for process in [start(shared), start(shared)]:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output.decode()
    assert tables(shared) == tables(calm)
    assert chapters(shared) == chapters(calm)
