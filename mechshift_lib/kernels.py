"""Kernels that begin with everything imported, forked from one process that imported it once.

Importing torch, transformers, nnsight and the plotting libraries takes most chapters longer than
what they compute. While a run executes several notebooks on this machine, one process imports
them; each kernel is a fork of it, with its own environment, folder and output, and shares the
memory of what was imported. The process that Jupyter starts and watches is a small stand-in: it
asks for the fork, hands on signals, and ends as the kernel ends. Where there is no such server (a
single notebook, a cluster's job, another system), a stand-in becomes the kernel itself.

A server forks, so it must have no GPU in use: where there is one, kernels start by themselves.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechshift_lib.processes import end_with_owner, module_command

#: Names the server's address to the processes that start kernels.
SERVER = "MECHSHIFT_KERNELS"
#: Names the file in which a forked kernel's largest resident memory is noted, in bytes.
PEAK = "MECHSHIFT_PEAK"
#: What chapters have in common.
IMPORTED = (
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "mechshift_lib.analyses.page",
    "mechshift_lib.circuits.attribution.exact",
    "mechshift_lib.models.loading",
    "mechshift_lib.plots.theme",
)
_KERNEL = "ipykernel_launcher"
_BACKEND = "module://matplotlib_inline.backend_inline"
#: Files that a machine with a GPU has.
_GPUS = ("/dev/nvidiactl", "/dev/kfd")
_STREAMS = (0, 1, 2)
#: Characters of the folder for temporary files from which on a socket's address is too long.
_LONGEST = 60
#: Seconds after a kernel's end in which its memory is noted.
_SOON = 3.0


def forks_here() -> bool:
    """Whether kernels can be forked: on Linux, and no GPU's driver may be in use before a fork."""
    return sys.platform == "linux" and not any(Path(gpu).exists() for gpu in _GPUS)


@contextlib.contextmanager
def server(environment: Mapping[str, str], *, wanted: bool = True) -> Iterator[dict[str, str]]:
    """Fork kernels for the processes that are started inside the block.

    Nothing is imported before the first kernel is asked for. The server ends with the block, and
    with this process however that ends; kernels end with those who asked for them.

    Args:
        environment: in which everything is imported: libraries read it then.
        wanted: whether there is to be one; else kernels start by themselves.

    Yields:
        What to put into their environment.
    """
    # An address of more than about a hundred characters can't be bound.
    if not (wanted and forks_here() and len(tempfile.gettempdir()) < _LONGEST):
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="mechshift-kernels-") as folder:
        address = Path(folder) / "server"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(address))
            listener.listen()
            # Its standard input tells the server that this process has ended.
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, "serve", str(listener.fileno())],
                stdin=subprocess.PIPE,
                # A kernel says so to matplotlib, which here is imported before there is one.
                env={"MPLBACKEND": _BACKEND, **environment},
                pass_fds=(listener.fileno(),),
                process_group=0,
            )
        try:
            yield {SERVER: str(address)}
        finally:
            process.terminate()
            process.communicate()


def command(*arguments: str) -> list[str]:
    """The command that Jupyter starts as a kernel, tied to this process (see :func:`lifeline`).

    Args:
        *arguments: of the kernel.
    """
    return module_command(__name__, "kernel", *arguments)


def peak(path: Path) -> int | None:
    """Largest resident memory in bytes of a kernel that has ended; None where it isn't known.

    Args:
        path: what :data:`PEAK` named. A kernel that wasn't forked leaves nothing there.
    """
    if SERVER not in os.environ:
        return None
    until = time.monotonic() + _SOON
    while not path.is_file() and time.monotonic() < until:
        time.sleep(0.01)
    return int(path.read_text()) if path.is_file() else None


def _serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork a kernel for everyone who asks; returns in every fork, with what was asked.

    None where the server itself has to end.
    """
    reaped = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the monitors
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:  # nothing is ever written to it: its other end has been closed
            return None
        client, _ = listener.accept()
        for name in IMPORTED:
            with contextlib.suppress(Exception):  # a notebook that needs it will say what is wrong
                importlib.import_module(name)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, reaped)
            listener.close()
            return _monitor(client)
        client.close()


def _monitor(client: socket.socket) -> dict[str, Any]:
    """Fork a kernel and watch it; returns in the kernel alone, with what was asked."""
    with contextlib.suppress(OSError):  # the stand-in was killed before it had said what it wants
        head, streams, _, _ = socket.recv_fds(client, 8, len(_STREAMS))
        asked = json.loads(_exactly(client, int.from_bytes(head, "big")))
        child = os.fork()
        if child == 0:
            client.close()
            os.setsid()
            for end, number in zip(streams, _STREAMS, strict=True):
                os.dup2(end, number)
                os.close(end)
            return dict(asked)
        threading.Thread(target=_hand_on, args=(client, child), daemon=True).start()
        _, status, usage = os.wait4(child, 0)
        with contextlib.suppress(OSError):  # its folder has gone with the run
            if (noted := asked["environment"].get(PEAK)) is not None:
                part = Path(f"{noted}.part")
                part.write_text(str(usage.ru_maxrss * 1024))
                part.rename(noted)
        client.sendall(str(status).encode())
    os._exit(0)


def _exactly(client: socket.socket, count: int) -> bytes:
    """So many bytes of a connection.

    Raises:
        ConnectionError: it ended before.
    """
    found = b""
    while len(found) < count:
        part = client.recv(count - len(found))
        if not part:
            raise ConnectionError
        found += part
    return found


def _hand_on(client: socket.socket, kernel: int) -> None:
    """Send a kernel the signals that its stand-in gets, and end it if the stand-in has gone."""
    with contextlib.suppress(ProcessLookupError):
        while number := client.recv(1):
            os.kill(kernel, number[0])
        os.killpg(kernel, signal.SIGKILL)


def _become(asked: dict[str, Any]) -> None:
    """Be the kernel that was asked for, in a fork of the server."""
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    # It ends when its parent does; which that is was read from the environment at the import.
    sys.argv = [_KERNEL, *asked["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"]
    end_with_owner()


def _stand_in(arguments: list[str]) -> int | None:
    """Have a kernel forked and end as it ends; None where no server can be reached.

    Returns:
        The exit code, below 0 for a signal.
    """
    address = os.environ.pop(SERVER, None)
    if address is None:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
        except OSError:
            return None
        asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        text = json.dumps(asked).encode()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, _: connection.send(bytes([n])))
        with open(os.devnull, "rb") as nothing:
            socket.send_fds(connection, [len(text).to_bytes(8, "big")], [nothing.fileno(), 1, 2])
        connection.sendall(text)
        answer = b""
        while part := connection.recv(1024):
            answer += part
    if not answer:
        return 1  # the server was killed, or couldn't import what chapters need
    return os.waitstatus_to_exitcode(int(answer))


def main() -> None:
    """The server (``serve`` and its socket's number), or a kernel and its arguments."""
    role, *arguments = sys.argv[1:]
    if role == "serve":
        asked = _serve(socket.socket(fileno=int(arguments[0])))
        if asked is None:
            return
        _become(asked)
    else:
        code = _stand_in(arguments)
        if code is not None:
            if code < 0:
                signal.signal(-code, signal.SIG_DFL)
                os.kill(os.getpid(), -code)
            sys.exit(code)
        sys.argv = [_KERNEL, *arguments]
    runpy.run_module(_KERNEL, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
