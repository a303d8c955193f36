"""Launchers: each page's notebook with its pair and commit set, and one common first cell."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from mechshift_lib.book.launch import (
    BRANCH,
    FOLDER,
    Place,
    launcher,
    place,
    setup_cell,
    write_launchers,
)
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.errors import ConfigError
from mechshift_lib.workflow import book_pages, book_pairs
from tests.support.notebooks import code, parameters, read

NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
WHERE = Place("https://github.com/someone/their-fork", "main", "c0ffee" * 6 + "c0de")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launch") / "made"
    write_launchers(folder, where=WHERE)
    return folder


def assigned(source: str) -> dict[str, object]:
    """Constants that a cell assigns, however deep."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {t.id: node.value.value for t in node.targets if isinstance(t, ast.Name)}
    return found


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_all_notebooks_begin_with_the_same_cell(name: str) -> None:
    first = code(read(name))[0]
    said = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    assert first.source == setup_cell(said["url"], said["branch"])
    assert parameters(read(name)) == code(read(name))[1], "the parameters stand next"


def test_every_page_of_the_book_has_its_launcher(made: Path) -> None:
    pairs = book_pairs(budget="full")
    expected = {f"{pair.name}/{name}.ipynb" for pair in pairs for name in pair.analyses}
    expected |= {f"{name}.ipynb" for name in book_pages()}
    assert {file.relative_to(made).as_posix() for file in made.rglob("*.ipynb")} == expected


def test_launchers_have_pair_commit_and_repository_set(made: Path) -> None:
    for file in made.rglob("*.ipynb"):
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        first = code(notebook)[0].source
        said = assigned(first)
        assert said["repository"] == WHERE.repository, file
        assert said["commit"] == WHERE.commit
        assert said["results"] == "results"
        assert "prepare(results)" in first
        pair = file.parent.name if file.parent != made else None
        rest = [assigned(cell.source) for cell in code(notebook)[1:]]
        assert not any("results" in names for names in rest), "it is said in one place"
        if pair:
            assert rest[0]["pair"] == pair
            assert notebook.cells[0].source.splitlines()[0].endswith(f": {load_pair(pair).title}")


def test_a_launcher_is_otherwise_its_notebook(made: Path) -> None:
    source, copy = read("circuits"), nbformat.read(made / "tiny-llama/circuits.ipynb", as_version=4)
    assert [c.source for c in copy.cells[3:]] == [c.source for c in source.cells[3:]]
    assert assigned(copy.cells[2].source) == {
        **{k: v for k, v in assigned(source.cells[2].source).items() if k != "results"},
        "pair": "tiny-llama",
    }


def test_the_first_cell_does_nothing_elsewhere(made: Path, tmp_path: Path) -> None:
    first = code(nbformat.read(made / "paper.ipynb", as_version=4))[0].source
    script = f"{first}\nimport os; assert os.listdir() == []; assert results == 'results'"
    subprocess.run(["python3", "-c", script], cwd=tmp_path, check=True)


def test_addresses_of_a_launcher() -> None:
    assert WHERE.colab("tiny-qwen/circuits") == (
        f"https://colab.research.google.com/github/someone/their-fork/blob/{BRANCH}"
        "/tiny-qwen/circuits.ipynb"
    )
    assert WHERE.binder("tiny-qwen/circuits") == (
        f"https://mybinder.org/v2/gh/someone/their-fork/{WHERE.commit}"
        f"?urlpath=lab%2Ftree%2F{FOLDER}%2Ftiny-qwen%2Fcircuits.ipynb"
    )


def test_binder_and_the_workflow_make_and_publish_what_the_addresses_name() -> None:
    assert f"mechshift launchers {FOLDER} #" in (ROOT / "postBuild").read_text(encoding="utf-8")
    flow = (ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8")
    assert f"path: _build/html/{FOLDER}\n" in flow
    assert f'github.com/$GITHUB_REPOSITORY" {BRANCH}\n' in flow
    assert f"ref: {BRANCH} " in (ROOT / ".github/workflows/launchers.yml").read_text(
        encoding="utf-8"
    )


def test_a_fork_on_github_needs_no_edit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/a/b, branch: main}")
    for name in ("GITHUB_REPOSITORY", "GITHUB_REF_NAME", "GITHUB_REF_TYPE"):
        monkeypatch.delenv(name, raising=False)
    assert place(tmp_path) == Place("https://github.com/a/b", "main", "main")  # no git there
    monkeypatch.setenv("GITHUB_REPOSITORY", "c/d")
    monkeypatch.setenv("GITHUB_REF_NAME", "next")
    monkeypatch.setenv("GITHUB_REF_TYPE", "branch")
    assert place(tmp_path) == Place("https://github.com/c/d", "next", "next")


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/a/b}")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    assert place(tmp_path).commit == git("rev-parse", "HEAD")
    (tmp_path / "_config.yml").write_text("title: x")
    with pytest.raises(ConfigError, match=r"no repository\.url: name"):
        place(tmp_path)


def test_a_notebook_without_the_common_cell_or_a_pair_is_refused() -> None:
    notebook = read("circuits")
    other = notebook.copy()
    other.cells = [notebook.cells[0], *notebook.cells[2:]]
    with pytest.raises(ConfigError, match=r"circuits\.ipynb must begin with the cell"):
        launcher(other, "circuits", WHERE)
    with pytest.raises(ConfigError, match=r"paper\.ipynb has no parameter pair"):
        launcher(read("paper"), "paper", WHERE, load_pair("tiny-llama"))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files than notebooks"):
        write_launchers(tmp_path)
    assert (tmp_path / "thesis.tex").is_file()
