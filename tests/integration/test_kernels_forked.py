"""Kernels forked from one server: like any other kernel, and gone when who asked is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest

from mechshift_lib import kernels
from mechshift_lib.execution import NotebookError, run_notebook
from mechshift_lib.processes import LIFELINE
from tests.support.toy import wait_for

#: Says what a kernel is made of: what it has imported already, where it is, what it was told.
ASKED = """
import json, os, sys
import matplotlib
print(json.dumps({
    "torch": "torch" in sys.modules, "folder": os.getcwd(), "own": os.getpid(),
    "said": os.environ.get("SAID"), "server": "MECHSHIFT_KERNELS" in os.environ,
    "argv": sys.argv[1:2], "backend": matplotlib.get_backend(),
    "threads": os.environ["OMP_NUM_THREADS"],
}))
"""


def notebook(path: Path, code: str) -> Path:
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("given = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def execute(folder: Path, code: str) -> nbformat.NotebookNode:
    source = notebook(folder / "n.ipynb", code)
    output = run_notebook(source, folder / "o.ipynb", {"given": 2}, failed=folder / "failed")
    return nbformat.read(output, as_version=4)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with kernels.server({**os.environ, "OMP_NUM_THREADS": "1"}) as forks:
        yield forks[kernels.SERVER]


@pytest.fixture
def forked(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.SERVER, address)
    monkeypatch.setenv("SAID", "by this test")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.usefixtures("forked")
def test_a_forked_kernel_is_as_one_of_its_own_but_has_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pages = [execute(tmp_path, ASKED) for _ in range(2)]
    assert capfd.readouterr().out == ""
    first, second = (json.loads(page.cells[-2].outputs[0].text) for page in pages)
    monkeypatch.delenv(kernels.SERVER)
    alone = execute(tmp_path, ASKED)
    own = json.loads(alone.cells[-2].outputs[0].text)
    assert first["torch"]
    assert not own["torch"]
    assert not first["server"]
    assert len({one.pop("own") for one in (first, second, own)}) == 3
    assert first["said"] == "by this test"
    assert first | {"torch": False} == second | {"torch": False} == own


@pytest.mark.usefixtures("forked")
def test_its_memory_is_on_the_page(tmp_path: Path) -> None:
    page = execute(
        tmp_path, "whole = bytearray(700 * 2**20); whole[::4096] = b'x' * len(whole[::4096])"
    )
    [line] = [row for row in page.cells[-1].source.splitlines() if "Peak memory" in row]
    assert 0.68 < float(line.split("|")[2].split()[0]) < 4


@pytest.mark.usefixtures("forked")
def test_one_that_dies_is_a_sentence_and_the_next_one_lives(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="kernel ended early"):
        execute(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NotebookError, match="ValueError: no"):
        execute(tmp_path, "raise ValueError('no')")
    assert "2" in execute(tmp_path, "print(given)").cells[-2].outputs[0].text


@pytest.mark.usefixtures("forked")
def test_without_its_server_it_starts_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.SERVER, str(tmp_path / "nowhere"))
    page = execute(tmp_path, "import sys; print('torch' in sys.modules)")
    assert page.cells[-2].outputs[0].text == "False\n"


def started(folder: Path, address: str) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A stand-in, and its kernel, which writes its number and waits."""
    (folder / "connection.json").unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != LIFELINE}
    process = subprocess.Popen(
        kernels.command("-f", str(folder / "connection.json")),
        env=environment | {kernels.SERVER: address, "OMP_NUM_THREADS": "1"},
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    assert wait_for(lambda: (folder / "connection.json").is_file(), 60)

    def kernel() -> list[psutil.Process]:
        return [one for one in psutil.process_iter() if marked(one, folder, process.pid)]

    assert wait_for(kernel, 10)
    return process, kernel()[0]


def marked(one: psutil.Process, folder: Path, stand_in: int) -> bool:
    """Whether a process has a file of this folder's kernel open, or runs in it."""
    try:
        return one.pid != stand_in and one.cwd() == str(folder)
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kernel_ends_with_its_stand_in(number: int, address: str, tmp_path: Path) -> None:
    stand_in, kernel = started(tmp_path, address)
    stand_in.send_signal(number)
    assert stand_in.wait(20) != 0
    assert wait_for(lambda: not kernel.is_running(), 20)


def test_an_interrupt_reaches_the_kernel_and_does_not_end_it(address: str, tmp_path: Path) -> None:
    stand_in, kernel = started(tmp_path, address)
    stand_in.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        stand_in.wait(1)
    assert kernel.is_running()
    stand_in.kill()
    stand_in.wait()


def test_a_server_ends_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\nfrom mechshift_lib import kernels\n"
        "with kernels.server(os.environ) as forks:\n"
        "    print(forks['MECHSHIFT_KERNELS'], flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        [server] = psutil.Process(owner.pid).children()
        owner.kill()
    assert wait_for(lambda: not server.is_running(), 20)


def test_where_a_gpu_may_be_in_use_nothing_is_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_GPUS", (str(tmp_path),))
    with kernels.server(os.environ) as forks:
        assert forks == {}
