"""Notebooks executed by this very Python, in kernels that end with it."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import os
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
from mechshift_lib.errors import MechshiftError
from mechshift_lib.execution.pages import RESULTS, provenance_cell, retitle, tidy
from mechshift_lib.execution.parameters import check_parameters, read_notebook, relative
from mechshift_lib.markup.numbers import number
from mechshift_lib.processes import interruptible, lifeline
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.results.store import USED

#: Name under which this Python is offered to papermill.
KERNEL = "mechshift-this-python"
#: How often a kernel is started that ends before it could begin, and what Jupyter says then.
STARTS = 3
_NEVER_BEGAN = "Kernel died before replying"


class NotebookError(MechshiftError):
    """A cell failed, or the kernel died. The message names notebook, cell and error."""

    exit_code = 2


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


def _peak_of_children() -> int | None:
    try:
        import resource
    except ImportError:
        return None
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * scale


def _failure(source: Path, error: Exception, kept: Path) -> NotebookError:
    """One sentence out of papermill's report of a failed cell, or of a dead kernel."""
    name, partial = relative(source), f"the partial notebook is {_relative_or_full(kept)}"
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

    name = relative(source)
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
