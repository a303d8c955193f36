"""Slurm as it is asked: by stand-ins for its commands, so that none has to be there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from mechshift_lib import slurm
from mechshift_lib.errors import ConfigError


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that is all there is; each answers with a file of its name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in slurm.COMMANDS:
        answer(folder, name, "")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def answer(folder: Path, name: str, text: str, code: int = 0) -> None:
    (folder / f"{name}.txt").write_text(text)
    where = 'echo "$0 $*" >> "$0.calls"; while read -r x; do echo "$x"; done < "$0.txt"'
    (folder / name).write_text(f"#!/bin/sh\n{where}\nexit {code}\n")
    (folder / name).chmod(0o755)


def calls(folder: Path, name: str) -> list[str]:
    file = folder / f"{name}.calls"
    return (
        [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []
    )


def test_partitions_that_there_are_pass(commands: Path) -> None:
    answer(commands, "sinfo", "main*\nother\n")
    slurm.check({"toy/circuits": None, "toy/probes": "other", "toy/lens": "main"})


@pytest.mark.parametrize(
    ("partitions", "wanted", "said"),
    [
        ("main*\nother\n", "nowhere", "no partition 'nowhere', which toy/circuits asks for"),
        ("main\nother\n", None, "no default partition, and none is named for toy/circuits"),
        ("", None, "no default partition"),
    ],
)
def test_a_partition_that_there_is_not_is_a_sentence(
    commands: Path, partitions: str, wanted: str | None, said: str
) -> None:
    answer(commands, "sinfo", partitions)
    with pytest.raises(ConfigError, match=said):
        slurm.check({"toy/circuits": wanted})


def test_without_slurm_it_is_a_sentence(commands: Path) -> None:
    (commands / "sbatch").unlink()
    with pytest.raises(ConfigError, match="There is no sbatch here"):
        slurm.check({})


def test_without_the_plugin_it_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install -e '.\[cluster\]'"):
        slurm.check({})


def test_a_slurm_that_refuses_is_a_sentence(commands: Path) -> None:
    answer(commands, "sinfo", "", code=1)
    with pytest.raises(ConfigError, match="Slurm doesn't answer sinfo"):
        slurm.check({})


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("accounting_storage/none", True),
        ("(null)", True),
        ("accounting_storage/slurmdbd", False),
    ],
)
def test_without_accounting_squeue_is_asked(
    commands: Path, tmp_path: Path, kept: str, asked: bool
) -> None:
    answer(commands, "scontrol", f"AccountingStorageType   = {kept}\n")
    found = slurm.options(tmp_path)
    assert found[:2] == ["--slurm-jobname-prefix", slurm.jobs_name(tmp_path)]
    assert ("squeue" in found) is asked


def test_only_jobs_of_this_checkout_are_cancelled(commands: Path, tmp_path: Path) -> None:
    own, other = slurm.jobs_name(tmp_path), slurm.jobs_name(tmp_path / "other")
    answer(commands, "squeue", f"7 {own}_a-b\n8 {other}_c-d\n9 mine\n12 {own}_a-b\n")
    assert slurm.cancel(tmp_path) == 2
    assert calls(commands, "scancel") == ["12 7"]
    answer(commands, "squeue", f"8 {other}_c-d\n")
    assert slurm.cancel(tmp_path) == 0
    assert calls(commands, "scancel") == ["12 7"]


SLURMS = "slurmstepd: error: *** JOB 5 ON node CANCELLED AT 2026-11-29T08:00:00"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (f"{SLURMS} DUE TO TIME LIMIT ***\nmechshift: Interrupted by SIGTERM.\n", "its time limit"),
        (f"{SLURMS} DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***\n", "lost its node"),
        (f"{SLURMS} DUE TO PREEMPTION ***\n", "make room"),
        (f"{SLURMS} ***\nmechshift: Interrupted by SIGTERM: kept.\n", "was cancelled"),
        ("error: Detected 1 oom_kill event in StepId=5.batch.\n", "more memory"),
        ("noise\nmechshift: notebooks/a.ipynb, cell [2]: it broke.\n", "failed: notebooks/a.ipynb"),
        ("Killed\n", "ended early"),
    ],
)
def test_a_log_says_why_in_one_clause(log: str, said: str) -> None:
    found = slurm.reason(log)
    assert said in found
    assert not found.endswith(".")
    assert "\n" not in found


def test_failures_are_those_of_this_run(tmp_path: Path) -> None:
    for name, when in (("rule_circuits/toy/7", 100), ("rule_paper/8", 200), ("rule_lens/toy/9", 1)):
        log = tmp_path / slurm.LOGS / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{SLURMS} ***\n")
        os.utime(log, (when, when))
    assert list(slurm.failures(tmp_path, 50)) == [
        "toy/circuits (job 7) was cancelled",
        "paper (job 8) was cancelled",
    ]
