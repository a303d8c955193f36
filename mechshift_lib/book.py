"""The book: what is generated for its hand-written pages, and its build without a warning."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from mechshift_lib.config import ROOT, FolderSource, Pair, WheelSource, check_checkout, load_pair
from mechshift_lib.errors import ConfigError, MechshiftError
from mechshift_lib.processes import interruptible, run_child
from mechshift_lib.results.atomic import write_atomic
from mechshift_lib.workflow import book_pages, default_pairs

#: Cells of notebooks with this tag are shown on the landing page.
FINDING = "finding"
MATHJAX = "3.2.2"


class BookError(MechshiftError):
    """The book can't be built: a page is missing, or the build had a warning."""


def _write_if_changed(path: Path, text: str) -> None:
    """Leave an unchanged file alone, so that Sphinx doesn't read its page again."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def finding(cell: nbformat.NotebookNode) -> str:
    """What a cell tagged ``finding`` says: its Markdown outputs (not its figures)."""
    outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
    parts = ["".join(data["text/markdown"]).strip() for data in outputs if "text/markdown" in data]
    return "\n\n".join(part for part in parts if part)


def chapter_title(notebook: nbformat.NotebookNode, pair: Pair) -> str:
    """A chapter's heading without the name of its pair."""
    for cell in notebook.cells:
        heading = re.search(r"^# (.+)$", cell.source, re.M)
        if cell.cell_type == "markdown" and heading:
            return heading[1].strip().removesuffix(f": {pair.title}")
    raise BookError("A chapter's notebook has no heading: begin its first cell with '# '.")


def overview_page(executed: Path, pair: Pair, root: Path = ROOT) -> str:
    """Markdown of a pair's first page: its models, and what each of its chapters found.

    Args:
        executed: folder of the executed notebooks.
        pair: the pair; chapters that are not executed yet are left out.
        root: the checkout.

    Returns:
        MyST markdown of ``book/generated/PAIR.md``.
    """
    lines = [f"# {pair.title}", "", pair.description.strip(), "", pairs_table([pair], root), ""]
    for analysis in pair.analyses:
        path = executed / pair.name / f"{analysis}.ipynb"
        if not path.is_file():
            continue
        notebook = nbformat.read(path, as_version=4)
        link = f"../executed/{pair.name}/{analysis}.ipynb"
        lines += [f"## [{chapter_title(notebook, pair)}]({link})", ""]
        tagged = [c for c in notebook.cells if FINDING in c.metadata.get("tags", [])]
        lines += [f"{text}\n" for text in map(finding, tagged) if text]
    return "\n".join(lines)


def verdicts_page(executed: Path) -> str:
    """Markdown of the verdicts on all claims, from their executed page.

    Args:
        executed: folder of the executed notebooks.

    Returns:
        MyST markdown to be included in ``book/index.md``.

    Raises:
        BookError: the page of verdicts isn't executed, or found nothing.
    """
    path = executed / "verdicts.ipynb"
    cells = nbformat.read(path, as_version=4).cells if path.is_file() else []
    texts = [finding(cell) for cell in cells if FINDING in cell.metadata.get("tags", [])]
    if not any(texts):
        raise BookError("The page of verdicts is not executed yet: say mechshift book.")
    return "\n\n".join(texts)


def findings_page(executed: Path, pairs: Sequence[Pair]) -> str:
    """Markdown of one line a pair: links to its overview and its executed chapters.

    Args:
        executed: folder of the executed notebooks.
        pairs: the pairs, in the book's order.

    Returns:
        MyST markdown to be included in ``book/index.md``.
    """
    lines: list[str] = []
    for pair in pairs:
        there = [n for n in pair.analyses if (executed / pair.name / f"{n}.ipynb").is_file()]
        pages = ", ".join(f"[{name}](executed/{pair.name}/{name}.ipynb)" for name in there)
        lines += [f"- [{pair.title}](generated/{pair.name}.md): {pages}"]
    return "\n".join(lines)


def shape(pair: Pair, root: Path = ROOT) -> dict[str, Any]:
    """Architecture and size of a pair's ARM, read from its checkpoint's own description.

    Returns:
        ``architecture, layers, heads, kv_heads, width``.
    """
    source = pair.arm.at_seed(pair.seeds[0]).source
    if isinstance(source, FolderSource):
        from transformers import AutoConfig  # seconds to import

        from mechshift_lib.models.architectures import anatomy_of
        from mechshift_lib.models.shape import shape_of

        config = AutoConfig.from_pretrained(root / source.path, local_files_only=True)
        found = shape_of(config, anatomy_of(config))
        return {
            "architecture": config.architectures[0],
            "layers": found.n_layers,
            "heads": found.n_heads,
            "kv_heads": found.n_kv_heads,
            "width": found.d_model,
        }
    if isinstance(source, WheelSource):
        import importlib.metadata

        from gguf import GGUFReader

        file = importlib.metadata.distribution(source.distribution).locate_file(source.file)
        fields = GGUFReader(str(file)).fields
        name = fields["general.architecture"].contents()
        return {
            "architecture": str(name).capitalize(),
            "layers": fields[f"{name}.block_count"].contents(),
            "heads": fields[f"{name}.attention.head_count"].contents(),
            "kv_heads": fields[f"{name}.attention.head_count_kv"].contents(),
            "width": fields[f"{name}.embedding_length"].contents(),
        }
    return {"architecture": source.repo}


