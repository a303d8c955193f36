"""What strangers' files, names and archives can't do; and that every promise has its test."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mechshift_lib.book.vendored import unpack
from mechshift_lib.config import ROOT

#: Loads a shipped model, attributes, stores a table and reads it, with no pickle to be had.
WITHOUT_PICKLES = """
import pickle, sys
import pandas as pd, torch, nnsight, transformers  # what they unpickle of their own is theirs
import mechshift_lib as ms
from mechshift_lib.results.store import Store

def refuse(*_, **__):
    raise RuntimeError("a pickle was read")

pickle.load = pickle.loads = torch.load = pd.read_pickle = refuse
pickle.Unpickler = type("Refused", (), {"__init__": refuse})

pair = ms.load_pair("tiny-llama")
model = ms.load_model(pair.model("arm"))
items = ms.ask(model, pair, "ioi", n=2)
circuit = ms.attribute(model, items).circuit
table = pd.DataFrame({"score": [float(circuit.scores.max())]})
store = Store(sys.argv[1])
for _ in range(2):
    print(store.frames("scores", {"asked": 1}, lambda: {"table": table})["table"].score[0])
if "--break" in sys.argv:
    pickle.loads(pickle.dumps(1))
"""
#: Calls that hand a text to a shell.
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}
PROMISES = ROOT / "book" / "promises.md"


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PICKLES, str(folder), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_pickle_is_read_where_pickles_raise(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second


def test_a_pickle_that_is_read_would_be_found(tmp_path: Path) -> None:
    assert "a pickle was read" in run(tmp_path, "--break").stderr


def through_a_shell(source: str) -> list[int]:
    """Lines of calls that go through a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        asked = any(k.arg == "shell" and not _false(k.value) for k in node.keywords)
        if asked or name in SHELLS:
            found.append(node.lineno)
    return found


def _false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.parametrize(
    "line", ["os.system(x)", "subprocess.run(x, shell=True)", "run(x, shell=y)", "popen(x)"]
)
def test_a_shell_would_be_found(line: str) -> None:
    assert through_a_shell(line) == [1]


def test_no_process_is_started_through_a_shell() -> None:
    files = sorted((ROOT / "mechshift_lib").rglob("*.py"))
    assert len(files) > 100
    found = {str(f): lines for f in files if (lines := through_a_shell(f.read_text("utf-8")))}
    assert found == {}
    # Snakemake's rules are lines of a shell: whatever is put into them is quoted.
    lines = re.findall(
        r'^ +"(mechshift execute .+)"$', (ROOT / "workflow/Snakefile").read_text(), re.M
    )
    fields = [field for line in lines for field in re.findall(r"{([^}]+)}", line)]
    assert len(lines) == 2
    assert all(field.endswith(":q") for field in fields)


def test_an_archive_can_not_write_outside_of_its_folder(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.tar", tmp_path / "in" / "folder"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(archive, "w") as made:
        for name in ("good/file", "../out", "good/../../../far", str(tmp_path / "absolute")):
            member = tarfile.TarInfo(name)
            member.size = 1
            made.addfile(member, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        made.addfile(link)
    unpack(archive, folder)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if not p.is_dir()}
    assert written == {"a.tar", "secret", "in/folder/good/file"}


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_promise_has_its_test() -> None:
    rows = [line for line in PROMISES.read_text("utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows[1:] if "**" not in row]
    named = [re.findall(r"`(tests/\S+\.py)::(test_\w+)`", row) for row in promises]
    assert len(promises) > 30
    assert [row for row, tests in zip(promises, named, strict=True) if not tests] == []
    missing = [
        f"{file}::{test}"
        for tests in named
        for file, test in tests
        if not (ROOT / file).is_file() or test not in functions_of(ROOT / file)
    ]
    assert missing == []
