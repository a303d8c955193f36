"""What a page is made of: code that its notebook reaches, by meaning, and files, by content."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError
from mechshift_lib.made_of import NEVER, heed_clock, made_of, modules, seal, sealed, stamp


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small library: a imports b within a function, b imports c; nobody imports d."""
    library = tmp_path / "mechshift_lib"
    (library / "room").mkdir(parents=True)
    sources = {
        "__init__": "",
        "execution": "import os\n",
        "colab": "X = 1\n",
        "a": "def f():\n    from mechshift_lib.room import b\n    return b\n",
        "room/__init__": "",
        "room/b": "from mechshift_lib.room.c import X\n",
        "room/c": '"""What it is."""\nX = 1\n',
        "room/d": "X = 1\n",
    }
    for name, text in sources.items():
        (library / f"{name}.py").write_text(text)
    write(tmp_path, "from mechshift_lib.a import f\nfrom mechshift_lib.colab import X")
    (tmp_path / "weights").write_bytes(b"1")
    return tmp_path


def write(root: Path, source: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# Page"), nbformat.v4.new_code_cell(source)]
    path = root / "page.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def names(root: Path) -> set[str]:
    return {name.removeprefix("mechshift_lib.") for name in modules(root / "page.ipynb", root)}


def test_a_notebook_reaches_what_its_imports_import(root: Path) -> None:
    assert names(root) == {"execution", "a", "room", "room.b", "room.c"}


def test_the_front_door_leads_to_all_that_it_offers(root: Path) -> None:
    door = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mechshift_lib.room.d\n"
    (root / "mechshift_lib" / "__init__.py").write_text(door)
    write(root, "import mechshift_lib as ms")
    assert "room.d" in names(root)


def test_magics_of_a_notebook_are_no_code(root: Path) -> None:
    write(root, "%matplotlib inline\n!ls\nimport mechshift_lib.room.d")
    assert names(root) == {"execution", "room", "room.d"}


@pytest.mark.parametrize(
    ("file", "text", "same"),
    [
        ("mechshift_lib/room/c.py", "X = 2\n", False),
        ("mechshift_lib/room/c.py", '"""Other words."""\n\nX = 1  # a comment\n', True),
        ("mechshift_lib/room/d.py", "X = 2\n", True),
        ("mechshift_lib/colab.py", "X = 2\n", True),
        ("weights", "2", False),
        ("weights", "1", True),
    ],
)
def test_only_what_means_something_to_the_page_counts(
    root: Path, file: str, text: str, same: bool
) -> None:
    def found() -> str:
        return made_of(root / "page.ipynb", [root / "weights"], root)

    before = found()
    (root / file).write_text(text)
    os.utime(root / file, ns=(1, 1))
    assert (found() == before) is same


@pytest.mark.parametrize(
    ("source", "other", "same"),
    [
        ("def f(x):\n    return x in {'a', 'b', 'c'}\n", None, True),
        ("def f(x):\n    return x + 1\n", "def f(x):\n    return x + 2\n", False),
        ("def f(x):\n    return x\n", "def f(x):\n\n    # a comment\n    return (x)\n", True),
        ("def f(x):\n    return x\n", "def f(x):\n    'Says x.'\n    return x\n", True),
        ("def f(x, y=1):\n    return x\n", "def f(x, *, y=1):\n    return x\n", False),
        ("X = 'a'\n", "X = 'b'\n", False),
        ("try:\n    f()\nexcept A:\n    pass\n", "try:\n    f()\nexcept B:\n    pass\n", False),
    ],
)
def test_the_meaning_of_code_is_what_it_does(
    root: Path, source: str, other: str | None, same: bool
) -> None:
    path, found = root / "mechshift_lib" / "room" / "c.py", []
    for number, text in enumerate((source, other or source)):
        path.write_text(text)
        os.utime(path, ns=(number, number))
        found.append(modules(root / "page.ipynb", root)["mechshift_lib.room.c"])
    assert (found[0] == found[1]) is same


def test_sets_of_constants_have_one_meaning_in_every_process(root: Path) -> None:
    text = "def f(x):\n    return x in {'a', 'b', 'c', 'd'}\n"
    (root / "mechshift_lib" / "room" / "c.py").write_text(text)
    code = (
        "import sys; from pathlib import Path; from mechshift_lib.made_of import modules; "
        "root = Path(sys.argv[1]); print(modules(root / 'page.ipynb', root))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, str(root)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_the_notebook_itself_and_a_missing_file_count(root: Path) -> None:
    page, weights = root / "page.ipynb", root / "weights"
    before = made_of(page, [weights], root)
    weights.unlink()
    without = made_of(page, [weights], root)
    write(root, "from mechshift_lib.a import f\nf()")
    assert len({before, without, made_of(page, [weights], root)}) == 3


def test_a_stamp_is_left_alone_where_it_says_the_same(tmp_path: Path) -> None:
    path = stamp(tmp_path / "folder" / ".page.made_of", "abc")
    os.utime(path, ns=(1, 1))
    assert stamp(path, "abc").stat().st_mtime_ns == 1
    assert stamp(path, "abd").stat().st_mtime_ns > 1


def test_a_seal_is_broken_by_any_edit(tmp_path: Path) -> None:
    page, mark = tmp_path / "page.ipynb", tmp_path / ".page.done"
    page.write_text("{}")
    assert not sealed(page, mark)
    seal(page, mark)
    assert sealed(page, mark)
    page.write_text("{ }")
    assert not sealed(page, mark)
    page.unlink()
    assert not sealed(page, mark)


def test_what_is_no_notebook_is_said(root: Path) -> None:
    (root / "page.ipynb").write_text("{}")
    with pytest.raises(ConfigError, match="not a Jupyter notebook"):
        modules(root / "page.ipynb", root)
    write(root, "def:")
    with pytest.raises(ConfigError, match="not Python"):
        modules(root / "page.ipynb", root)


@pytest.mark.parametrize("name", ["lens", "speed"])
def test_nothing_is_imported_that_was_not_foreseen(name: str) -> None:
    """What Python has loaded after a notebook's imports is among the modules that are hashed."""
    cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    source = next(c.source for c in cells if "from mechshift_lib.analyses" in c.source)
    lines = source.split("\n\n")[0]
    code = (
        f"{lines}\nimport sys\nprint(*[m for m in sys.modules if m.startswith('mechshift_lib.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split()) - NEVER
    assert len(loaded) > 5
    assert loaded <= set(modules(ROOT / "notebooks" / f"{name}.ipynb", ROOT))


def test_times_that_lie_ahead_become_past_in_their_order(tmp_path: Path) -> None:
    """A clock that was set back: what is written now has to be newer than what was written then."""
    day, now = 86_400 * 10**9, time.time_ns()
    times = {"stamp": now + day, "mark": now + day + 10**9, "old": now - day}
    for name, at in times.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(at, at))
    files = [tmp_path / name for name in (*times, "absent")]
    heed_clock(files)
    found = [(tmp_path / name).stat().st_mtime_ns for name in times]
    stamp(tmp_path / "new", "text")
    assert found[1] < (tmp_path / "new").stat().st_mtime_ns
    assert [at - found[0] for at in found] == [at - times["stamp"] for at in times.values()]
    heed_clock(files)  # nothing lies ahead any more
    assert [(tmp_path / name).stat().st_mtime_ns for name in times] == found
