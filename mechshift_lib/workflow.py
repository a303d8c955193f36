"""Runs the workflow: which notebooks are out of date, and executing just those."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mechshift_lib import kernels, slurm
from mechshift_lib.choices import BudgetName
from mechshift_lib.config import ANALYSES, ROOT, Pair, check_checkout, load_pair
from mechshift_lib.costs.jobs import asked
from mechshift_lib.errors import ConfigError, MechshiftError, listed, shown
from mechshift_lib.execution import NotebookError
from mechshift_lib.execution.pages import results_of
from mechshift_lib.made_of import sealed
from mechshift_lib.processes import alone, interruptible, module_command, run_child
from mechshift_lib.results.provenance import model_hash

#: Bytes that a disk has at least where a run didn't fail for want of room.
ROOM = 2**20


def workflow_config(root: Path = ROOT) -> dict[str, Any]:
    """What ``workflow/config.yaml`` says: pairs, chapters of a pair, pages of the whole book."""
    text = (root / "workflow" / "config.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def default_pairs(root: Path = ROOT) -> list[str]:
    """The pairs that the book has a part for."""
    return list(workflow_config(root)["pairs"])


def book_pairs(root: Path = ROOT, budget: str = "book") -> list[Pair]:
    """The pairs that the book has chapters of, with those that they have at this budget."""
    return [load_pair(name, root).at_budget(budget) for name in default_pairs(root)]


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


def pages_of(
    pairs: Sequence[str], analyses: Sequence[str], budget: BudgetName = "book"
) -> list[str]:
    """The chapters that these pairs and analyses have, such as ``"tiny-qwen/circuits"``.

    No analyses means those that each pair has at this budget.

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
        chosen = analyses or pair.at_budget(budget).analyses
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
    having = pair.at_budget("full").analyses
    if not having:
        raise ConfigError(
            f"{pair.name!r} is an MDM without an ARM, and chapters compare the two: fetch it and "
            "use mechshift attribute, evaluate or patch on its folder."
        )
    absent = [analysis for analysis in analyses if analysis not in having]
    if absent:
        raise ConfigError(
            f"Pair {pair.name!r} has no {', '.join(absent)}: add it to `analyses` in its file."
        )


def run_workflow(
    pairs: Sequence[str] = (),
    analyses: Sequence[str] = (),
    *,
    budget: BudgetName = "book",
    jobs: int | None = None,
    pages: Sequence[str] = (),
    profile: str | None = None,
) -> None:
    """Execute every notebook that is missing or out of date, and what it depends on.

    A chapter that fails keeps the page of its last success, and the others go on. Of two runs at
    once, the second waits for the first.

    Args:
        pairs: names of pairs; none means those of the book.
        analyses: some of :data:`ANALYSES`; none means all that a pair has at this budget.
        budget: ``"book"`` or ``"full"``.
        jobs: notebooks at once, one thread each; by default two, or what the profile says.
        pages: also these pages of the whole book, some of :func:`book_pages`.
        profile: a folder of workflow/profiles: where the jobs run; by default on this machine.

    Raises:
        ConfigError: an argument is unknown, a pair lacks an analysis, Snakemake isn't installed,
            or the cluster isn't there.
        NotebookError: a notebook failed; its own sentence was printed before.
        StoppedError: a signal asked the run to end.
    """
    check_checkout()
    if importlib.util.find_spec("snakemake") is None:
        raise ConfigError("Snakemake is missing: install it with pip install -e '.[workflow]'.")
    chosen = list(pairs) or default_pairs()
    wanted = [*pages_of(chosen, list(analyses), budget), *pages]
    here = profile is None
    command = _snakemake("--quiet", "rules", "host", *_where(profile, jobs))
    on_slurm = not here and executor_of(str(profile)) == "slurm"
    if on_slurm:
        slurm.check(_partitions(wanted, budget))
        command += slurm.options(ROOT)
    first = [
        page for page in wanted if Path(page).parent.name in workflow_config().get("first", [])
    ]
    command += ["--prioritize", *map(mark, first)] if first else []
    command += ["--config", f"pairs={','.join(chosen)}", f"budget={budget}"]
    command += ["--", *map(mark, wanted)]
    waiting = "another run is at work in this folder: this one waits until it has ended."
    with interruptible(), alone(ROOT / ".snakemake" / "mechshift.lock", waiting) as lock:
        began = time.time()
        own = _environment()
        several = here and len(wanted) > 1
        with (
            _jobs_of_slurm() if on_slurm else contextlib.nullcontext(),
            kernels.server(own, wanted=several) as forks,
        ):
            done = run_child(command, cwd=ROOT, environment=own | forks, inherit=lock)
    if done.returncode < 0:
        raise NotebookError(
            f"The workflow was killed by {signal.Signals(-done.returncode).name}, perhaps for want "
            "of memory: the same command goes on from there, and needs less with --jobs 1."
        )
    if done.returncode and shutil.disk_usage(ROOT).free < ROOM:
        raise NotebookError(
            "The disk is full: make room on it, and the same command goes on from there. Pages of "
            "earlier successes are kept."
        )
    if done.returncode and on_slurm:
        raise _failure_on_slurm(list(slurm.failures(ROOT, began)))
    if done.returncode:
        raise NotebookError(
            "Not every notebook ran: the sentences above say which and why. Pages of earlier "
            "successes are kept."
        )


