"""Runs the workflow: which notebooks are out of date, and executing just those."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mechshift_lib.config import ANALYSES, ROOT, Pair, check_checkout, load_pair
from mechshift_lib.errors import ConfigError
from mechshift_lib.execution import NotebookError, results_of
from mechshift_lib.made_of import sealed
from mechshift_lib.processes import alone, interruptible, module_command, run_child
from mechshift_lib.results.provenance import model_hash


def workflow_config(root: Path = ROOT) -> dict[str, Any]:
    """What ``workflow/config.yaml`` says: pairs, chapters of a pair, pages of the whole book."""
    text = (root / "workflow" / "config.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def default_pairs(root: Path = ROOT) -> list[str]:
    """The pairs that the book has a part for."""
    return list(workflow_config(root)["pairs"])


def book_pages(root: Path = ROOT) -> list[str]:
    """Notebooks of the whole book, which belong to no pair."""
    return list(workflow_config(root)["pages"])


def mark(page: str) -> str:
    """What the workflow makes besides a page, such as ``"paper"`` or ``"tiny-qwen/circuits"``.

    A small file, relative to the root; the Snakefile says why.
    """
    path = Path("book/executed") / page
    return path.with_name(f".{path.name}.done").as_posix()


def page_file(page: str, root: Path = ROOT) -> Path:
    """The executed notebook of a page, such as ``"paper"`` or ``"tiny-qwen/circuits"``."""
    return root / "book" / "executed" / f"{page}.ipynb"


def faults_of_pages(results: Path, root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Every executed page with what is wrong with it; the empty text where nothing is.

    A page has to be what its run wrote, and the stored results that it names have to be there,
    whole.

    Args:
        results: the folder of stored results.
        root: the checkout.
    """
    from mechshift_lib.results.archive import verify
    from mechshift_lib.results.store import Store

    kept = verify(Store(results)) if results.is_dir() else ()
    whole = {f"{e.kind}/{e.name}": fault for e, fault in kept}
    folder = root / "book" / "executed"
    for path in sorted(folder.rglob("*.ipynb")):
        page = path.relative_to(folder).with_suffix("").as_posix()
        if not sealed(path, root / mark(page)):
            yield page, "it isn't what its last run wrote"
            continue
        used = results_of(path)
        missing = [one for one in used if one not in whole]
        damaged = [one for one in used if whole.get(one)]
        if missing:
            yield page, f"{missing[0]}, which it is made of, isn't stored"
        elif damaged:
            yield page, f"{damaged[0]}, which it is made of, is damaged"
        else:
            yield page, ""


def pages_of(pairs: Sequence[str], analyses: Sequence[str]) -> list[str]:
    """The chapters that these pairs and analyses have, such as ``"tiny-qwen/circuits"``.

    No analyses means those that each pair has.

    Raises:
        ConfigError: an analysis or a pair doesn't exist, or a pair doesn't have an analysis.
        ModelError: a checkpoint of a pair is missing.
    """
    wanted = []
    for name in pairs:
        pair = load_pair(name)
        check_chapters(pair, analyses)
        for role in pair.roles:
            for seed in pair.seeds:
                model_hash(pair.model(role, seed))
        chosen = analyses or pair.analyses
        wanted += [f"{name}/{analysis}" for analysis in chosen]
    return wanted


def check_chapters(pair: Pair, analyses: Sequence[str]) -> None:
    """Refuse chapters that there aren't, or that a pair doesn't have.

    Raises:
        ConfigError: an analysis doesn't exist, or the pair doesn't have it, or any.
    """
    unknown = sorted(set(analyses) - set(ANALYSES))
    if unknown:
        raise ConfigError(
            f"Unknown analysis {', '.join(unknown)}: choose from {', '.join(ANALYSES)}."
        )
    if not pair.analyses:
        raise ConfigError(
            f"{pair.name!r} is an MDM without an ARM, and chapters compare the two: fetch it and "
            "use mechshift attribute, evaluate or patch on its folder."
        )
    absent = [analysis for analysis in analyses if analysis not in pair.analyses]
    if absent:
        raise ConfigError(
            f"Pair {pair.name!r} has no {', '.join(absent)}: add it to `analyses` in its file."
        )


