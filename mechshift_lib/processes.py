"""Child processes that end with the process that started them, however that one ends.

The owner holds a lock on a file, its lifeline, and the system lets go of the lock when the owner
ends, be it by a kill that it can't answer. Each child waits for that lock in a thread: no polling,
no process number that a stranger may get, and it reaches across shells and process groups.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mechshift_lib.errors import MechshiftError

try:
    import fcntl
except ImportError:  # Windows: children are ended by an owner that can say so, and else run on
    fcntl = None  # type: ignore[assignment]

#: Names the owner's lifeline to its children.
LIFELINE = "MECHSHIFT_LIFELINE"
#: Seconds that a process may take to end by itself before it is killed.
GRACE = 8.0


class StoppedError(MechshiftError):
    """A signal asked the command to end; what was finished is kept.

    Attributes:
        exit_code: 128 and the signal's number, as shells say it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(
            f"Interrupted by {signal.Signals(number).name}: what was finished is kept, and the "
            "same command goes on from there."
        )
        self.exit_code = 128 + number


class _Signal(KeyboardInterrupt):
    """Raised where a signal arrives; as Ctrl-C does it, which libraries let pass."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Inside the block, signals that ask to end unwind the stack, so that cleaning up is done.

    They raise a :class:`KeyboardInterrupt`, as Ctrl-C does. A signal that the process was started
    to ignore (as by ``nohup``) stays ignored. Outside of the main thread nothing is changed.
    """

    def unwind(number: int, _: Any) -> None:
        raise _Signal(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, unwind)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_of(error: KeyboardInterrupt) -> signal.Signals:
    """The signal that raised an interrupt."""
    return signal.Signals(getattr(error, "number", signal.SIGINT))


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """:func:`unwinding`, for work that can be taken up again.

    Raises:
        StoppedError: at the block's end, for Ctrl-C too.
    """
    with unwinding():
        try:
            yield
        except KeyboardInterrupt as error:
            raise StoppedError(signal_of(error)) from error


@contextlib.contextmanager
def lifeline() -> Iterator[dict[str, str]]:
    """Hold a lifeline for the children that are started inside the block.

    Yields:
        What to put into the children's environment.
    """
    if fcntl is None:
        yield {}
        return
    handle, name = tempfile.mkstemp(prefix="mechshift-lifeline-")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield {LIFELINE: name}
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


@contextlib.contextmanager
def alone(path: Path, waiting: str) -> Iterator[tuple[int, ...]]:
    """Let one process at a time into the block; the others wait, and say so.

    Args:
        path: the lock's file, made where it is missing; nothing of it stays locked after a kill.
        waiting: what to say on standard error if another process is inside.

    Yields:
        The open file, for children that are to keep the lock as long as they live.
    """
    if fcntl is None:
        yield ()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"mechshift: {waiting}", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield (file.fileno(),)


def end_with_owner() -> None:
    """End this process when the owner of its lifeline ends; without a lifeline, do nothing.

    It is asked to end first, so that it can clean up, and killed after :data:`GRACE` seconds.
    """
    path = os.environ.get(LIFELINE)
    if path is not None and fcntl is not None:
        threading.Thread(target=_watch, args=(Path(path),), daemon=True).start()


def _watch(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # returns when the owner has ended
        path.unlink(missing_ok=True)  # an owner that was killed couldn't
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)


def run_child(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    capture: bool = False,
    inherit: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and let neither it nor its own children outlive this process.

    Ctrl-C in a terminal reaches this process alone, which ends the child in its turn.

    Args:
        command: its Python code calls :func:`end_with_owner` (:func:`module_command` does it).
        cwd: the child's working directory.
        environment: the child's; by default this process's own.
        capture: keep what the child prints, as text.
        inherit: open files that the child keeps, by their numbers.
    """
    pipe = subprocess.PIPE if capture else None
    with lifeline() as tie:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**(os.environ if environment is None else environment), **tie},
            stdout=pipe,
            stderr=pipe,
            text=True,
            pass_fds=tuple(inherit),
            process_group=0,
        )
        try:
            out, err = process.communicate()
        except BaseException:
            _end(process)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _end(process: subprocess.Popen[str]) -> None:
    """End a child and its process group: asked first, killed after :data:`GRACE` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # ended, or ending
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=GRACE)
            return


def module_command(module: str, *arguments: str) -> list[str]:
    """The command for a module, as ``python -m``, in a process that ends with its owner."""
    return [sys.executable, "-m", "mechshift_lib.processes", module, *arguments]


if __name__ == "__main__":
    end_with_owner()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