def pairs_table(pairs: Sequence[Pair], root: Path = ROOT) -> str:
    """Markdown table of the pairs, from their files and checkpoints."""
    head = ("pair", "architecture", "layers × heads (KV)", "width", "tasks", "training seeds")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for pair in pairs:
        has = shape(pair, root)
        size = f"{has['layers']} × {has['heads']} ({has['kv_heads']})" if "layers" in has else "–"
        cells = (
            f"**{pair.title}** (`{pair.name}`)",
            has["architecture"].removesuffix("ForCausalLM"),
            size,
            str(has.get("width", "–")),
            ", ".join(pair.tasks),
            ", ".join(map(str, pair.seeds)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def pairs_page(pairs: Sequence[Pair], root: Path = ROOT) -> str:
    """Markdown of :func:`pairs_table` and the pairs' descriptions."""
    described = [f"*{pair.title}*: {pair.description.strip()}\n" for pair in pairs]
    return "\n".join([pairs_table(pairs, root), "", *described])


def vendor_mathjax(root: Path = ROOT) -> bool:
    """Put MathJax beside the book, so that equations show without a network.

    Returns:
        Whether it is there. Without npm, or without a network, the pages fall back to its usual
        address on the web.
    """
    folder = root / "book" / "vendor" / "mathjax"
    if (folder / "tex-mml-chtml.js").is_file():
        return True
    npm = shutil.which("npm")
    if npm is None:
        return False
    with tempfile.TemporaryDirectory(prefix="mechshift-npm-") as scratch:
        command = [npm, "pack", "--silent", f"mathjax@{MATHJAX}"]
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError):
            return False
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
            archive.extractall(scratch, filter="data")
        es5 = Path(scratch) / "package" / "es5"
        made = folder.with_name("mathjax.partial")
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(es5 / "output" / "chtml", made / "output" / "chtml")
        for part in ("input/tex/extensions", "a11y", "sre"):
            shutil.copytree(es5 / part, made / part)
        shutil.copy(es5 / "tex-mml-chtml.js", made)
        made.rename(folder)
    return True


def generate(root: Path = ROOT, stale: Sequence[str] = ()) -> None:
    """Write ``book/generated``: what hand-written pages include, and which pages aren't fresh."""
    from mechshift_lib.plots.graph import graph_svg  # drawing takes a second to import

    pairs = [load_pair(name, root) for name in default_pairs(root)]
    generated = root / "book" / "generated"
    _write_if_changed(generated / "pairs.md", pairs_page(pairs, root) + "\n")
    executed = root / "book" / "executed"
    _write_if_changed(generated / "findings.md", findings_page(executed, pairs) + "\n")
    _write_if_changed(generated / "verdicts.md", verdicts_page(executed) + "\n")
    for pair in pairs:
        _write_if_changed(generated / f"{pair.name}.md", overview_page(executed, pair, root) + "\n")
    _write_if_changed(generated / "graph.svg", graph_svg())
    _write_if_changed(generated / "stale.json", json.dumps(sorted(stale)) + "\n")


def build_book(root: Path = ROOT, out: Path | None = None, *, stale: Sequence[str] = ()) -> Path:
    """Build the book from the executed notebooks; only changed pages are made anew.

    Args:
        root: the checkout.
        out: folder in which ``_build`` is made; by default the checkout.
        stale: pages that aren't fresh, such as ``"tiny-qwen/circuits"``: they will say so.

    Returns:
        Path of the first page.

    Raises:
        BookError: a page that the table of contents names is missing, or the build had a warning.
        ConfigError: Jupyter Book isn't installed.
        StoppedError: a signal asked the build to end.
    """
    check_checkout(root)
    if importlib.util.find_spec("jupyter_book") is None:
        raise ConfigError("Jupyter Book is missing: install it with pip install -e '.[book]'.")
    pairs = [load_pair(name, root) for name in default_pairs(root)]
    expected = [f"{pair.name}/{name}" for pair in pairs for name in pair.analyses]
    expected += book_pages(root)
    absent = [n for n in expected if not (root / "book/executed" / f"{n}.ipynb").is_file()]
    if absent:
        raise BookError(
            f"{len(absent)} pages are not executed yet ({absent[0]}, ...): say mechshift book."
        )
    generate(root, stale)
    out = out or root
    # It has no __main__ to run by -m.
    start = "from mechshift_lib.processes import end_with_owner; end_with_owner(); "
    start += "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(root)]
    command += ["--path-output", str(out), "-W", "-n", "--keep-going", "--quiet"]
    with interruptible():
        if not vendor_mathjax(root):
            print("MathJax comes from the web: npm, or a network, is missing.", file=sys.stderr)
        done = run_child(command, cwd=root, capture=True)
    page = out / "_build" / "html" / "index.html"
    if done.returncode or not page.is_file():
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
        raise BookError("The book has a warning or an error: it stands above.")
    return page
