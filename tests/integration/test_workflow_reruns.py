"""The workflow runs what is missing or out of date, and nothing else."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from mechshift_lib import workflow
from mechshift_lib.config import ANALYSES as KNOWN
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.made_of import modules
from mechshift_lib.workflow import workflow_config

PAIR = "tiny-qwen"
ANALYSES = set(load_pair(PAIR).analyses)
CONFIG = workflow_config()
PAGES = set(CONFIG["pages"])
NOTEBOOKS = sorted(ANALYSES | PAGES)
FOLDERS = sorted({page["files"] for page in CONFIG["pages"].values() if "files" in page})


def behind(*names: str) -> set[str]:
    """These chapters and all that build on them."""
    chapters = CONFIG["analyses"] | CONFIG["pages"]
    found = set(names)
    while more := {n for n, c in chapters.items() if found & set(c.get("after", []))} - found:
        found |= more
    return found


def using(module: str) -> set[str]:
    """Chapters whose notebook reaches a module of the library, and all that build on them."""
    return behind(*(n for n in NOTEBOOKS if module in modules(notebook(n), ROOT)))


def notebook(name: str) -> Path:
    return ROOT / "notebooks" / f"{name}.ipynb"


def snakemake(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "--directory", str(folder), "--cores", "2"]
    command += ["--snakefile", str(folder / "workflow" / "Snakefile"), *options]
    command += ["--config", f"pairs={PAIR}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def out_of_date(folder: Path) -> set[str]:
    """Notebooks that the workflow would execute now."""
    done = snakemake(folder, "--dry-run", "--quiet", "host")
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^rule (\w+):", done.stdout + done.stderr, re.M)) - {"all"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of the project, with notebooks that do next to nothing, all executed."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("workflow", "mechshift_lib", "data/pairs", *FOLDERS):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for role in load_pair(PAIR).roles:
        source = load_pair(PAIR).model(role).source
        assert source.kind == "folder"
        (folder / source.path).mkdir(parents=True)
        (folder / source.path / "model.safetensors").write_bytes(b"weights")
    (folder / "notebooks").mkdir()
    for name in NOTEBOOKS:
        text = 'results = "r"' if name in PAGES else 'pair = "p"\nbudget = "b"\nresults = "r"'
        if CONFIG["pages"].get(name, {}).get("budget"):
            text += '\nbudget = "b"'
        # It imports what the real one does, in a branch that isn't taken.
        real = nbformat.read(notebook(name), as_version=4)
        lines = [
            line
            for cell in real.cells
            if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
            for node in ast.walk(ast.parse(cell.source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for line in [f"    {ast.unparse(node)}"]
        ]
        imports = nbformat.v4.new_code_cell("\n".join(["if False:", *lines]))
        cell = nbformat.v4.new_code_cell(text, metadata={"tags": ["parameters"]})
        heading = nbformat.v4.new_markdown_cell(f"# {name}")
        book = nbformat.v4.new_notebook(cells=[heading, cell, imports])
        nbformat.write(book, folder / "notebooks" / f"{name}.ipynb")
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_notebook_is_executed_with_its_parameters(project: Path) -> None:
    for name in NOTEBOOKS:
        path = f"{name}.ipynb" if name in PAGES else f"{PAIR}/{name}.ipynb"
        book = nbformat.read(project / "book" / "executed" / path, as_version=4)
        injected = next(
            c for c in book.cells if "injected-parameters" in c.metadata.get("tags", [])
        )
        assert 'results = "results"' in injected.source
        if name not in PAGES:
            assert f'pair = "{PAIR}"' in injected.source
            assert 'budget = "book"' in injected.source
            assert book.cells[0].source == f"# {name}: {load_pair(PAIR).title}"


def test_every_chapter_that_a_pair_can_have_is_described() -> None:
    """In the order in which they build on each other."""
    assert tuple(CONFIG["analyses"]) == KNOWN
    for number, name in enumerate(KNOWN):
        assert set(CONFIG["analyses"][name].get("after", [])) <= set(KNOWN[:number])


def test_nothing_is_done_twice(project: Path) -> None:
    assert out_of_date(project) == set()


@pytest.mark.parametrize(
    ("edited", "again"),
    [
        ("notebooks/circuits.ipynb", {"overlap", "faithfulness"} | behind("circuits")),
        ("notebooks/patching.ipynb", behind("patching")),
        ("data/paper/top_edges.csv", behind("paper", "overlap", "components", "neurons")),
        ("data/benchmarks/growth.json", behind("speed")),
        (f"data/pairs/{PAIR}.yaml", behind(*ANALYSES)),
        ("mechshift_lib/circuits/graph/graph.py", using("mechshift_lib.circuits.graph.graph")),
        ("mechshift_lib/comparison/published.py", using("mechshift_lib.comparison.published")),
        ("mechshift_lib/plots/lens.py", behind("lens")),
        ("mechshift_lib/analyses/words/cues.py", behind("cues")),
        ("mechshift_lib/plots/speed.py", {"speed"}),
        ("mechshift_lib/colab.py", set()),
        (f"data/models/{PAIR}/seed0/mdm/model.safetensors", behind(*ANALYSES)),
        ("mechshift_lib/cli/main.py", set()),
        ("data/pairs/tiny-llama.yaml", set()),
    ],
)
def test_an_edit_runs_what_depends_on_it(project: Path, edited: str, again: set[str]) -> None:
    path = project / edited
    before, status = path.read_bytes(), path.stat()
    time.sleep(0.01)
    path.write_bytes(before + (b"\nEDITED = True\n" if path.suffix == ".py" else b"\n"))
    stamps = {one: (one.read_bytes(), one.stat()) for one in project.rglob(".*.made_of")}
    try:
        assert out_of_date(project) == again
    finally:
        path.write_bytes(before)
        for one, (text, times) in [*stamps.items(), (path, (before, status))]:
            one.write_bytes(text)
            os.utime(one, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("file", "added"),
    [
        ("mechshift_lib/analyses/study.py", b"\n# a comment means nothing to a number\n"),
        (f"data/models/{PAIR}/seed0/mdm/model.safetensors", b""),
        ("data/paper/top_edges.csv", b""),
    ],
)
def test_what_says_the_same_runs_nothing(project: Path, file: str, added: bytes) -> None:
    path = project / file
    before, status = path.read_bytes(), path.stat()
    time.sleep(0.01)
    path.write_bytes(before + added)
    try:
        assert out_of_date(project) == set()
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_chapter_that_was_made_anew_by_itself_makes_those_behind_it_out_of_date(
    project: Path, tmp_path: Path
) -> None:
    """Also when the next run doesn't see why: its page differs, if only by its provenance."""
    other = shutil.copytree(project, tmp_path / "project", symlinks=True)
    page = other / "book" / "executed" / PAIR / "circuits.ipynb"
    page.unlink()
    assert snakemake(other, workflow.mark(f"{PAIR}/circuits")).returncode == 0
    assert page.is_file()
    assert out_of_date(other) == behind("circuits") - {"circuits"}


