"""A small workflow through a real Slurm of one node: it ends as on one machine, whatever happens.

`make test-slurm` runs it; `tests/slurm/cluster` starts and stops the Slurm.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import yaml

from mechshift_lib import slurm
from tests.support import toy

pytestmark = pytest.mark.slurm
CLUSTER = Path(__file__).with_name("cluster")
#: The second builds on the first, the third on nothing.
CHAPTERS = ("behaviour", "circuits", "probes")
ON_SLURM = ("--profile", "slurm")
#: Small enough for two jobs at once on the test's node.
ASKED: dict[str, Any] = {"memory_gib": 1, "minutes": 30}
#: Seconds that a run may take.
LONG = 300


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "start", folder], check=True)
    with pytest.MonkeyPatch.context() as here:
        here.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        here.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield
    subprocess.run([CLUSTER, "stop", folder], check=True)


@pytest.fixture(autouse=True)
def _node_is_up() -> Iterator[None]:
    yield
    ask("scancel", "--me")
    node("resume")


def ask(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


def node(state: str) -> None:
    name = ask("sinfo", "--noheader", "--format=%n").split()[0]
    ask("scontrol", "update", f"nodename={name}", f"state={state}", "reason=test")


def jobs(form: str = "%A", states: str = "running") -> list[str]:
    return ask("squeue", "--noheader", f"--states={states}", f"--format={form}").splitlines()


def make(folder: Path) -> Path:
    toy.make_toy(folder, CHAPTERS)
    toy.ask_of_cluster(folder, ASKED)
    path = folder / "workflow/profiles/slurm/config.yaml"
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(said | {"slurm-init-seconds-before-status-checks": 2}))
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Path:
    """A project whose chapters have all run through Slurm."""
    folder = make(tmp_path_factory.mktemp("project") / "toy")
    code, output = toy.run(folder, *ON_SLURM, seconds=LONG)
    assert code == 0, output
    return folder


@pytest.fixture
def project(done: Path, tmp_path: Path) -> Path:
    return shutil.copytree(done, tmp_path / "toy", symlinks=True)


def pages(folder: Path) -> dict[str, list[Any]]:
    """What the pages say, but for their provenance."""
    found = {}
    for chapter in CHAPTERS:
        cells = nbformat.read(toy.page(folder, chapter), as_version=4).cells[:-1]
        found[chapter] = [(c.source, [o.text for o in c.get("outputs", [])]) for c in cells]
    return found


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {chapter: toy.page(folder, chapter).read_bytes() for chapter in CHAPTERS}


def endless(folder: Path, marker: str = "") -> subprocess.Popen[str]:
    """A run whose chapter ``probes`` is on its node, and stays there."""
    toy.write_chapter(folder, toy.ENDLESS, "probes")
    process = toy.start(folder, marker, *ON_SLURM)
    assert toy.wait_for((folder / "started").is_file, 120), process.communicate()
    return process


def failed(process: subprocess.Popen[str], folder: Path, before: dict[str, bytes]) -> str:
    """The one sentence of a run that failed and lost nothing."""
    output, _ = process.communicate(timeout=LONG)
    assert process.returncode == 2, output
    assert "Traceback" not in output
    (sentence,) = toy.sentences(output)
    assert sentence.endswith("and the same command goes on from there.")
    assert bytes_of(folder) == before
    return sentence


def goes_on(folder: Path, before: dict[str, bytes]) -> None:
    """The next run makes what is missing, and just that."""
    toy.write_chapter(folder, "print('mended')", "probes")
    code, output = toy.run(folder, *ON_SLURM, seconds=LONG)
    assert code == 0, output
    now = bytes_of(folder)
    assert b"mended" in now.pop("probes")
    assert now == {name: page for name, page in before.items() if name != "probes"}
    assert jobs(states="pending,running") == []


def test_a_run_through_slurm_is_that_of_this_machine(done: Path, tmp_path: Path) -> None:
    here = make(tmp_path / "toy")
    code, output = toy.run(here)
    assert code == 0, output
    assert pages(done) == pages(here)
    before = bytes_of(done)
    code, output = toy.run(done, *ON_SLURM)
    assert code == 0, output
    assert bytes_of(done) == before  # nothing is done twice


def test_jobs_ask_for_what_the_file_says(project: Path) -> None:
    chapters = {"probes": {"minutes": 17, "memory_gib": 2, "partition": "other"}}
    toy.ask_of_cluster(project, ASKED | {"chapters": chapters})
    for chapter in ("behaviour", "probes"):
        toy.write_chapter(project, "print('again')", chapter)
    code, output = toy.run(project, *ON_SLURM, seconds=LONG)
    assert code == 0, output
    rows = [row.split("|") for row in jobs("%j|%k|%l|%m|%P", "all")]
    own = {row[1]: row[2:] for row in rows if row[0].startswith(slurm.jobs_name(project))}
    assert own["rule_probes_wildcards_toy"] == ["17:00", "2G", "other"]
    assert own["rule_behaviour_wildcards_toy"] == ["30:00", "1G", "main"]
    assert set(own) == {f"rule_{chapter}_wildcards_toy" for chapter in CHAPTERS}


def test_plain_snakemake_runs_through_slurm_too(project: Path) -> None:
    toy.write_chapter(project, "print('plain')", "probes")
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    command += ["--profile", "workflow/profiles/slurm", "--slurm-status-command", "squeue"]
    command += ["--config", "pairs=toy", "--", "book/executed/toy/.probes.done"]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    ran = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "has been submitted with SLURM jobid" in ran.stderr
    assert b"plain" in toy.page(project, "probes").read_bytes()


def test_a_chapter_that_fails_says_why_as_here(project: Path) -> None:
    before = bytes_of(project)
    toy.write_chapter(project, "raise ValueError('no such thing')", "probes")
    sentence = failed(toy.start(project, "", *ON_SLURM), project, before)
    assert re.search(r"toy/probes \(job \d+\) failed: .*ValueError: no such thing", sentence)
    goes_on(project, before)


def test_a_job_that_is_cancelled(project: Path) -> None:
    before = bytes_of(project)
    process = endless(project)
    ask("scancel", *jobs())
    assert "was cancelled" in failed(process, project, before)
    goes_on(project, before)


def test_a_job_whose_process_is_killed(project: Path) -> None:
    before = bytes_of(project)
    process = endless(project)
    victims = [p for p in psutil.process_iter() if on_behalf_of(p, project)]
    assert victims
    for victim in victims:
        victim.kill()
    sentence = failed(process, project, before)
    assert re.search(r"toy/probes \(job \d+\) ended early", sentence)
    goes_on(project, before)


def on_behalf_of(process: psutil.Process, project: Path) -> bool:
    """Whether it is the command of a job of this project."""
    try:
        line = process.cmdline()
        return "execute" in line and process.cwd() == str(project)
    except psutil.Error:
        return False


def test_a_node_that_is_drained_and_resumed(project: Path) -> None:
    before = bytes_of(project)
    node("drain")
    toy.write_chapter(project, "print('mended')", "probes")
    process = toy.start(project, "", *ON_SLURM)
    assert toy.wait_for(lambda: jobs(states="pending"), 60)
    time.sleep(5)
    assert jobs() == []
    assert process.poll() is None
    node("resume")
    output, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0, output
    assert b"mended" in toy.page(project, "probes").read_bytes()
    goes_on(project, bytes_of(project) | {"behaviour": before["behaviour"]})


def test_a_time_limit_that_is_hit(project: Path) -> None:
    before = bytes_of(project)
    toy.ask_of_cluster(project, ASKED | {"chapters": {"probes": {"minutes": 1}}})
    sentence = failed(endless(project), project, before)
    assert "reached its time limit: give it more minutes under cluster" in sentence
    toy.ask_of_cluster(project, ASKED)  # which makes no other chapter out of date
    goes_on(project, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_job(project: Path, number: signal.Signals) -> None:
    before = bytes_of(project)
    process = endless(project)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert bytes_of(project) == before
    if number == signal.SIGTERM:  # it could still cancel them; else the next run does
        assert toy.wait_for(lambda: not jobs(), 30)
    goes_on(project, before)


def test_a_partition_that_there_is_not(project: Path) -> None:
    toy.ask_of_cluster(project, ASKED | {"partition": "nowhere"})
    code, output = toy.run(project, *ON_SLURM)
    assert code == 2
    (sentence,) = toy.sentences(output)
    assert "no partition 'nowhere'" in sentence
    assert "main, other" in sentence


def test_a_slurm_that_does_not_answer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", os.devnull)
    code, output = toy.run(project, *ON_SLURM)
    assert code == 2
    (sentence,) = toy.sentences(output)
    assert "Slurm doesn't answer" in sentence
