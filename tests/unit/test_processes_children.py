"""A child ends with its owner, whatever becomes of the owner and however the child was started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mechshift_lib import processes
from mechshift_lib.config import ROOT
from mechshift_lib.processes import StoppedError, alone, interruptible, run_child
from tests.support.toy import heed_signals, wait_for

#: A child that says its number, and lives on.
CHILD = """
import os, pathlib, signal, time
from mechshift_lib import processes
processes.GRACE = 0.5
processes.end_with_owner()
{before}
pathlib.Path("{pid}").write_text(str(os.getpid()))
time.sleep(600)
"""
#: An owner whose child is started by a shell, which hides the one from the other.
OWNER = """
import pathlib, sys
from mechshift_lib import processes
processes.GRACE = 2.0
with processes.interruptible():
    processes.run_child(["bash", "-c", "{python} child.py; true"], cwd=pathlib.Path.cwd())
"""


def ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def start(
    folder: Path, before: str = "", signals: Callable[[], None] = heed_signals
) -> tuple[subprocess.Popen[bytes], int]:
    """An owner and the number of its grandchild."""
    pid = folder / "pid"
    (folder / "child.py").write_text(CHILD.format(before=before, pid=pid))
    (folder / "owner.py").write_text(OWNER.format(python=sys.executable))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(
        [sys.executable, "owner.py"],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        preexec_fn=signals,
    )
    assert wait_for(lambda: pid.is_file() and pid.read_text(), 30)
    return owner, int(pid.read_text())


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_no_child_outlives_its_owner(number: signal.Signals, tmp_path: Path) -> None:
    owner, child = start(tmp_path)
    owner.send_signal(number)
    owner.communicate(timeout=20)
    assert wait_for(lambda: gone(child), 10)


def test_a_child_that_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    owner, child = start(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    owner.kill()
    owner.communicate(timeout=20)
    assert wait_for(lambda: gone(child), 10)


def test_a_signal_that_was_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    """As with ``nohup``."""
    owner, child = start(tmp_path, signals=ignore_hangups)
    owner.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        owner.wait(timeout=1)
    assert not gone(child)
    owner.kill()
    owner.communicate(timeout=20)
    assert wait_for(lambda: gone(child), 10)


@pytest.mark.parametrize(
    ("tie", "code"), [({}, 0), ({processes.LIFELINE: "/nowhere/lifeline"}, -signal.SIGTERM)]
)
def test_a_process_without_an_owner_lives_and_one_that_lost_it_ends(
    tie: dict[str, str], code: int
) -> None:
    command = "from mechshift_lib import processes; processes.end_with_owner(); "
    command += "import time; time.sleep(0.5)"
    environment = {k: v for k, v in os.environ.items() if k != processes.LIFELINE} | tie
    done = subprocess.run([sys.executable, "-c", command], env=environment, cwd=ROOT, check=False)
    assert done.returncode == code


def test_a_child_that_ends_by_itself_gives_its_output_and_leaves_nothing(tmp_path: Path) -> None:
    code = f"import os, pathlib, sys; print(os.environ['{processes.LIFELINE}']); sys.exit(3)"
    done = run_child([sys.executable, "-c", code], cwd=tmp_path, capture=True)
    assert done.returncode == 3
    assert Path(done.stdout.strip()).name.startswith("mechshift-lifeline-")
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_is_a_sentence_and_its_exit_code(number: signal.Signals) -> None:
    own = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    heed_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before, cleaned = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            cleaned.append(True)

    try:
        with pytest.raises(StoppedError, match=number.name) as error, interruptible():
            work()
        assert error.value.exit_code == 128 + number
        assert cleaned
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        for which, handler in own.items():
            signal.signal(which, handler)


def test_one_at_a_time_and_a_killed_one_locks_nobody_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "lock"
    code = (
        "import pathlib, sys, time\nfrom mechshift_lib.processes import alone\n"
        f"with alone(pathlib.Path({str(path)!r}), 'wait.'):\n"
        "    print('inside', flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "inside\n"
        waiter = subprocess.Popen(["bash", "-c", f"sleep 1; kill -9 {other.pid}"])
        with alone(path, "wait."):
            assert other.wait(timeout=10) == -signal.SIGKILL
        waiter.wait()
    assert capsys.readouterr().err == "mechshift: wait.\n"
    with alone(path, "wait."):
        assert capsys.readouterr().err == ""
