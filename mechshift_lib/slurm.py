"""Slurm, asked by its own commands: whether it is there, which jobs it has, why some failed."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from mechshift_lib.errors import ConfigError, listed, shown

#: Commands that submitting and following jobs takes.
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
#: Seconds in which Slurm has to answer.
PATIENCE = 60
#: Where the jobs' logs lie, relative to the root. Snakemake removes those of jobs that went well.
LOGS = Path(".snakemake") / "slurm_logs"
#: What Slurm or mechshift writes into the log of a job that didn't -> what is said of it.
REASONS = (
    (
        r"DUE TO TIME LIMIT",
        "reached its time limit: give it more minutes under cluster in the pair's file",
    ),
    (
        r"oom[-_ ]kill|[Oo]ut [Oo]f [Mm]emory",
        "took more memory than it had asked for: raise memory_gib under cluster in the pair's file",
    ),
    (r"DUE TO NODE FAIL", "lost its node"),
    (r"DUE TO PREEMPTION", "had to make room for another's"),
    (r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED", "was cancelled"),
)


def jobs_name(root: Path) -> str:
    """What the names of a checkout's jobs begin with."""
    return f"mechshift-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]}"


def check(partitions: Mapping[str, str | None]) -> None:
    """Refuse to submit what can't be submitted.

    Args:
        partitions: page -> the partition that its job asks for, ``None`` for the cluster's own.

    Raises:
        ConfigError: Slurm or the plugin isn't there, Slurm doesn't answer, it has no such
            partition, or no partition is named and none is the default.
    """
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise ConfigError(
            "Snakemake's plugin for Slurm is missing: install it with pip install -e '.[cluster]'."
        )
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise ConfigError(
            f"There is no {missing[0]} here, so Slurm can't be asked: say this on a machine that "
            "submits jobs, or leave out --profile."
        )
    names = _ask("sinfo", "--noheader", "--format=%P").split()
    known = sorted({name.rstrip("*") for name in names})
    for page, wanted in partitions.items():
        if wanted is None and not any(name.endswith("*") for name in names):
            raise ConfigError(
                f"This cluster has no default partition, and none is named for {page}: name one of "
                f"{listed(known)} under cluster in the pair's file."
            )
        if wanted is not None and wanted not in known:
            raise ConfigError(
                f"This cluster has no partition {shown(wanted)}, which {page} asks for; it has "
                f"{listed(known)}: change it under cluster in the pair's file."
            )


def options(root: Path) -> list[str]:
    """What Snakemake is told, beside the profile, of this checkout and this cluster.

    Without accounting, finished jobs are known to squeue alone, and Snakemake would wait for sacct
    for ever.
    """
    found = ["--slurm-jobname-prefix", jobs_name(root)]
    kept = re.search(
        r"^AccountingStorageType\s*=\s*(\S+)", _ask("scontrol", "show", "config"), re.M
    )
    if kept is None or kept[1] in ("accounting_storage/none", "(null)"):
        found += ["--slurm-status-command", "squeue"]
    return found


def cancel(root: Path) -> int:
    """Cancel a checkout's jobs that wait or run, and say how many there were.

    Raises:
        ConfigError: Slurm doesn't answer.
    """
    rows = [
        line.split() for line in _ask("squeue", "--me", "--noheader", "--format=%A %j").splitlines()
    ]
    jobs = sorted({row[0] for row in rows if row[-1].startswith(jobs_name(root))})
    if jobs:
        _ask("scancel", *jobs)
    return len(jobs)


def failures(root: Path, since: float) -> Iterator[str]:
    """A sentence, without its full stop, for every job that didn't end well.

    Args:
        root: the checkout.
        since: jobs whose logs are older are left out, in seconds as files' times.
    """
    for log in sorted((root / LOGS).rglob("*.log")):
        if log.stat().st_mtime < since:
            continue
        rule, *wildcards = log.relative_to(root / LOGS).parts[:-1]
        page = "/".join([*wildcards, rule.removeprefix("rule_")])
        yield f"{page} (job {log.stem}) {reason(log.read_text(encoding='utf-8', errors='replace'))}"


def reason(log: str) -> str:
    """Why a job failed, from its log: Slurm's word, else the library's own sentence."""
    for pattern, sentence in REASONS:
        if re.search(pattern, log):
            return sentence
    own = re.findall(r"^mechshift: (.+?)\.?$", log, re.M)
    return f"failed: {own[-1]}" if own else f"ended early, without a reason; its log is in {LOGS}"


def _ask(*command: str) -> str:
    """What one of Slurm's commands answers."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"Slurm doesn't answer: {command[0]} came to no end.") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ConfigError(f"Slurm doesn't answer {command[0]} ({said.strip().rstrip('.')}).")
    return done.stdout
