"""A run that is killed again and again ends like one that was left alone.

Takes minutes; `make test-faults` runs it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nbformat
import pytest

from tests.support.project import make_project, start, stored, tables

pytestmark = pytest.mark.faults
#: Kills of the whole test, and the seed of their moments.
KILLS, SEED = 24, 5
CHAPTERS = ("behaviour", "circuits", "overlap")


def run(folder: Path) -> subprocess.Popen[str]:
    chosen = [word for chapter in CHAPTERS for word in ("--analysis", chapter)]
    return start(folder, "run", "toy", "--jobs", "1", *chosen)


def chapters(folder: Path) -> dict[str, str]:
    """Source of the executed notebooks; their provenance differs by time."""
    found = {}
    for path in sorted((folder / "book" / "executed" / "toy").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        found[path.name] = "\n".join(cell.source for cell in cells[:-1])
    return found


def test_a_run_killed_at_random_moments_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    calm, storm = (make_project(tmp_path / name, CHAPTERS) for name in ("calm", "storm"))
    process = run(calm)
    began = time.monotonic()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    whole = time.monotonic() - began

    draw = random.Random(SEED)
    finished: dict[str, bytes] = {}
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        assert runs < 10 * KILLS
        process = run(storm)
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
    process = run(storm)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert {name: stored(storm).get(name) for name in finished} == finished
    assert tables(storm) == tables(calm)
    assert chapters(storm) == chapters(calm)


def test_two_runs_on_the_same_results_at_once_both_end_well(tmp_path: Path) -> None:
    calm, shared = (make_project(tmp_path / name, CHAPTERS) for name in ("calm", "shared"))
    process = run(calm)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    for process in [run(shared), run(shared)]:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
    assert tables(shared) == tables(calm)
    assert chapters(shared) == chapters(calm)
