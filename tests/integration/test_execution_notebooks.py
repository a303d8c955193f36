"""A notebook runs with exactly the parameters it has, in this Python, and leaves whole pages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest

from mechshift_lib import kernels
from mechshift_lib.errors import ConfigError
from mechshift_lib.execution import NotebookError, run_notebook, running


def notebook(path: Path, *cells: str, tag: str | None = "parameters") -> Path:
    book = nbformat.v4.new_notebook()
    book.cells.append(nbformat.v4.new_markdown_cell("# Behaviour\n\nText."))
    parameters = nbformat.v4.new_code_cell('pair = "default"\nbudget: str = "book"')
    parameters.metadata["tags"] = [tag] if tag else []
    book.cells += [parameters, *map(nbformat.v4.new_code_cell, cells)]
    nbformat.write(book, path)
    return path


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nbformat.NotebookNode]:
    folder = tmp_path_factory.mktemp("executed")
    results = folder / "results"
    source = notebook(
        folder / "behaviour.ipynb",
        "import sys\nfrom pathlib import Path\n"
        "import pandas as pd\nfrom mechshift_lib.results import Store",
        f"store = Store(Path({str(results)!r}))\n"
        "key = {'seed': 11, 'models': {'arm': 'abcdef'}}\n"
        "table = store.frames('behaviour', key, lambda: {'t': pd.DataFrame({'x': [1]})})",
        "print(pair, budget, sys.executable, Path.cwd())",
    )
    output = folder / "out" / "behaviour.ipynb"
    run_notebook(source, output, {"pair": "mine"}, title="My pair", failed=folder / "failed")
    return folder, nbformat.read(output, as_version=4)


def test_parameters_reach_the_notebook_in_this_python(executed: tuple) -> None:
    _, book = executed
    printed = book.cells[-2].outputs[0].text.split()
    assert printed[:3] == ["mine", "book", sys.executable]
    assert printed[3] == str(running.ROOT)


def test_the_page_is_titled_after_the_pair(executed: tuple) -> None:
    assert executed[1].cells[0].source == "# Behaviour: My pair\n\nText."


def test_the_page_ends_with_its_provenance(executed: tuple) -> None:
    text = executed[1].cells[-1].source
    assert text.startswith('```{raw} html\n<span id="provenance"></span>')
    assert "\n````{admonition} Where this page's numbers come from\n:class: dropdown" in text
    for word in (
        "`pair = 'mine'`",
        "behaviour.ipynb",
        "Peak memory",
        "`behaviour/",
        "11",
        "abcdef",
    ):
        assert word in text


def test_the_page_says_nothing_of_this_machines_folders(executed: tuple) -> None:
    folder, book = executed
    book = nbformat.from_dict(json.loads(json.dumps(book)))
    del book.cells[3:5]  # these name or print a folder on purpose
    assert str(folder) not in nbformat.writes(book)
    assert book.metadata.kernelspec.name == "python3"


def test_the_page_shows_the_values_used_and_not_the_defaults(executed: tuple) -> None:
    tags = {cell.source.split("\n")[0]: cell.metadata.get("tags", []) for cell in executed[1].cells}
    assert "remove-cell" in tags['pair = "default"']
    assert "remove-cell" not in tags["# Parameters"]


def test_nothing_half_made_is_left(executed: tuple) -> None:
    folder, _ = executed
    assert not (folder / "failed").exists()
    assert [path.name for path in (folder / "out").iterdir()] == ["behaviour.ipynb"]


@pytest.mark.parametrize("tag", [None, "parameter"])
def test_a_notebook_without_parameters_cell_is_refused(tmp_path: Path, tag: str | None) -> None:
    source = notebook(tmp_path / "n.ipynb", tag=tag)
    with pytest.raises(ConfigError, match="tagged 'parameters'"):
        run_notebook(source, tmp_path / "o.ipynb", {}, failed=tmp_path)


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    source = notebook(tmp_path / "n.ipynb")
    with pytest.raises(ConfigError, match=r"no parameter 'pear'.*pair, budget"):
        run_notebook(source, tmp_path / "o.ipynb", {"pear": "x"}, failed=tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"cells": 3}'])
def test_what_is_no_notebook_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(ConfigError, match="not a Jupyter notebook"):
        run_notebook(tmp_path / "n.ipynb", tmp_path / "o.ipynb", {}, failed=tmp_path)
    with pytest.raises(ConfigError, match="no notebook"):
        run_notebook(tmp_path / "absent.ipynb", tmp_path / "o.ipynb", {}, failed=tmp_path)


def test_a_failing_cell_is_one_sentence_and_keeps_the_older_page(tmp_path: Path) -> None:
    source = notebook(tmp_path / "n.ipynb", "print('before')", "raise ValueError('two\\nlines')")
    output = tmp_path / "o.ipynb"
    output.write_text("older page")
    with pytest.raises(NotebookError) as error:
        run_notebook(source, output, {"pair": "p"}, failed=tmp_path / "failed")
    message = str(error.value)
    assert "\n" not in message
    for part in ("n.ipynb", "cell [4]", "ValueError: two", str(tmp_path / "failed/p-n.ipynb")):
        assert part in message
    assert output.read_text() == "older page"
    kept = nbformat.read(tmp_path / "failed" / "p-n.ipynb", as_version=4)
    assert any("before" in str(cell.get("outputs")) for cell in kept.cells)


def test_a_dead_kernel_is_one_sentence(tmp_path: Path) -> None:
    source = notebook(tmp_path / "n.ipynb", "import os; os._exit(9)")
    with pytest.raises(NotebookError, match="kernel ended early"):
        run_notebook(source, tmp_path / "o.ipynb", {}, failed=tmp_path)
    assert not (tmp_path / "o.ipynb").exists()


#: A kernel that ends before it begins, so many times; then it is a kernel.
FALLING = """
import pathlib, subprocess, sys
falls = pathlib.Path(sys.argv[1])
left = int(falls.read_text())
falls.write_text(str(left - 1))
sys.exit(1 if left > 0 else subprocess.call(sys.argv[2:]))
"""


@pytest.mark.parametrize("falls", [running.STARTS - 1, running.STARTS])
def test_a_kernel_that_does_not_begin_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, falls: int
) -> None:
    counted, command = tmp_path / "falls", kernels.command
    counted.write_text(str(falls))
    monkeypatch.setattr(
        kernels,
        "command",
        lambda *asked: [sys.executable, "-c", FALLING, str(counted), *command(*asked)],
    )
    source, output = notebook(tmp_path / "behaviour.ipynb", "print(pair)"), tmp_path / "out.ipynb"

    def run() -> None:
        run_notebook(source, output, {"pair": "mine"}, failed=tmp_path / "failed")

    if falls < running.STARTS:
        run()
        assert nbformat.read(output, as_version=4).cells[-2].outputs[0].text == "mine\n"
    else:
        with pytest.raises(NotebookError, match="no kernel would begin in 3 tries"):
            run()
        assert not output.exists()
    assert int(counted.read_text()) == -1 or falls == running.STARTS
