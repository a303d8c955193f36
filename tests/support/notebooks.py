"""Notebooks as files, and run in this process with their parameters replaced."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython import display as ipython_display
from nbformat import NotebookNode

from mechshift_lib.analyses import Study
from mechshift_lib.config import ROOT
from mechshift_lib.markup.figures import Drawn


def read(name: str) -> NotebookNode:
    """A notebook of the project."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook: NotebookNode) -> NotebookNode:
    """The cell whose values a run replaces."""
    return next(c for c in code(notebook) if "parameters" in c.metadata.get("tags", []))


def run(
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    pair: str = "toy",
    pool: str = "all",
    outputs: Sequence[Any] = (),
) -> NotebookNode:
    """Run all cells of a notebook with the pairs below ``root``.

    Args:
        name: of the notebook.
        monkeypatch: by which pairs are looked for below ``root``.
        root: folder of pairs, models and results.
        pair: name of the pair.
        pool: the examples that circuits are taken over.
        outputs: list that what is shown is appended to meanwhile, for the notebook given back.

    Returns:
        The notebook with what its cells showed as outputs.
    """
    notebook = read(name)
    opened = functools.partial(Study.open, root=root)
    monkeypatch.setattr(Study, "open", opened)
    values = {
        "pair": pair,
        "pairs": pair,
        "budget": "book",
        "results": str(root / "results"),
        "pool": pool,
    }
    space: dict[str, Any] = {"__name__": "notebook"}
    modules = set(sys.modules)
    for cell in code(notebook):
        begun = len(outputs)
        exec(compile(cell.source, f"{name}.ipynb", "exec"), space)
        if cell is parameters(notebook):
            space |= {key: value for key, value in values.items() if key in space}
        kept = [data for output in outputs[begun:] if (data := _data(output))]
        cell.outputs = [nbformat.v4.new_output("display_data", data) for data in kept]
    assert "google.colab" not in set(sys.modules) - modules
    return notebook


def _data(output: Any) -> dict[str, str]:
    """What an executed notebook keeps of what is shown: Markdown; tables and figures as HTML."""
    if isinstance(output, Drawn):
        return output._repr_mimebundle_()[0]
    kinds = {ipython_display.Markdown: "text/markdown", ipython_display.HTML: "text/html"}
    return {kind: output.data for made, kind in kinds.items() if isinstance(output, made)}


def said(outputs: Sequence[Any]) -> str:
    """All Markdown that was shown."""
    return "\n\n".join(o.data for o in outputs if isinstance(o, ipython_display.Markdown))
