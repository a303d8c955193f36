"""EAP-IG by hand: runs as it is in a kernel, shows all its code, and ends in equality."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from mechshift_lib.config import ROOT
from mechshift_lib.execution import run_notebook

SOURCE = ROOT / "notebooks/eap_ig_by_hand.ipynb"


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.parametrize(("role", "task"), [("arm", "ioi"), ("mdm", "countdown")])
def test_the_formula_and_the_library_agree(role: str, task: str, tmp_path: Path) -> None:
    out = tmp_path / "by_hand.ipynb"
    run_notebook(SOURCE, out, {"role": role, "task": task, "m": 3})
    text = printed(nbformat.read(out, as_version=4))
    logit, score = (float(x) for x in re.findall(r"largest difference[^:]*: (\S+)", text))
    assert logit < 1e-4
    assert score < 1e-3
    assert "1,108 edges" in text
    # The strongest edges' estimates have the sign that exact patching finds.
    pairs = re.findall(r"estimate (\S+)\s+exact (\S+)", text)
    assert len(pairs) == 8
    same = [float(a) * float(b) > 0 for a, b in pairs]
    assert sum(same) >= 6


def test_no_code_is_hidden_but_the_installation() -> None:
    notebook = nbformat.read(SOURCE, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    hidden = [cell for cell in cells if "hide-input" in cell.metadata.get("tags", [])]
    assert [cell.id for cell in hidden] == [cells[0].id]
    assert any("(difference * gradient).sum()" in cell.source for cell in cells)
