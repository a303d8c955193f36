"""Notebooks executed with parameters: strictly, by this very Python, whole or not at all.

papermill only warns where a notebook has no ``parameters`` cell (and then the notebook's own
defaults win) or where a parameter is unknown. Both would put a wrong page into the book, so both
are errors here.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat

from mechshift_lib import kernels
from mechshift_lib.config import ROOT
from mechshift_lib.documents.files import real_path
from mechshift_lib.errors import ConfigError, MechshiftError, listed, shown
from mechshift_lib.markup.numbers import PROVENANCE, number
from mechshift_lib.processes import interruptible, lifeline
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.provenance import provenance
from mechshift_lib.results.store import USED, read_provenance

#: Name under which this Python is offered to papermill.
KERNEL = "mechshift-this-python"
#: Under which an executed page notes the stored results that it used, in its last cell's metadata.
RESULTS = "results"
#: How often a kernel is started that ends before it could begin, and what Jupyter says then.
STARTS = 3
_NEVER_BEGAN = "Kernel died before replying"


class NotebookError(MechshiftError):
    """A cell failed, or the kernel died. The message names notebook, cell and error."""

    exit_code = 2


def read_notebook(source: Path) -> nbformat.NotebookNode:
    """A notebook, not yet executed.

    Raises:
        ConfigError: it is missing or isn't a notebook.
    """
    name = _relative(source)
    if not source.is_file():
        raise ConfigError(f"There is no notebook {name}: look into the folder notebooks/.")
    try:
        return nbformat.read(source, as_version=4)
    except Exception as error:  # nbformat fails in as many ways as there are files
        raise ConfigError(f"{name} is not a Jupyter notebook: save it as .ipynb again.") from error


#: What the default of a parameter asks of its value: the kinds, and what they are called.
KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    bool: ((bool,), "true or false"),
    int: ((int, float), "a number"),
    float: ((int, float), "a number"),
}


def parameter_defaults(notebook: nbformat.NotebookNode, name: str) -> dict[str, Any]:
    """The parameters and their defaults; ``None`` stands for one that isn't a plain constant.

    Args:
        notebook: the notebook, not yet executed.
        name: what to call it in an error.

    Raises:
        ConfigError: there is no such cell, more than one, or it isn't plain assignments.
    """
    tagged = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise ConfigError(
            f"{name} has {len(tagged)} code cells tagged 'parameters': give exactly one cell that "
            "tag, and let it hold the defaults."
        )
    defaults: dict[str, Any] = {}
    try:
        body = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        raise ConfigError(f"{name}: the 'parameters' cell is not Python: {error.msg}.") from error
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets: list[ast.expr] = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            targets = []
        if not targets or not all(isinstance(target, ast.Name) for target in targets):
            raise ConfigError(
                f"{name}: the 'parameters' cell may hold only assignments such as `pair = ...`."
            )
        value = getattr(statement, "value", None)
        default = value.value if isinstance(value, ast.Constant) else None
        defaults |= {target.id: default for target in targets if isinstance(target, ast.Name)}
    return defaults


def known_parameters(notebook: nbformat.NotebookNode, name: str) -> list[str]:
    """Names assigned in the notebook's one cell tagged ``parameters``."""
    return list(parameter_defaults(notebook, name))


def text_parameters(notebook: nbformat.NotebookNode, name: str) -> set[str]:
    """Names of the parameters whose default is text: what is given for them stays text."""
    defaults = parameter_defaults(notebook, name)
    return {key for key, default in defaults.items() if isinstance(default, str)}


def check_parameters(
    notebook: nbformat.NotebookNode, parameters: Mapping[str, Any], name: str
) -> None:
    """Refuse parameters that the notebook doesn't have, or that aren't of their default's kind.

    Raises:
        ConfigError: the ``parameters`` cell is missing or doesn't assign one of ``parameters``, or
            text is given for a number and the like.
    """
    known = parameter_defaults(notebook, name)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ConfigError(
            f"{name} has no parameter {listed(map(shown, unknown))}: its parameters are "
            f"{listed(known)}."
        )
    for key, value in parameters.items():
        kinds, called = KINDS.get(type(known[key]), ((object,), ""))
        true_for_one = isinstance(value, bool) and called == "a number"  # bool is an int in Python
        if true_for_one or not isinstance(value, kinds):
            raise ConfigError(f"{name}: {key} takes {called}, not {shown(value)}.")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def this_kernel() -> Iterator[str]:
    """Offer the running Python as a kernel, whatever kernels the machine has registered.

    Kernels that are started inside the block end with this process, even if it is killed.

    Yields:
        The kernel's name, valid inside the ``with`` block.
    """
    with tempfile.TemporaryDirectory(prefix="mechshift-kernel-") as folder, lifeline() as tie:
        spec = Path(folder) / "kernels" / KERNEL
        spec.mkdir(parents=True)
        quiet = "--IPKernelApp.log_level=ERROR"  # not a warning about TCP for every notebook
        argv = kernels.command("-f", "{connection_file}", quiet)
        description = {"argv": argv, "display_name": "mechshift", "language": "python"}
        (spec / "kernel.json").write_text(json.dumps(description), encoding="utf-8")
        path = os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        with _environment(JUPYTER_PATH=path, PYDEVD_DISABLE_FILE_VALIDATION="1", **tie):
            yield KERNEL


