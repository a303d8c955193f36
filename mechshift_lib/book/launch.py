"""Notebooks to be opened elsewhere: the pair set, the commit pinned, installing on Colab.

A page is executed from ``notebooks/NAME.ipynb``, which knows neither the page's pair nor the commit
that the book was built at. Colab opens files that lie in a branch on GitHub and passes nothing on
to them, so each page has a *launcher*: a copy with both written into it. The book's workflow puts
the launchers on a branch of their own, :data:`BRANCH`; Binder makes the same files in its image.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import nbformat
import yaml

from mechshift_lib.config import ROOT, Pair
from mechshift_lib.documents.files import check_place
from mechshift_lib.errors import ConfigError
from mechshift_lib.execution.pages import retitle
from mechshift_lib.execution.parameters import read_notebook
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.workflow import book_pages, book_pairs

#: Branch that holds the launchers, and folder of the built book (and of Binder's checkout).
BRANCH = FOLDER = "launch"
GITHUB = "https://github.com/"
#: First line of a launcher; the cell of the parameters doesn't say it a second time.
RESULTS = (
    'results = "results"  # where results are kept: a folder, or in your Google Drive '
    '"/content/drive/MyDrive/mechshift"'
)
SETUP = """\
import sys

if "google.colab" in sys.modules:  # there, fetch and install the project; elsewhere, do nothing
    import os
    import subprocess

    repository = "{repository}"
    commit = "{commit}"
    os.makedirs("mechshift", exist_ok=True)
    fetch = f"fetch -q --depth 1 {{repository}} {{commit}}"
    for step in ("-c init.defaultBranch=main init -q", fetch, "checkout -q FETCH_HEAD"):
        if subprocess.run(["git", "-C", "mechshift", *step.split()]).returncode:
            raise SystemExit(f"Can't get {{commit}} of {{repository}}: git says above why.")
    sys.path.insert(0, os.path.abspath("mechshift"))
    from mechshift_lib.colab import prepare

    prepare({results})"""


@dataclass(frozen=True)
class Place:
    """Where a book is published from.

    Attributes:
        repository: its address, ``https://github.com/OWNER/NAME``.
        branch: which its pages' links lead to.
        commit: hexadecimal name of the commit; the branch where there is no git.
    """

    repository: str
    branch: str
    commit: str

    @property
    def name(self) -> str:
        """``OWNER/NAME``."""
        return self.repository.removeprefix(GITHUB).strip("/")

    def colab(self, page: str) -> str:
        """Address that opens a page's launcher, such as ``"tiny-qwen/circuits"``, on Colab."""
        return f"https://colab.research.google.com/github/{self.name}/blob/{BRANCH}/{page}.ipynb"

    def binder(self, page: str) -> str:
        """Address that opens a page's launcher on Binder, in the environment of the commit."""
        file = quote(f"lab/tree/{FOLDER}/{page}.ipynb", safe="")
        return f"https://mybinder.org/v2/gh/{self.name}/{self.commit}?urlpath={file}"


def place(root: Path = ROOT) -> Place:
    """Where the book is published from: the running GitHub Actions, else ``_config.yml`` and git.

    Raises:
        ConfigError: ``_config.yml`` names no repository.
    """
    said = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8")).get("repository", {})
    if not said.get("url"):
        raise ConfigError("_config.yml has no repository.url: name the repository on GitHub there.")
    on_branch = os.environ.get("GITHUB_REF_TYPE") == "branch"
    branch = os.environ.get("GITHUB_REF_NAME") if on_branch else None
    running = os.environ.get("GITHUB_REPOSITORY")
    url = f"{GITHUB}{running}" if running else str(said["url"]).rstrip("/")
    branch = branch or str(said.get("branch", "main"))
    return Place(url, branch, _commit(root) or branch)


def _commit(root: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # no git
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def setup_cell(repository: str, commit: str, results: str = "") -> str:
    """Source of the first cell of every notebook, which does nothing but on Colab.

    Args:
        repository: where the project is fetched from.
        commit: which commit of it, or a branch.
        results: variable that names the folder of the results; none in a notebook that is no
            launcher, whose parameters say it only later.
    """
    return SETUP.format(repository=repository, commit=commit, results=results)


def launcher(
    notebook: nbformat.NotebookNode, name: str, where: Place, pair: Pair | None = None
) -> nbformat.NotebookNode:
    """A copy of a notebook that can be opened elsewhere.

    Args:
        notebook: one of ``notebooks/``.
        name: of the notebook, for Colab's own copy of it.
        where: what is written into its first cell.
        pair: what is written into its parameters; none for a page of the whole book.

    Raises:
        ConfigError: the notebook's first code cell is another, or it has no parameter ``pair``.
    """
    made = copy.deepcopy(notebook)
    code = [cell for cell in made.cells if cell.cell_type == "code"]
    if len(code) < 2 or '"google.colab" in sys.modules' not in code[0].source:
        raise ConfigError(f"{name}.ipynb must begin with the cell that all notebooks begin with.")
    first, parameters = code[:2]
    first.source = f"{RESULTS}\n\n{setup_cell(where.repository, where.commit, 'results')}"
    first.metadata["tags"] = []
    lines = [line for line in parameters.source.splitlines() if not line.startswith("results = ")]
    parameters.source = "\n".join(lines)
    if pair is not None:
        parameters.source, found = re.subn(
            r'^pair = ".*?"', f'pair = "{pair.name}"', parameters.source, flags=re.M
        )
        if found != 1:
            raise ConfigError(f"{name}.ipynb has no parameter pair: give it one.")
        retitle(made, pair.title)
    if not parameters.source.strip():
        made.cells.remove(parameters)
    title = f"{name}-{pair.name}" if pair else name
    made.metadata["colab"] = {"name": f"{title}.ipynb", "provenance": []}
    return made


def write_launchers(out: Path, root: Path = ROOT, where: Place | None = None) -> list[Path]:
    """Write the launchers of all pages of the book.

    Args:
        out: the folder; what it holds is replaced.
        root: the checkout.
        where: the place written into them; by default :func:`place`.

    Returns:
        The files, ``OUT/PAIR/NAME.ipynb`` and ``OUT/NAME.ipynb``.

    Raises:
        ConfigError: a notebook is missing or not as expected, or ``out`` holds something else.
    """
    if out.is_dir() and any(file.suffix != ".ipynb" for file in out.rglob("*") if file.is_file()):
        raise ConfigError(f"{out} holds other files than notebooks: name an empty or a new folder.")
    check_place(out / "any.ipynb", ConfigError)
    where = where or place(root)
    pages: list[tuple[str, Pair | None]] = [(name, None) for name in book_pages(root)]
    for pair in book_pairs(root, "full"):
        pages += [(name, pair) for name in pair.analyses]
    texts = {}
    for name, chosen in pages:
        source = read_notebook(root / "notebooks" / f"{name}.ipynb")
        file = out / (chosen.name if chosen else "") / f"{name}.ipynb"
        texts[file] = nbformat.writes(launcher(source, name, where, chosen)) + "\n"
    shutil.rmtree(out, ignore_errors=True)
    for file, text in texts.items():
        write_atomic(file, text)
    return list(texts)
