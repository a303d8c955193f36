"""Models as a command names them: refused before anything that takes long to load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mechshift_lib.config import FolderSource, HubSource, ModelSpec
from mechshift_lib.documents.files import real_path
from mechshift_lib.errors import ModelError


def folder_or_hub(text: str, *, remote_code: bool = False) -> FolderSource | HubSource:
    """The source that ``--arm`` or ``--mdm`` names: a folder, or ``owner/name@revision``.

    Raises:
        ModelError: it is neither a folder nor a repository with its revision.
    """
    if Path(text).expanduser().is_dir():
        return FolderSource(kind="folder", path=str(real_path(Path(text).expanduser())))
    repo, _, revision = text.partition("@")
    try:
        if repo.count("/") != 1 or Path(text).is_absolute():
            raise ValueError
        return HubSource(kind="hub", repo=repo, revision=revision, remote_code=remote_code)
    except (ValueError, ValidationError) as error:
        raise ModelError(
            f"{text!r} is neither a folder nor owner/name@revision with a revision of 40 hex "
            "digits: correct it."
        ) from error


def spec_of(
    source: Any,
    *,
    readout: str,
    mask_token: str | None = None,
    mask_id: int | None = None,
    dtype: str = "float32",
) -> ModelSpec:
    """A model's declaration before it is examined."""
    return ModelSpec.model_construct(
        source=source,
        adapter=None,
        attention="causal" if readout == "next-token" else "full",
        readout=readout,  # type: ignore[arg-type]
        mask_token=mask_token,
        mask_id=mask_id,
        dtype=dtype,  # type: ignore[arg-type]
    )
