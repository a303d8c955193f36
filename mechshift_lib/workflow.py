"""Runs the workflow: which notebooks are out of date, and executing just those."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mechshift_lib.config import ANALYSES, ROOT, check_checkout, load_pair
from mechshift_lib.errors import ConfigError
from mechshift_lib.execution import NotebookError
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


def targets(pairs: Sequence[str], analyses: Sequence[str]) -> list[str]:
    """The executed notebooks that these pairs and analyses make, relative to the root.

    No analyses means those that each pair has.

    Raises:
        ConfigError: an analysis or a pair doesn't exist, or a pair doesn't have an analysis.
        ModelError: a checkpoint of a pair is missing.
    """
    unknown = sorted(set(analyses) - set(ANALYSES))
    if unknown:
        raise ConfigError(
            f"Unknown analysis {', '.join(unknown)}: choose from {', '.join(ANALYSES)}."
        )
    wanted = []
    for name in pairs:
        pair = load_pair(name)
        absent = [analysis for analysis in analyses if analysis not in pair.analyses]
        if absent:
            raise ConfigError(
                f"Pair {name!r} has no {', '.join(absent)}: add it to `analyses` in its file."
            )
        for role in pair.roles:
            for seed in pair.seeds:
                model_hash(pair.model(role, seed))
        chosen = analyses or pair.analyses
        wanted += [f"book/executed/{name}/{analysis}.ipynb" for analysis in chosen]
    return wanted


def run_workflow(
    pairs: Sequence[str] = (),
    analyses: Sequence[str] = (),
    *,
    budget: str = "book",
    jobs: int = 2,
    pages: Sequence[str] = (),
) -> None:
    """Execute every notebook that is missing or out of date, and what it depends on.

    Args:
        pairs: names of pairs; none means those of the book.
        analyses: some of :data:`ANALYSES`; none means all that a pair has.
        budget: ``"book"`` or ``"full"``.
        jobs: notebooks at once, one thread each.
        pages: also these pages of the whole book, some of :func:`book_pages`.

    Raises:
        ConfigError: an argument is unknown, a pair lacks an analysis, or Snakemake isn't installed.
        NotebookError: a notebook failed; its own sentence was printed before.
    """
    check_checkout()
    if importlib.util.find_spec("snakemake") is None:
        raise ConfigError("Snakemake is missing: install it with pip install -e '.[workflow]'.")
    chosen = list(pairs) or default_pairs()
    wanted = targets(chosen, list(analyses))
    wanted += [f"book/executed/{page}.ipynb" for page in pages]
    command = [sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    command += ["--directory", str(ROOT), "--cores", str(jobs), "--quiet", "rules", "host"]
    first = [x for x in wanted if Path(x).parent.name in workflow_config().get("first", [])]
    command += ["--prioritize", *first] if first else []
    command += ["--config", f"pairs={','.join(chosen)}", f"budget={budget}", "--", *wanted]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise NotebookError("Not every notebook ran: the sentences above say which and why.")
