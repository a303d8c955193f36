"""Tokenizers that the page can run: whole words, split by patterns, as the tiny pairs' are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mechshift_lib.errors import ModelError


def read_tokenizer(folder: Path) -> dict[str, Any] | None:
    """What the page's tokenizer needs, or None where it can't run this one.

    Returns:
        ``vocabulary`` (words by id), ``special`` (words that are found before anything is split),
        ``splits`` (pattern, and whether what it matches is dropped), ``unknown`` (id), ``before``
        (ids in front of every text).

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        return _read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: take it from the repository again.") from error


def _read(content: dict[str, Any]) -> dict[str, Any] | None:
    model, ids = content["model"], content["model"].get("vocab", {})
    splits, before = _splits(content["pre_tokenizer"]), _before(content["post_processor"])
    added = content["added_tokens"]
    plain = (
        model["type"] == "WordLevel"
        and content["normalizer"] is None
        and sorted(ids.values()) == list(range(len(ids)))
        and all(ids.get(one["content"]) == one["id"] for one in added)
        and not any(one[how] for one in added for how in ("single_word", "lstrip", "rstrip"))
    )
    if not plain or splits is None or before is None:
        return None
    return {
        "vocabulary": sorted(ids, key=ids.__getitem__),
        "special": [one["content"] for one in added],
        "splits": splits,
        "unknown": ids[model["unk_token"]],
        "before": before,
    }


def _splits(before: dict[str, Any] | None) -> list[tuple[str, bool]] | None:
    """Patterns of a sequence of splits; None of anything else."""
    if before is None or before["type"] != "Sequence":
        return None
    found = []
    for step in before["pretokenizers"]:
        how = step.get("behavior")
        if step["type"] != "Split" or how not in ("Removed", "Isolated") or step["invert"]:
            return None
        if "Regex" not in step["pattern"]:
            return None
        found.append((step["pattern"]["Regex"], how == "Removed"))
    return found


def _before(after: dict[str, Any] | None) -> list[int] | None:
    """Ids that a template puts in front of a text; None where it puts something behind it."""
    if after is None:
        return []
    if after["type"] != "TemplateProcessing" or "Sequence" not in after["single"][-1]:
        return None
    names = [part["SpecialToken"]["id"] for part in after["single"][:-1]]
    return [i for name in names for i in after["special_tokens"][name]["ids"]]