def run_workflow(
    pairs: Sequence[str] = (),
    analyses: Sequence[str] = (),
    *,
    budget: str = "book",
    jobs: int = 2,
    pages: Sequence[str] = (),
) -> None:
    """Execute every notebook that is missing or out of date, and what it depends on.

    A chapter that fails keeps the page of its last success, and the others go on. Of two runs at
    once, the second waits for the first.

    Args:
        pairs: names of pairs; none means those of the book.
        analyses: some of :data:`ANALYSES`; none means all that a pair has.
        budget: ``"book"`` or ``"full"``.
        jobs: notebooks at once, one thread each.
        pages: also these pages of the whole book, some of :func:`book_pages`.

    Raises:
        ConfigError: an argument is unknown, a pair lacks an analysis, or Snakemake isn't installed.
        NotebookError: a notebook failed; its own sentence was printed before.
        StoppedError: a signal asked the run to end.
    """
    check_checkout()
    if importlib.util.find_spec("snakemake") is None:
        raise ConfigError("Snakemake is missing: install it with pip install -e '.[workflow]'.")
    chosen = list(pairs) or default_pairs()
    wanted = [*pages_of(chosen, list(analyses)), *pages]
    command = _snakemake("--cores", str(jobs), "--quiet", "rules", "host")
    first = [
        page for page in wanted if Path(page).parent.name in workflow_config().get("first", [])
    ]
    command += ["--prioritize", *map(mark, first)] if first else []
    command += ["--config", f"pairs={','.join(chosen)}", f"budget={budget}"]
    command += ["--", *map(mark, wanted)]
    waiting = "another run is at work in this folder: this one waits until it has ended."
    with interruptible(), alone(ROOT / ".snakemake" / "mechshift.lock", waiting) as lock:
        done = run_child(command, cwd=ROOT, environment=_environment(), inherit=lock)
    if done.returncode < 0:
        raise NotebookError(
            f"The workflow was killed by {signal.Signals(-done.returncode).name}, perhaps for want "
            "of memory: the same command goes on from there, and needs less with --jobs 1."
        )
    if done.returncode:
        raise NotebookError(
            "Not every notebook ran: the sentences above say which and why. Pages of earlier "
            "successes are kept."
        )


def out_of_date(root: Path = ROOT, *, budget: str = "book") -> list[str]:
    """The book's pages that aren't made of what lies here now: what they are made of was edited
    since, they were edited themselves, or their last run failed.

    Without Snakemake only the latter two are known.
    """
    pairs = default_pairs(root)
    pages = [f"{pair}/{name}" for pair in pairs for name in load_pair(pair, root).analyses]
    pages += book_pages(root)
    if importlib.util.find_spec("snakemake") is None:
        return [p for p in pages if not sealed(page_file(p, root), root / mark(p))]
    command = _snakemake("--summary", "--quiet", "host", root=root)
    command += ["--config", f"pairs={','.join(pairs)}", f"budget={budget}"]
    command += ["--", *map(mark, pages)]
    with interruptible():
        done = run_child(command, cwd=root, environment=_environment(), capture=True)
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t"))
    if done.returncode or not rows:
        raise ConfigError(f"Snakemake can't say what is out of date: {done.stderr.strip()[-200:]}")
    pending = {row["output_file"] for row in rows if row["plan"] == "update pending"}
    return [page for page in pages if mark(page) in pending]


def _snakemake(*options: str, root: Path = ROOT) -> list[str]:
    always = ("--snakefile", "workflow/Snakefile", "--directory", str(root))
    return module_command("snakemake", *always, *options)


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
