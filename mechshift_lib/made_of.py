"""What a page is made of: one hash over the code that its notebook reaches, models and data.

Snakemake goes by the times of files. A chapter has hundreds of them behind it, most of which it
shares with all others; asking each for its time, once a second while notebooks run, costs more
than it should, and an edit anywhere in a room would make every chapter anew. So a chapter depends
on one small file, its *stamp*, which is written anew only where the hash differs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import CodeType

from mechshift_lib.cluster import without_cluster
from mechshift_lib.errors import ConfigError
from mechshift_lib.results.atomic import write_atomic

PACKAGE = "mechshift_lib"
#: Code that makes every page, whatever its notebook imports.
ALWAYS = ("mechshift_lib.execution",)
#: What can have a docstring.
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: Nanoseconds that tell two times apart on every file system.
MOMENT = 2 * 10**9
#: Code that does nothing where a page is made.
NEVER = {"mechshift_lib.colab"}


def _file_of(module: str, root: Path) -> Path | None:
    """The file of a module of the library, None for other packages and for names in modules."""
    path = root.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py" if (path / "__init__.py").is_file() else None
    file = path.with_suffix(".py")
    return file if file.is_file() else None


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements, those within others too; no expressions, of which there are far more."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(statement, part, ()))
        for branch in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _statements(branch.body)


def _imports(tree: ast.Module, root: Path) -> set[str]:
    """Modules of the library that a source imports anywhere, within functions too."""
    found = set()
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != PACKAGE or ".".join(parts[:2]) in NEVER:
                continue
            # Importing a module runs the packages around it, but for the front door, which loads
            # nothing by itself.
            found |= {".".join(parts[:end]) for end in range(2, len(parts) + 1)}
            found |= {PACKAGE} if len(parts) == 1 else set()
    return {name for name in found if _file_of(name, root) is not None}


def _said(code: CodeType) -> Iterator[str]:
    """What a compiled source does, without the lines at which it stands."""
    yield f"{code.co_name} {code.co_flags} {code.co_argcount} {code.co_posonlyargcount}"
    yield f"{code.co_kwonlyargcount} {code.co_names} {code.co_varnames} {code.co_freevars}"
    yield code.co_code.hex()
    yield code.co_exceptiontable.hex()
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _said(value)
        else:  # a set of constants has another order in every process
            yield repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


@lru_cache(maxsize=2048)
def _read(file: Path, root: Path, _time: int, _size: int) -> tuple[str, frozenset[str]]:
    """Hash of a module's meaning (comments, docstrings and layout don't count), and its imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = frozenset(_imports(tree, root))
    for node in [tree, *_statements(tree.body)]:
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass(lineno=1, col_offset=0)]
    code = compile(tree, PACKAGE, "exec", dont_inherit=True)
    return hashlib.sha256("\n".join(_said(code)).encode()).hexdigest(), found


def _module(name: str, root: Path) -> tuple[str, frozenset[str]]:
    file = _file_of(name, root)
    assert file is not None
    state = file.stat()
    return _read(file, root, state.st_mtime_ns, state.st_size)


def modules(notebook: Path, root: Path) -> dict[str, str]:
    """Every module of the library that a notebook reaches -> hash of its meaning.

    Args:
        notebook: the notebook; magics and shell lines of its cells are left out.
        root: the checkout whose library is looked at.

    Raises:
        ConfigError: the notebook isn't one, or a cell isn't Python.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{notebook} is not a Jupyter notebook: save it as .ipynb again.") from (
            error
        )
    waiting = set(ALWAYS)
    for source in sources:
        lines = [line for line in source.splitlines() if line.lstrip()[:1] not in {"%", "!"}]
        try:
            waiting |= _imports(ast.parse("\n".join(lines)), root)
        except SyntaxError as error:
            raise ConfigError(f"{notebook}: a cell is not Python: {error.msg}.") from error
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        found[name], more = _module(name, root)
        waiting |= more - set(found)
    return dict(sorted(found.items()))


@lru_cache(maxsize=8192)
def _content(path: Path, _time: int, _size: int) -> bytes:
    with path.open("rb") as handle:
        if path.parent.name == "pairs" and path.suffix == ".yaml":
            return hashlib.sha256(without_cluster(handle.read())).digest()
        return hashlib.file_digest(handle, "sha256").digest()


def made_of(notebook: Path, files: Iterable[Path], root: Path) -> str:
    """sha256 over a notebook, the code that it reaches, and the content of files.

    Args:
        notebook: the notebook; one that is missing counts as such, and is said when it is executed.
        files: what else the page is made of; a file that is missing counts as such.
        root: the checkout.
    """
    digest = hashlib.sha256()
    reached = modules(notebook, root) if notebook.is_file() else {}
    for name, meaning in reached.items():
        digest.update(f"{name}\0{meaning}\n".encode())
    for path in [notebook, *sorted(files)]:
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        digest.update(shown.as_posix().encode() + b"\0")
        if path.is_file():
            state = path.stat()
            digest.update(_content(path, state.st_mtime_ns, state.st_size))
    return digest.hexdigest()


def stamp(path: Path, text: str) -> Path:
    """Write a stamp where its text differs, so that its time is that of the last change."""
    line = f"{text}\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != line:
        write_atomic(path, line)
    return path


def heed_clock(files: Iterable[Path]) -> None:
    """Move times that lie ahead into the past, all by as much: the clock was set back since.

    What is edited from now on would else count as older than what was made of it, and a page that
    isn't fresh would pass for fresh.

    Args:
        files: marks and stamps; those that there aren't don't count.
    """
    times = {path: path.stat() for path in files if path.is_file()}
    ahead = max((state.st_mtime_ns for state in times.values()), default=0) - time.time_ns()
    if ahead <= 0:
        return
    for path, state in times.items():
        earlier = ahead + MOMENT
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns - earlier))


def seal(page: Path, mark: Path) -> None:
    """Write the mark of a page that is whole: its sha256, by which a later edit is noticed."""
    write_atomic(mark, f"{hashlib.sha256(page.read_bytes()).hexdigest()}\n")


def sealed(page: Path, mark: Path) -> bool:
    """Whether a page is there, and is what its mark says."""
    if not (page.is_file() and mark.is_file()):
        return False
    digest = hashlib.sha256(page.read_bytes()).hexdigest()
    return mark.read_text(encoding="utf-8").split()[:1] == [digest]
