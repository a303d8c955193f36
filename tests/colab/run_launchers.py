"""Runs launchers as Colab does: in this Python's own kernel, from a new folder, with google.colab.

Called with the Python of Colab's image, or of an environment that holds Colab's versions (``make
test-colab``); needs nothing of the project there. Where there is no real ``google.colab``, a
stand-in whose Drive is a folder takes its place.

    python run_launchers.py FOLDER_OF_LAUNCHERS [--only tiny-llama/behaviour ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from importlib import metadata, util
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

#: What Colab's kernel has imported before the first cell, and must stay as it is.
PRELOADED = ("numpy", "pandas", "matplotlib", "torch")
#: A Drive that is mounted by making its folder.
STAND_IN = """
from pathlib import Path


def mount(place):
    Path(place, "MyDrive").mkdir(parents=True, exist_ok=True)
    print("Mounted at", place)
"""
#: Asked of the kernel after the notebook: what it had imported, and what is installed now.
ASKED = """
import importlib, importlib.metadata, json, sys
print(json.dumps({n: [sys.modules[n].__version__, importlib.metadata.version(n)] for n in %r}))
"""


def has_colab() -> bool:
    try:
        return util.find_spec("google.colab") is not None
    except ModuleNotFoundError:
        return False


def kernel_of_colab(folder: Path) -> None:
    """Let kernels start as Colab's do: with google.colab and the usual packages imported."""
    if not has_colab():
        package = folder / "stand-in" / "google" / "colab"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "drive.py").write_text(STAND_IN)
        os.environ["PYTHONPATH"] = str(folder / "stand-in")
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "colab.py").write_text(f"import google.colab, {', '.join(PRELOADED)}\n")
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    spec = folder / "share" / "kernels" / "python3"
    spec.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    said = {"argv": command, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(said))
    os.environ["JUPYTER_PATH"] = str(folder / "share")


def run(launcher: Path, folder: Path, results: str | None) -> str:
    """Run a launcher; what was said on the way, or an exception."""
    notebook = nbformat.read(launcher, as_version=4)
    if results:
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        lines = first.source.splitlines()
        assert lines[0].startswith('results = "results"'), "the first line says where results go"
        first.source = "\n".join([f"results = {results!r}", *lines[1:]])
    notebook.cells.append(nbformat.v4.new_code_cell(ASKED % (PRELOADED,)))
    NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return "".join(o["text"] for o in notebook.cells[-1].outputs if o.get("name") == "stdout")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("launchers", type=Path)
    parser.add_argument("--only", nargs="*", default=[], metavar="PAIR/NAME")
    parser.add_argument("--results", help="written into each first cell")
    arguments = parser.parse_args()
    folder = arguments.launchers.resolve()
    found = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in sorted(folder.rglob("*.ipynb"))
    }
    chosen = arguments.only or list(found)
    before = {name: metadata.version(name) for name in PRELOADED}
    failed = []
    with tempfile.TemporaryDirectory(prefix="mechshift-colab-") as scratch:
        kernel_of_colab(Path(scratch))
        content = Path(scratch) / "content"
        content.mkdir()
        for page in chosen:
            began = time.perf_counter()
            try:
                text = run(found[page], content, arguments.results)
                now = json.loads(text.strip().splitlines()[-1])
                moved = {n: v for n, v in now.items() if {v[1]} != {before[n]}}
                problem = f"replaced {moved}" if moved else ""
            except CellExecutionError as error:
                problem = str(error)
            print(f"{page}: {problem or 'ran'} ({time.perf_counter() - began:.0f} s)", flush=True)
            failed += [page] if problem else []
    print(f"{len(chosen) - len(failed)} of {len(chosen)} launchers ran; {before}")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
