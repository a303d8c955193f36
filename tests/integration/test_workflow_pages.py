"""The page of the last success outlives whatever happens to later runs, and no run outlives itself.

By ``mechshift run`` on a project whose chapter takes no time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import toy

#: Seconds in which all processes of a killed run have to be gone.
SOON = 15


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = toy.make_toy(tmp_path_factory.mktemp("toy") / "finished")
    code, output = toy.run(folder)
    assert code == 0, output
    assert "first" in toy.page(folder).read_text(encoding="utf-8")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A project whose run has ended well."""
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def test_nothing_is_done_twice_and_a_page_that_is_gone_is_made_anew(project: Path) -> None:
    page = toy.page(project)
    before = page.stat()
    assert toy.run(project)[0] == 0
    after = page.stat()  # it was read, to see whether it is what its run wrote
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    page.unlink()
    assert toy.run(project)[0] == 0
    assert "first" in page.read_text(encoding="utf-8")


def test_a_chapter_of_the_full_budget_is_made_there_or_where_it_is_asked_for(project: Path) -> None:
    toy.describe(project, full_analyses=["lens"])
    toy.write_chapter(project, "print('long')", "lens")
    page = toy.page(project, "lens")
    assert toy.run(project)[0] == 0
    assert not page.exists()
    assert toy.run(project, "--analysis", "lens")[0] == 0
    assert "long" in page.read_text(encoding="utf-8")
    page.unlink()
    assert toy.run(project, "--budget", "full")[0] == 0
    assert "long" in page.read_text(encoding="utf-8")


def test_a_chapter_runs_though_its_pair_lacks_those_that_it_builds_on(tmp_path: Path) -> None:
    folder = toy.make_toy(tmp_path / "alone", ["overlap"])
    code, output = toy.run(folder)
    assert code == 0, output
    assert "first" in toy.page(folder, "overlap").read_text(encoding="utf-8")


def test_a_failed_chapter_keeps_its_page_and_runs_again(project: Path) -> None:
    page = toy.page(project)
    before = page.read_bytes()
    toy.write_chapter(project, "raise ValueError('it broke')")
    for _ in range(2):  # also where nothing has changed since the failure
        code, output = toy.run(project)
        assert code == 2
        failure, last = toy.sentences(output)
        assert "ValueError: it broke" in failure
        assert "Not every notebook ran" in last
        assert "Traceback" not in output
        assert page.read_bytes() == before
    toy.write_chapter(project, "print('mended')")
    assert toy.run(project)[0] == 0
    assert "mended" in page.read_text(encoding="utf-8")


def test_a_kernel_that_dies_is_one_sentence(project: Path) -> None:
    before = toy.page(project).read_bytes()
    toy.write_chapter(project, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    code, output = toy.run(project)
    assert code == 2
    assert "the kernel ended early" in toy.sentences(output)[0]
    assert toy.page(project).read_bytes() == before


def asks(number: int) -> Callable[[subprocess.Popen[str]], None]:
    return lambda process: os.kill(process.pid, number)


@pytest.mark.parametrize(
    ("kill", "code"),
    [
        (asks(signal.SIGINT), 128 + signal.SIGINT),
        (asks(signal.SIGTERM), 128 + signal.SIGTERM),
        (asks(signal.SIGKILL), -signal.SIGKILL),
        (toy.kill_workflow, 2),
    ],
    ids=["SIGINT", "SIGTERM", "SIGKILL", "SIGKILL of the workflow"],
)
def test_a_killed_run_keeps_the_page_and_leaves_no_process(
    kill: Callable[[subprocess.Popen[str]], None], code: int, project: Path
) -> None:
    page, marker = toy.page(project), str(project)
    before = page.read_bytes()
    toy.write_chapter(project, toy.ENDLESS)
    process = toy.start(project, marker)
    assert toy.wait_for((project / "started").exists, 120)
    assert len(toy.running(marker)) >= 4  # mechshift, Snakemake, the job and its kernel
    kill(process)
    output, _ = process.communicate(timeout=SOON)
    assert process.returncode == code, output
    assert "Traceback" not in output
    last = {2: "The workflow was killed by SIGKILL"}.get(code, "Interrupted by SIG")
    assert code < 0 or last in toy.sentences(output)[-1]
    assert toy.wait_for(lambda: not toy.running(marker), SOON), toy.running(marker)
    assert page.read_bytes() == before
    # No half of a page lies about: what is left is the last success, and what it would be made of.
    assert {path.name for path in page.parent.iterdir()} == {page.name, ".behaviour.made_of"}
    toy.write_chapter(project, "print('mended')")
    assert toy.run(project)[0] == 0
    assert "mended" in page.read_text(encoding="utf-8")


def test_of_two_runs_at_once_the_second_waits_and_finds_all_done(project: Path) -> None:
    count = (
        "import os, time\nopen('count', 'a').write('x')\nopen('started', 'w').close()\n"
        "while not os.path.exists('go on'):\n    time.sleep(0.05)"
    )
    toy.write_chapter(project, count)
    first = toy.start(project)
    assert toy.wait_for((project / "started").exists, 120)
    second = toy.start(project)
    assert second.stdout is not None
    said = second.stdout.readline()  # it says so before the first ends, however slow it starts
    (project / "go on").touch()
    rest, _ = second.communicate(timeout=120)
    first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    (sentence,) = toy.sentences(said + rest)
    assert "another run is at work in this folder" in sentence
    assert (project / "count").read_text() == "x"
