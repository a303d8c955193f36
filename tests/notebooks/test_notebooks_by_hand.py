"""EAP-IG by hand: runs as it is in a kernel, shows all its code, and ends in equality."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from mechshift_lib.config import ROOT
from mechshift_lib.execution import run_notebook
from mechshift_lib.execution.pages import tidy

SOURCE = ROOT / "notebooks/eap_ig_by_hand.ipynb"


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")


NAMES = {
    "clean_text": "After Thomas and Michael went to the station, Michael gave a letter to",
    "corrupted_text": "After Thomas and Michael went to the station, Robert gave a letter to",
    "answer": " Thomas",
    "distractor": " Michael",
}


@pytest.mark.parametrize(("role", "text"), [("arm", {}), ("mdm", NAMES)])
def test_the_formula_and_the_library_agree(role: str, text: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "by_hand.ipynb"
    run_notebook(SOURCE, out, {"role": role, "m": 3, "results": "results", **text})
    page = nbformat.read(out, as_version=4)
    said = printed(page)
    logit, score = (float(x) for x in re.findall(r"largest difference[^:]*: (\S+)", said))
    assert logit < 1e-4
    assert score < 1e-3
    assert "1,108 edges" in said
    # The strongest edges' estimates have the sign that exact patching finds.
    pairs = re.findall(r"(\S+)  exact (\S+)", said)
    assert len(pairs) == 8
    assert sum(float(a) * float(b) > 0 for a, b in pairs) >= 6
    correlations = [float(r) for r in re.findall(r"correlation (\S+)", said)]
    assert len(correlations) == 4
    assert max(correlations) > 0.5
    assert shown_code(page) == [cell.source for cell in code_of(page)[1:]]


def test_values_that_are_the_defaults_are_shown_once() -> None:
    cells = [
        new_code_cell("m = 5  # points", metadata={"tags": ["parameters", "show-parameters"]}),
        new_code_cell("# Parameters\nm = 5", metadata={"tags": ["injected-parameters"]}),
        new_code_cell("# Parameters\nm = 6", metadata={"tags": ["injected-parameters"]}),
    ]
    for chosen, shown in ((cells[:2], cells[:1]), (cells[::2], cells[::2])):
        page = new_notebook(cells=copy.deepcopy(chosen))
        tidy(page)
        assert shown_code(page) == [cell.source for cell in shown]


def test_what_is_printed_in_parts_is_one_output() -> None:
    parts = [("stdout", "one "), ("stdout", "two"), ("stderr", "three"), ("stdout", "four")]
    outputs = [new_output("stream", name=name, text=text) for name, text in parts]
    outputs.insert(2, new_output("display_data", {"text/plain": "shown"}))
    page = new_notebook(cells=[new_code_cell("x", outputs=outputs)])
    tidy(page)
    found = [output.get("text", "shown") for output in page.cells[0].outputs]
    assert found == ["one two", "shown", "three", "four"]


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown_code(page: nbformat.NotebookNode) -> list[str]:
    """Code that the page shows without a click."""
    hiding = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
    return [c.source for c in code_of(page) if not hiding & set(c.metadata.get("tags", []))]


def test_no_code_is_hidden_but_the_installation() -> None:
    notebook = nbformat.read(SOURCE, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    hidden = [cell for cell in cells if "hide-input" in cell.metadata.get("tags", [])]
    assert [cell.id for cell in hidden] == [cells[0].id]
    assert any("(difference * gradient).sum()" in cell.source for cell in cells)
