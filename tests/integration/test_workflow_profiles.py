"""Profiles say where jobs run: Snakemake takes them, and jobs ask for what the pair's file says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mechshift_lib.config import ROOT
from mechshift_lib.workflow import executor_of, profiles
from tests.support import toy

ASKED = {"memory_gib": 3, "minutes": 77, "chapters": {"probes": {"gpus": 2, "partition": "gpu"}}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = toy.make_toy(tmp_path_factory.mktemp("toy") / "toy", ("behaviour", "probes"))
    toy.ask_of_cluster(folder, ASKED)
    return folder


def dry_run(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--snakefile", "workflow/Snakefile"]
    command += [*options, "--config", "pairs=toy", "--"]
    command += [f"book/executed/toy/.{name}.done" for name in ("behaviour", "probes")]
    # Where Slurm is installed and not set up, its commands would look for it for a minute.
    nowhere = {"SLURM_CONF": os.devnull}
    environment = {**os.environ, **nowhere, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def resources(text: str, rule: str) -> str:
    found = re.search(rf"^rule {rule}:.*?^    resources: ([^\n]*)$", text, re.M | re.S)
    assert found, text
    return found[1]


def test_the_profile_of_slurm_is_one_that_snakemake_takes(project: Path) -> None:
    for option in ("--profile", "--workflow-profile"):
        text = dry_run(project, option, "workflow/profiles/slurm")
        behaviour, probes = (resources(text, name) for name in ("behaviour", "probes"))
        assert {"mem_mb=3072", "runtime=77"} <= set(behaviour.split(", "))
        assert "gpu=" not in behaviour
        assert "slurm_partition" not in behaviour
        assert {"mem_mb=3072", "gpu=2", "slurm_partition=gpu"} <= set(probes.split(", "))


def test_without_a_profile_the_same_jobs_would_run_here(project: Path) -> None:
    assert "runtime=77" in resources(dry_run(project), "behaviour")


def test_every_profile_names_what_runs_its_jobs() -> None:
    assert profiles() == ["slurm"]
    assert executor_of("slurm") == "slurm"
    said = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text("utf-8"))
    # It replaces the default one, so it has to say the same of runs that end early.
    default = yaml.safe_load((ROOT / "workflow/profiles/default/config.yaml").read_text("utf-8"))
    assert {k: said[k] for k in default if k != "cores"} == {
        k: v for k, v in default.items() if k != "cores"
    }


@pytest.mark.parametrize(
    ("profile", "said"),
    [("nowhere", "There is no profile 'nowhere': choose from slurm"), ("slurm", "no sbatch here")],
)
def test_what_is_not_there_is_one_sentence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str, said: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # where no command is
    code, output = toy.run(project, "--profile", profile)
    assert code == 2
    (sentence,) = toy.sentences(output)
    assert said in sentence
    assert output.strip().count("\n") == 0
