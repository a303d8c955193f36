"""A copy of the project whose one pair has a chapter or more that take no time, and runs of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import psutil
import yaml

from mechshift_lib.config import ROOT

#: Marks the processes of one run in their environment.
MARKER = "MECHSHIFT_TEST_RUN"
#: Makes the file ``started``, and then waits to be killed.
ENDLESS = "import time\nopen('started', 'w').close()\ntime.sleep(600)"


def make_toy(folder: Path, chapters: Sequence[str] = ("behaviour",)) -> Path:
    """A pair ``toy`` with these chapters, each of which says ``first``."""
    for part in ("mechshift_lib", "workflow"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    described = yaml.safe_load((ROOT / "data/pairs/tiny-qwen.yaml").read_text(encoding="utf-8"))
    described |= {"name": "toy", "seeds": [0], "analyses": list(chapters)}
    (folder / "data" / "pairs").mkdir(parents=True)
    text = yaml.safe_dump(described)
    (folder / "data" / "pairs" / "toy.yaml").write_text(text, encoding="utf-8")
    for role in ("arm", "mdm", "continued"):
        model = folder / described[role]["source"]["path"].replace("{seed}", "0")
        model.mkdir(parents=True)
        (model / "model.safetensors").write_bytes(b"weights")
    config = folder / "workflow" / "config.yaml"
    chosen = yaml.safe_load(config.read_text(encoding="utf-8")) | {"pages": {}}
    config.write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    for chapter in chapters:
        write_chapter(folder, "print('first')", chapter)
    return folder


def describe(folder: Path, **said: Any) -> None:
    """Let the pair's file say this, too."""
    path = folder / "data" / "pairs" / "toy.yaml"
    described = yaml.safe_load(path.read_text(encoding="utf-8")) | said
    path.write_text(yaml.safe_dump(described), encoding="utf-8")


def ask_of_cluster(folder: Path, asked: dict[str, Any]) -> None:
    """Let the pair's file say this under ``cluster``."""
    describe(folder, cluster=asked)


def write_chapter(folder: Path, code: str, chapter: str = "behaviour") -> None:
    """Let a chapter run this code."""
    defaults = 'pair = "p"\nbudget = "b"\nresults = "r"'
    cells = [
        nbformat.v4.new_markdown_cell(f"# {chapter.capitalize()}"),
        nbformat.v4.new_code_cell(defaults, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    (folder / "notebooks").mkdir(exist_ok=True)
    path = folder / "notebooks" / f"{chapter}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def page(folder: Path, chapter: str = "behaviour") -> Path:
    """Where a chapter's page lies."""
    return folder / "book" / "executed" / "toy" / f"{chapter}.ipynb"


def heed_signals() -> None:
    """Heed what the tests' own process may have been started to ignore (``nohup``, ``&``)."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(folder: Path, marker: str = "", *options: str) -> subprocess.Popen[str]:
    """``mechshift run toy``, in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "mechshift_lib.cli", "run", "toy", *(options or ("--jobs", "1"))],
        cwd=folder,
        env=environment | {MARKER: marker},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,
    )


def run(folder: Path, *options: str, seconds: float = 120) -> tuple[int, str]:
    """Exit code and output of ``mechshift run toy``."""
    process = start(folder, "", *options)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def sentences(output: str) -> list[str]:
    """What mechshift itself said, without Snakemake's report."""
    return [line for line in output.splitlines() if line.startswith("mechshift: ")]


def running(marker: str) -> list[psutil.Process]:
    """All processes of the run that was started with this marker."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get(MARKER) == marker:
                found.append(process)
        except psutil.Error:  # it has ended, or is another user's
            continue
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Whether the condition comes true within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


def kill_workflow(process: subprocess.Popen[str]) -> None:
    """Kill the process group of Snakemake and its jobs."""
    (snakemake,) = psutil.Process(process.pid).children()
    os.killpg(os.getpgid(snakemake.pid), signal.SIGKILL)