def retitle(notebook: nbformat.NotebookNode, suffix: str) -> None:
    """Add the pair to the first heading: pages of different pairs need different titles."""
    heading = re.compile(r"^(# .*?)[ \t]*$", re.M)
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and heading.search(cell.source):
            cell.source = heading.sub(lambda match: f"{match[1]}: {suffix}", cell.source, count=1)
            return


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from run to run or names this machine."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    injected: list[nbformat.NotebookNode] = []
    defaults: list[nbformat.NotebookNode] = []
    for cell in notebook.cells:
        for field in ("papermill", "execution"):
            cell.metadata.pop(field, None)
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
        injected += [cell] if "injected-parameters" in tags else []
        defaults += [cell] if "parameters" in tags else []
        if cell.cell_type == "code" and '"google.colab" in sys.modules' in cell.source:
            _tag(cell, "remove-cell")  # a page doesn't need Colab's set-up
    # A page shows the values that were used: those given stand for the defaults, but on a page
    # that is there to be tinkered with, where the defaults stay and what repeats them goes.
    if any("show-parameters" in cell.metadata.tags for cell in defaults):
        known = {line for cell in defaults for line in _assignments(cell)}
        for cell in injected:
            if set(_assignments(cell)) <= known:
                _tag(cell, "remove-cell")
        return
    for cell in injected:
        _tag(cell, "hide-input")
    for cell in defaults if injected else []:
        _tag(cell, "remove-cell")


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What was printed in one go; a kernel sends it in parts, cut anywhere."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else output
        if last is not output and output.get("name", 0) == last.get("name"):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _tag(cell: nbformat.NotebookNode, tag: str) -> None:
    tags = cell.metadata.get("tags", [])
    cell.metadata["tags"] = tags if tag in tags else [*tags, tag]


def _assignments(cell: nbformat.NotebookNode) -> list[str]:
    """Statements of a cell, without comments and layout."""
    return [ast.unparse(statement) for statement in ast.parse(cell.source).body]


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _gigabytes(count: float | None) -> str:
    return "unknown" if not count else f"{count / 2**30:.2f} GiB"


def provenance_cell(
    source: Path, parameters: Mapping[str, Any], used: list[Path], seconds: float, peak: int | None
) -> str:
    """The collapsed note at the foot of a page: code, versions, machine, results used.

    Args:
        source: the notebook.
        parameters: those it ran with.
        used: folders of the stored results that it used.
        seconds: how long it ran.
        peak: largest resident memory of the kernel, in bytes.

    Returns:
        MyST markdown.
    """
    record = provenance(root=ROOT)
    commit = record["commit"] or "not a git checkout"
    dirty = " (with uncommitted changes)" if record["dirty"] else ""
    machine = record["hardware"]
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    rows = [
        ("Notebook", f"`{_relative(source)}`, sha256 `{digest[:16]}`"),
        ("Parameters", ", ".join(f"`{k} = {v!r}`" for k, v in parameters.items()) or "none"),
        ("Commit", f"`{commit}`{dirty}"),
        ("Executed", f"{record['created']}, in {_minutes(seconds)}"),
        ("Peak memory", _gigabytes(peak)),
        (
            "Machine",
            f"{machine['processor']}, {machine['cores']} cores, "
            f"{_gigabytes(machine['memory_bytes'])}, GPU: {machine['gpu'] or 'none'}",
        ),
        ("Versions", ", ".join(f"{name} {v}" for name, v in record["versions"].items())),
    ]
    lines = ["```{raw} html", f'<span id="{PROVENANCE}"></span>', "```", ""]
    lines += ["````{admonition} Where this page's numbers come from", ":class: dropdown note", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    if used:
        lines += ["", "Stored results used by this page, each with its own provenance:", ""]
        lines += [
            "| result | computed | at commit | took | seed | models |",
            "|---|---|---|---|---|---|",
        ]
    for folder in dict.fromkeys(used):
        result = read_provenance(folder)
        models = result["models"] or {}
        cells = (
            f"`{folder.parent.name}/{folder.name}`",
            str(result["created"]) + (" (shipped)" if "shipped" in result else ""),
            f"`{str(result['commit'])[:10]}`" + (" (modified)" if result["dirty"] else ""),
            _minutes(float(result["wall_seconds"] or 0)),
            str(result["seed"]),
            ", ".join(f"{role} `{str(value)[:10]}`" for role, value in models.items()) or "none",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "````"])