def profiles(root: Path = ROOT) -> list[str]:
    """Names of the folders that say where jobs run, beside this machine."""
    found = (path.parent.name for path in (root / "workflow/profiles").glob("*/config.yaml"))
    return sorted(set(found) - {"default"})


def executor_of(profile: str, root: Path = ROOT) -> str:
    """What runs the jobs of a profile, such as ``"slurm"``.

    Raises:
        ConfigError: there is no such profile, or its file isn't YAML.
    """
    if profile not in profiles(root):
        raise ConfigError(
            f"There is no profile {shown(profile)}: choose from {listed(profiles(root))}, or add a "
            "folder to workflow/profiles."
        )
    path = root / "workflow/profiles" / profile / "config.yaml"
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"The profile {profile} is not valid YAML: mend its config.yaml.") from (
            error
        )
    return str(said.get("executor", "local")) if isinstance(said, dict) else "local"


def _where(profile: str | None, jobs: int | None) -> list[str]:
    """Snakemake's options for where, and how many at once."""
    if profile is None:
        return ["--cores", str(jobs or 2)]
    executor_of(profile)
    chosen = ["--workflow-profile", f"workflow/profiles/{profile}"]
    return chosen if jobs is None else [*chosen, "--jobs", str(jobs)]


def _partitions(pages: Sequence[str], budget: BudgetName) -> dict[str, str | None]:
    """Page -> the partition that its job asks for. Pages of the whole book ask for none."""
    found: dict[str, str | None] = {}
    for page in pages:
        pair, _, chapter = page.rpartition("/")
        found[page] = asked(pair, chapter, budget)["slurm_partition"] if pair else None
    return found


@contextlib.contextmanager
def _jobs_of_slurm() -> Iterator[None]:
    """No job of this checkout outlives the run: one that was killed left its own to the next."""
    if left := slurm.cancel(ROOT):
        print(f"mechshift: cancelled {left} jobs that an earlier run left.", file=sys.stderr)
    try:
        yield
    finally:
        with contextlib.suppress(MechshiftError):  # Slurm has gone, and so may its jobs
            slurm.cancel(ROOT)


def _failure_on_slurm(sentences: Sequence[str]) -> NotebookError:
    """One sentence where one job failed, else one for each below the first."""
    kept = "pages of earlier successes are kept, and the same command goes on from there"
    if not sentences:
        return NotebookError(f"Not every job could be submitted: {kept}.")
    if len(sentences) == 1:
        return NotebookError(f"{sentences[0]}; {kept}.")
    error = NotebookError(f"{len(sentences)} jobs failed; {kept}.")
    for sentence in sentences:
        error.add_note(f"{sentence}.")
    return error


def out_of_date(root: Path = ROOT, *, budget: str = "book") -> list[str]:
    """The book's pages that aren't made of what lies here now: what they are made of was edited
    since, they were edited themselves, or their last run failed.

    Without Snakemake only the latter two are known.
    """
    pairs = book_pairs(root, budget)
    pages = [f"{pair.name}/{name}" for pair in pairs for name in pair.analyses]
    pages += book_pages(root)
    if importlib.util.find_spec("snakemake") is None:
        return [p for p in pages if not sealed(page_file(p, root), root / mark(p))]
    command = _snakemake("--summary", "--quiet", "host", root=root)
    command += ["--config", f"pairs={','.join(p.name for p in pairs)}", f"budget={budget}"]
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