def test_a_page_that_was_edited_by_hand_is_noticed_and_made_anew(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(project, tmp_path / "project", symlinks=True)
    assert all(fault == "" for _, fault in workflow.faults_of_pages(other / "results", other))
    page = other / "book" / "executed" / "speed.ipynb"
    page.write_text(page.read_text(encoding="utf-8").replace("# speed", "# faster"))
    faults = dict(workflow.faults_of_pages(other / "results", other))
    assert {name for name, fault in faults.items() if fault} == {"speed"}
    with monkeypatch.context() as without:
        without.setattr(workflow.importlib.util, "find_spec", lambda _: None)
        assert "speed" in workflow.out_of_date(other)
    assert snakemake(other, workflow.mark("speed")).returncode == 0
    assert "# speed" in page.read_text(encoding="utf-8")
    assert dict(workflow.faults_of_pages(other / "results", other))["speed"] == ""


def test_pages_that_are_not_fresh_are_known(project: Path, tmp_path: Path) -> None:
    """Those of an edited notebook, of a run that failed, and all that build on them."""
    other = shutil.copytree(project, tmp_path / "project", symlinks=True)
    notebook = other / "notebooks/patching.ipynb"
    notebook.write_bytes(notebook.read_bytes() + b"\n")
    (other / workflow.mark("paper")).unlink()
    stale = {page for page in workflow.out_of_date(other) if "/" not in page or PAIR in page}
    # These are made of other pairs too, which this project has no pages of.
    whole = {"paper", "verdicts", "outlook"}
    assert stale == {f"{PAIR}/{name}" for name in behind("patching")} | whole


def test_without_snakemake_pages_of_failed_runs_are_known(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow.importlib.util, "find_spec", lambda _: None)
    other = shutil.copytree(project, tmp_path / "project", symlinks=True)
    (other / workflow.mark(f"{PAIR}/circuits")).unlink()
    stale = {page for page in workflow.out_of_date(other) if "/" not in page or PAIR in page}
    assert stale == {f"{PAIR}/circuits"}
