"""The file of a pair as the doctor proposes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mechshift_lib.config import ANALYSES, ROOT, FolderSource, ModelSpec, Pair, first_fault
from mechshift_lib.documents.plain_yaml import dump
from mechshift_lib.errors import ConfigError, listed, shown

if TYPE_CHECKING:
    from mechshift_lib.doctor.diagnosis import Diagnosis  # which loads torch

#: First line of a file that ``mechshift fork`` made, and ``mechshift unfork`` may remove.
MARK = "# Made by mechshift fork; mechshift unfork removes it."


def propose(
    name: str,
    diagnosis: Diagnosis,
    *,
    title: str | None = None,
    like: Pair | None = None,
    analyses: Sequence[str] = (),
    root: Path = ROOT,
) -> Pair:
    """A pair's file from what was measured.

    Args:
        name: name of the pair.
        diagnosis: of a healthy pair.
        title: heading in the book, by default the name.
        like: a pair whose tasks' options, budgets and chapters are taken over.
        analyses: chapters, by default those of ``like``, or all.
        root: folders inside of it are written relative to it.

    Raises:
        ConfigError: the name or a chapter can't be used.
    """
    assert diagnosis.arm is not None
    assert diagnosis.mdm is not None
    data: dict[str, Any] = {
        "name": name,
        "title": title or name,
        "description": "Added by mechshift fork. Say here what the models are and how the MDM was "
        "made from the ARM.",
        "tasks": list(diagnosis.tasks),
        "arm": _described(diagnosis.arm, root),
        "mdm": _described(diagnosis.mdm, root),
    }
    if options := {task: chosen for task, chosen in diagnosis.tasks.items() if chosen}:
        data["task_options"] = options
    if diagnosis.continued is not None:
        data["continued"] = _described(diagnosis.continued, root)
    chapters = list(analyses) or (list(like.analyses) if like else list(ANALYSES))
    if chapters != list(ANALYSES):
        data["analyses"] = chapters
    if like is not None:
        budgets = {key: value.model_dump() for key, value in like.budgets.items()}
        data["budgets"] = budgets
    try:
        return Pair.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"The pair can't be named or made so: {first_fault(error)}") from error


def check_chapters(chapters: Sequence[str]) -> None:
    """Refuse chapters that there aren't, before models are examined.

    Raises:
        ConfigError: one has another name.
    """
    for name in chapters:
        if name not in ANALYSES:
            raise ConfigError(f"Unknown chapter {shown(name)}: choose from {listed(ANALYSES)}.")


def as_yaml(pair: Pair) -> str:
    """A pair's file; what has its default value is left out."""
    return dump(pair.model_dump(mode="json", exclude_defaults=True))


def _described(spec: ModelSpec, root: Path) -> dict[str, Any]:
    """A model's declaration, with a path relative to the checkout where it lies inside."""
    source = spec.source
    if isinstance(source, FolderSource) and Path(source.path).is_relative_to(root):
        path = Path(source.path).relative_to(root).as_posix()
        spec = spec.model_copy(update={"source": FolderSource(kind="folder", path=path)})
    return spec.model_dump(mode="json", exclude_none=True)
