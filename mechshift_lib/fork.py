"""A new pair in the book, and out of it again: its file, its chapters in the table of contents."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat

from mechshift_lib.config import LARGEST_PAIR, ROOT, Pair, check_checkout, pair_names
from mechshift_lib.doctor.proposal import MARK, as_yaml
from mechshift_lib.documents.files import read_text
from mechshift_lib.documents.plain_yaml import dump
from mechshift_lib.errors import ConfigError, listed, shown
from mechshift_lib.results.atomic import write_atomic

#: Part of the table of contents that has every pair's chapters; a new pair is put last in it.
PAIRS_PART = "Each pair in full"


def check_free(name: str, root: Path = ROOT) -> None:
    """Refuse the name of a pair that ``mechshift fork`` didn't make.

    Raises:
        ConfigError: there is such a pair.
    """
    path = root / "data" / "pairs" / f"{name}.yaml"
    if path.exists() and not _pair_text(path).startswith(MARK):
        raise ConfigError(f"There is a pair {name!r} already: choose another name.")


def add_pair(pair: Pair, root: Path = ROOT) -> list[Path]:
    """Write a pair's file and give it its part in the book.

    Each file is replaced whole, and a second call finishes what an interrupted one began.

    Returns:
        The files that were written.

    Raises:
        ConfigError: another pair has this name, or the book's files aren't as expected.
    """
    check_checkout(root)
    path = root / "data" / "pairs" / f"{pair.name}.yaml"
    text = f"{MARK}\n{as_yaml(pair)}"
    if path.exists() and _pair_text(path) != text:
        raise ConfigError(
            f"There is a pair {pair.name!r} already: choose another name, or say "
            f"mechshift unfork {pair.name} first."
        )
    config, toc = root / "workflow" / "config.yaml", root / "_toc.yml"
    new = {
        path: text,
        config: _with_pair(_book_text(config), pair.name),
        toc: _with_part(_book_text(toc), pair, root),
    }
    for file, content in new.items():
        write_atomic(file, content)
    return list(new)


def remove_pair(name: str, root: Path = ROOT) -> list[Path]:
    """Undo :func:`add_pair`; stored results stay, as they are no part of the book.

    Returns:
        What was changed or removed.

    Raises:
        ConfigError: there is no such pair, or it wasn't made by ``mechshift fork``.
    """
    check_checkout(root)
    path = root / "data" / "pairs" / f"{name}.yaml"
    if name not in pair_names(root):
        raise ConfigError(f"There is no pair {shown(name)}: there are {listed(pair_names(root))}.")
    if not _pair_text(path).startswith(MARK):
        raise ConfigError(
            f"{path.name} wasn't made by mechshift fork: remove it, its line in "
            "workflow/config.yaml and its chapters in _toc.yml by hand."
        )
    config, toc = root / "workflow" / "config.yaml", root / "_toc.yml"
    write_atomic(toc, _without_part(_book_text(toc), name))
    write_atomic(config, _without_pair(_book_text(config), name))
    made = [root / "book" / "executed" / name, root / "book" / "generated" / f"{name}.md", path]
    for file in made:
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    return [toc, config, *made]


def _pair_text(path: Path) -> str:
    return read_text(path, "Pair file", ConfigError, LARGEST_PAIR)


def _book_text(path: Path) -> str:
    return read_text(path, "The book's file", ConfigError)


def chapter_heading(analysis: str, root: Path = ROOT) -> str:
    """Heading of a chapter's notebook."""
    cells = nbformat.read(root / "notebooks" / f"{analysis}.ipynb", as_version=4).cells
    found = re.search(r"^# (.+)$", "\n".join(cell.source for cell in cells), re.M)
    return found[1].strip() if found else analysis


_PAIRS = re.compile(r"^pairs: \[(.*)\]$", re.M)


def _pairs(text: str) -> list[str]:
    found = _PAIRS.search(text)
    if found is None:
        raise ConfigError("workflow/config.yaml has no line 'pairs: [...]': restore it.")
    return [name.strip() for name in found[1].split(",") if name.strip()]


def _with_pair(text: str, name: str) -> str:
    names = _pairs(text)
    names += [] if name in names else [name]
    return _PAIRS.sub(f"pairs: [{', '.join(names)}]", text)


def _without_pair(text: str, name: str) -> str:
    return _PAIRS.sub(f"pairs: [{', '.join(x for x in _pairs(text) if x != name)}]", text)


def _part(name: str) -> re.Pattern[str]:
    """A pair's chapters in the table of contents: its first page and the sections below."""
    first = re.escape(f"      - file: book/generated/{name}\n")
    return re.compile(rf"^{first}(?:        [^\n]*\n)*", re.M)


_ALL_PAIRS = re.compile(rf"^  - caption: {PAIRS_PART}\n    chapters:\n(?:      [^\n]*\n)*", re.M)


def _with_part(text: str, pair: Pair, root: Path) -> str:
    """The table of contents with the pair's chapters, after those of the others."""
    text = _without_part(text, pair.name)
    title = dump(pair.title).removesuffix("...\n").strip()
    lines = [f"      - file: book/generated/{pair.name}", f"        title: {title}"]
    lines += ["        sections:"]
    for analysis in pair.analyses:
        lines += [f"          - file: book/executed/{pair.name}/{analysis}"]
        lines += [f"            title: {chapter_heading(analysis, root)}"]
    found = _ALL_PAIRS.search(text)
    if found is None:
        raise ConfigError(
            f"_toc.yml has no part '{PAIRS_PART}' with chapters, which a new pair joins: restore "
            "it."
        )
    return text[: found.end()] + "\n".join(lines) + "\n" + text[found.end() :]


def _without_part(text: str, name: str) -> str:
    return _part(name).sub("", text)
