"""How to cite the project, from ``CITATION.cff`` alone."""

from __future__ import annotations

from pathlib import Path

import yaml

from mechshift_lib.config import ROOT
from mechshift_lib.errors import ConfigError


def citation_page(root: Path = ROOT) -> str:
    """Markdown with BibTeX entries of the project and of the work that it refers to.

    Raises:
        ConfigError: ``CITATION.cff`` lacks a field that a citation needs.
    """
    said = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    url = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    try:
        own = {
            "author": _names(said["authors"]),
            "title": f"{{{said['title']}}}",
            "year": str(said["date-released"])[:4],
            "version": str(said["version"]),
            "url": str(said.get("repository-code", url)),
        }
        entries = [_entry("software", "mechshift", own)]
        for work in said.get("references", []):
            first = work["authors"][0]
            fields = {
                "author": _names(work["authors"]),
                "title": f"{{{work['title']}}}",
                "year": str(work["year"]),
                "note": ", ".join(one["value"] for one in work.get("identifiers", [])),
            }
            key = f"{first.get('family-names', first.get('name', 'work')).lower()}{work['year']}"
            entries.append(_entry("article", key, {k: v for k, v in fields.items() if v}))
    except KeyError as error:
        raise ConfigError(f"CITATION.cff lacks {error.args[0]}: add it.") from error
    return "\n".join(["```bibtex", "\n\n".join(entries), "```"])


def _names(authors: list[dict[str, str]]) -> str:
    full = [
        ", ".join(filter(None, (one["family-names"], one.get("given-names"))))
        if "family-names" in one
        else f"{{{one['name']}}}"
        for one in authors
    ]
    return " and ".join(full)


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
