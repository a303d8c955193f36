"""Work that is cut off while it writes: at every change of a file, at every byte, by a full disk.

``python -m tests.support.writes WORK FOLDER`` does all of it for one of :data:`WORKS` and says how
often the work was cut off. It runs in a process of its own, which forks a child for each cut: in
one with threads, as pytest's may be, a fork can hang.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mechshift_lib.config import ROOT, Pair
from mechshift_lib.documents.files import sentence_of
from mechshift_lib.errors import MechshiftError
from mechshift_lib.fork import add_pair, remove_pair
from mechshift_lib.made_of import seal
from mechshift_lib.results import Store
from mechshift_lib.results.archive import export, verify
from mechshift_lib.results.atomic import write_atomic

#: What the interpreter says before it changes a file or folder.
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link"}
#: A child that ended with a sentence, and one that failed otherwise.
SAID, FAILED = 3, 1

FRAMES = {"one": pd.DataFrame({"x": range(400)}), "two": pd.DataFrame({"y": ["a", "b"]})}
KEY = {"pair": "p", "seed": 1}


def store_result(folder: Path) -> None:
    """A result of two tables."""
    Store(folder / "results").frames("depth", KEY, lambda: FRAMES)


def check_result(folder: Path) -> None:
    """It is whole or not there."""
    store = Store(folder / "results")
    if store.root.is_dir():
        assert [fault for _, fault in verify(store) if fault] == []


def replace_page(folder: Path) -> None:
    """A page in place of an older one, and its mark."""
    write_atomic(folder / "page.ipynb", "new" * 200)
    seal(folder / "page.ipynb", folder / ".page.done")


def check_page(folder: Path) -> None:
    """It is the old one or the new one, and its mark is whole."""
    assert (folder / "page.ipynb").read_text() in ("old", "new" * 200)
    assert len((folder / ".page.done").read_text()) == 65


def export_results(folder: Path) -> None:
    """An archive in place of an older one."""
    export(Store(folder / "results"), folder / "all.zip")


def check_archive(folder: Path) -> None:
    """It is the old one, or a whole new one."""
    content = (folder / "all.zip").read_bytes()
    assert content in (b"old", (folder / "whole").read_bytes())
    check_result(folder)


_MODEL = {"source": {"kind": "folder", "path": "/m"}, "attention": "causal"}
PAIR = Pair.model_validate(
    {"name": "cut", "title": "Cut", "description": "-", "tasks": ["ioi"]}
    | {role: {**_MODEL, "readout": "next-token"} for role in ("arm", "mdm")}
)


def fork_pair(folder: Path) -> None:
    """A new pair in the book."""
    add_pair(PAIR, folder)


def unfork_pair(folder: Path) -> None:
    """The pair out of the book again; a second call finds nothing to do."""
    if (folder / "data" / "pairs" / "cut.yaml").exists():
        remove_pair("cut", folder)


def check_book(folder: Path) -> None:
    """The book's files are as before, or as after."""
    for name in ("_toc.yml", "workflow/config.yaml"):
        text = (folder / name).read_text(encoding="utf-8")
        assert text in [(folder / side / name).read_text() for side in ("without", "with")]


def prepare(work: str, folder: Path) -> None:
    """What the work finds."""
    folder.mkdir(parents=True)
    if work == "page":
        (folder / "page.ipynb").write_text("old")
        seal(folder / "page.ipynb", folder / ".page.done")
    if work == "archive":
        in_child(lambda: store_result(folder))  # pyarrow's threads don't outlive a fork
        in_child(lambda: export(Store(folder / "results"), folder / "whole.zip"))
        (folder / "whole.zip").rename(folder / "whole")
        (folder / "all.zip").write_bytes(b"old")
    if work in ("fork", "unfork"):
        for name in ("workflow", "notebooks", "data/pairs"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "_toc.yml", folder)
        for side, change in (("without", None), ("with", fork_pair)):
            for name in ("_toc.yml", "workflow/config.yaml"):
                (folder / side / name).parent.mkdir(parents=True, exist_ok=True)
            if change:
                change(folder)
            for name in ("_toc.yml", "workflow/config.yaml"):
                shutil.copy(folder / name, folder / side / name)
        if work == "fork":
            unfork_pair(folder)


#: What is done, and what has to be true of its folder at every moment.
WORKS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "result": (store_result, check_result),
    "page": (replace_page, check_page),
    "archive": (export_results, check_archive),
    "fork": (fork_pair, check_book),
    "unfork": (unfork_pair, check_book),
}


def in_child(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> int:
    """Exit code of a child that does the work; minus a signal's number where one ended it."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            before()
            work()
            code = 0
        except MechshiftError as error:
            code = SAID if str(error).endswith(".") and "\n" not in str(error) else FAILED
        except OSError as error:  # the command line says it
            code = SAID if sentence_of(error) else FAILED
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(number: int) -> None:
    """Let this process be killed right before its change of that number, counted from 1."""
    left = number

    def heed(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opened = event == "open" and isinstance(arguments[2], int)
        if event in CHANGES or (opened and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heed)


def limit_files(size: int, *, kill: bool) -> None:
    """Let no file of this process get larger: the write that would do it kills, or fails."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def visible(folder: Path) -> dict[str, bytes]:
    """What is there when all is done, without what differs by time and what a kill left hidden."""
    files = [f for f in folder.rglob("*") if f.is_file() and f.name != "provenance.json"]
    names = {f: f.relative_to(folder) for f in files}
    return {
        str(name): file.read_bytes()
        for file, name in names.items()
        if not any(part.endswith(".tmp") for part in name.parts)
    }


def cut_off(work: str, root: Path) -> dict[str, int]:
    """Cut a work off everywhere, each time in a folder of its own, and then do it to its end.

    Returns:
        How often it was cut off, by the kind of cut.
    """
    act, check = WORKS[work]
    prepare(work, root / "calm")
    shutil.copytree(root / "calm", root / "start")
    assert in_child(lambda: act(root / "calm")) == 0
    before = visible(root / "start")
    written = [data for name, data in visible(root / "calm").items() if before.get(name) != data]
    largest = max(map(len, written))
    cuts: dict[str, int] = {"change": 0, "byte": 0, "full": 0}

    def try_at(kind: str, before: Callable[[], object], wanted: set[int]) -> bool:
        folder = root / "try"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(root / "start", folder)
        code = in_child(lambda: act(folder), before)
        assert code in wanted | {0}, (work, kind, cuts, code)
        assert in_child(lambda: check(folder)) == 0, (work, kind, cuts)
        assert in_child(lambda: act(folder)) == 0, (work, kind, cuts)
        assert visible(folder) == visible(root / "calm"), (work, kind, cuts)
        cuts[kind] += code != 0
        return code != 0

    while try_at("change", lambda: kill_at(cuts["change"] + 1), {-signal.SIGKILL}):
        pass
    for size in range(0, largest + 1, max(1, largest // 5)):
        try_at("byte", lambda size=size: limit_files(size, kill=True), {-signal.SIGXFSZ})
        try_at("full", lambda size=size: limit_files(size, kill=False), {SAID})
    return cuts


if __name__ == "__main__":
    print(*(f"{kind}={n}" for kind, n in cut_off(sys.argv[1], Path(sys.argv[2])).items()))
