"""Executed notebooks as pages: their title, what a page needn't show, and their provenance."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from mechshift_lib.config import ROOT
from mechshift_lib.execution.parameters import read_notebook, relative
from mechshift_lib.markup.numbers import PROVENANCE
from mechshift_lib.results.provenance import provenance
from mechshift_lib.results.store import read_provenance

#: Under which an executed page notes the stored results that it used, in its last cell's metadata.
RESULTS = "results"


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
        ("Notebook", f"`{relative(source)}`, sha256 `{digest[:16]}`"),
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