def results_of(page: Path) -> list[str]:
    """Stored results that an executed page used, ``KIND/ADDRESS`` each; none if it isn't one."""
    cells = read_notebook(page).cells
    return list(cells[-1].metadata.get(RESULTS, [])) if cells else []


def _relative(path: Path) -> str:
    path = real_path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def _peak_of_children() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale


def _failure(source: Path, error: Exception, kept: Path) -> NotebookError:
    """One sentence out of papermill's report of a failed cell, or of a dead kernel."""
    name, partial = _relative(source), f"the partial notebook is {_relative_or_full(kept)}"
    if hasattr(error, "ename"):
        number = getattr(error, "exec_count", None) or getattr(error, "cell_index", "?")
        first = str(getattr(error, "evalue", "")).strip().splitlines()
        message = (first[0] if first else "no message").rstrip(".")
        return NotebookError(f"{name}, cell [{number}]: {error.ename}: {message} ({partial}).")
    return NotebookError(
        f"{name}: the kernel ended early, perhaps for want of memory "
        f"({type(error).__name__}; {partial})."
    )


def _in_kernel(execute: Callable[[], object], name: str) -> None:
    """Execute a notebook; where its kernel ended before it could begin, in another one.

    A kernel is told ports that were free, and by then another process may have taken one.

    Raises:
        NotebookError: no kernel began.
    """
    for left in reversed(range(STARTS)):
        try:
            execute()
            return
        except RuntimeError as error:
            if _NEVER_BEGAN not in str(error):
                raise
            if not left:
                raise NotebookError(
                    f"{name}: no kernel would begin in {STARTS} tries; why stands above."
                ) from error


def _relative_or_full(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def run_notebook(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    *,
    title: str | None = None,
    failed: Path = ROOT / "results" / "failed",
    progress: bool | None = None,
) -> Path:
    """Execute a notebook with parameters and put the executed copy in its place.

    Args:
        source: the notebook, with a cell tagged ``parameters``.
        output: where the executed copy goes; an older one stays until the new one is whole.
        parameters: values for the parameters; each must exist in the notebook.
        title: added to the first heading, usually the pair's title.
        failed: folder that keeps the partial notebook when a cell fails.
        progress: a progress bar over the cells; by default where standard error is a terminal.

    Returns:
        ``output``.

    Raises:
        ConfigError: the notebook is missing or isn't one, or doesn't have these parameters.
        NotebookError: a cell failed or the kernel died.
        StoppedError: a signal asked this process to end; the kernel is ended first.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    name = _relative(source)
    notebook = read_notebook(source)
    check_parameters(notebook, parameters, name)
    if title:
        retitle(notebook, title)

    label = "-".join([*(str(v) for k, v in parameters.items() if k == "pair"), source.stem])
    kept = failed / f"{label}.ipynb"
    progress = sys.stderr.isatty() if progress is None else progress
    logging.getLogger("papermill").setLevel(logging.WARNING)
    began = time.perf_counter()
    with (
        interruptible(),
        tempfile.TemporaryDirectory(prefix="mechshift-run-") as scratch,
        this_kernel() as kernel,
    ):
        # Not in `failed`: two runs of one notebook at once would write and remove the same file.
        noted, partial = Path(scratch) / "used", Path(scratch) / "partial.ipynb"
        peak = Path(scratch) / "peak"
        try:
            with _environment(**{USED: str(noted), kernels.PEAK: str(peak)}):
                _in_kernel(
                    lambda: papermill.execute_notebook(
                        copy.deepcopy(notebook),
                        str(partial),
                        parameters=dict(parameters),
                        kernel_name=kernel,
                        language="python",
                        cwd=str(ROOT),
                        progress_bar={"desc": label} if progress else False,
                        # Its cells have run or aren't wanted any more: it has nothing to add.
                        shutdown_kernel="immediate",
                    ),
                    name,
                )
        except (PapermillExecutionError, DeadKernelError) as error:
            failed.mkdir(parents=True, exist_ok=True)
            if partial.is_file():
                shutil.move(partial, kept)
            raise _failure(source, error, kept) from error
        seconds = time.perf_counter() - began
        used = [Path(line) for line in noted.read_text().splitlines()] if noted.exists() else []
        executed = nbformat.read(partial, as_version=4)
        largest = kernels.peak(peak) or _peak_of_children()
    kept.unlink(missing_ok=True)  # of an earlier failure
    tidy(executed)
    pair = str(parameters.get("pair", ""))
    number(executed.cells, label, f"../../executed/{pair}/{source.stem}.html" if pair else "")
    names = [f"{one.parent.name}/{one.name}" for one in dict.fromkeys(used)]
    note = provenance_cell(source, parameters, used, seconds, largest)
    cell = nbformat.v4.new_markdown_cell(note, metadata={"tags": ["provenance"], RESULTS: names})
    cell["id"] = "provenance"
    executed.cells.append(cell)
    write_atomic(output, nbformat.writes(executed) + "\n")
    return output
