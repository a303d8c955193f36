"""Every benchmark runs at tiny shapes and writes what the page reads."""

import json
import os
import subprocess
import sys

import pytest

from mechshift_lib.analyses import speed
from mechshift_lib.config import ROOT

SAID = {
    "attribution": speed.attribution,
    "patching": speed.patching,
    "growth": speed.growth,
    "seven_billion": speed.large,
    "play": speed.play,
}


@pytest.mark.parametrize("name", SAID)
def test_a_small_run_is_what_the_page_reads(name, tmp_path):
    folder = tmp_path / "data" / "benchmarks"
    command = [sys.executable, str(ROOT / "benchmarks" / f"bench_{name}.py"), "--small"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "--repeats", "1", "--out", str(folder)],
        check=True,
        env=environment,
        capture_output=True,
    )
    found = speed.read_benchmark(name, tmp_path)
    assert found is not None
    assert len(found.rows) >= 2
    assert SAID[name](found)
    assert (found.rows.select_dtypes(float).dropna(axis=1) > 0).all().all()


def test_the_shipped_files_say_where_they_come_from():
    for path in (ROOT / "data" / "benchmarks").glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        assert len(found["provenance"]["commit"]) == 40, path.name
        assert found["rows"], path.name


def test_there_is_a_script_for_every_file():
    measured = {p.stem.removeprefix("bench_") for p in (ROOT / "benchmarks").glob("bench_*.py")}
    assert measured == set(SAID)
    # What chapters cost is fitted to the provenance of runs, so its script times nothing itself.
    fitted = {p.stem.removeprefix("fit_") for p in (ROOT / "benchmarks").glob("fit_*.py")}
    assert {p.stem for p in (ROOT / "data" / "benchmarks").glob("*.json")} <= measured | fitted
