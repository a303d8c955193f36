"""Models by the name that they have on the Hugging Face hub: fetched once, then a folder."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mechshift_lib.documents.files import sentence_of
from mechshift_lib.errors import ConfigError, ModelError, shown
from mechshift_lib.models.opening import shortened
from mechshift_lib.models.sources import named

#: ``owner/name``, with or without ``@revision``.
_NAME = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?")
#: How the cache names what the hub gives the hash of.
_SHA256 = re.compile("[0-9a-f]{64}")
#: What is fetched of a repository: no pickle, and no code.
_WORDS = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHTS = ("*.safetensors",)


def model_folder(model: str | Path, revision: str | None = None, *, weights: bool = True) -> Path:
    """The folder of a model: the one that is named, or the one that the hub's model is fetched to.

    A hub's model is kept in the Hugging Face cache, so that it is fetched once; of a download that
    was broken off, whole files are kept. Without a network, what the cache holds is taken. Only
    safetensors, configuration and tokenizer are fetched, and no code of the repository is run.

    Args:
        model: a folder, or ``owner/name`` or ``owner/name@revision`` of the hub.
        revision: branch, tag or commit of the hub's model; by default its newest, and which
            commit that is, is said on standard error.
        weights: fetch the weights too, not only configuration and tokenizer.

    Raises:
        ConfigError: a revision is given for a folder, or two of them.
        ModelError: the hub can't be reached or doesn't give the model, the model has no
            safetensors, or there is no room for it.
    """
    found = _NAME.fullmatch(str(model))
    if found is None or Path(model).exists():
        if revision is not None:
            raise ConfigError(
                f"--revision is for a model of the hub, owner/name, and {shown(str(model))} is a "
                "folder: leave it out."
            )
        return readable(Path(model)) if weights else Path(model)
    if revision is not None and found["revision"] is not None:
        raise ConfigError(
            f"{shown(str(model))} names a revision and so does --revision: give one of them."
        )
    folder = _fetched(found["repo"], revision or found["revision"], weights)
    return readable(folder) if weights else folder


def readable(folder: Path) -> Path:
    """The folder itself, or what is made of one that holds a form that only its own code reads.

    So the published forms of MDMs (Dream, LLaDA, Tiny-A2D, DiffuGPT) are opened without their code.

    Raises:
        ModelError: the files are damaged.
    """
    from mechshift_lib.config import FolderSource
    from mechshift_lib.hub.folders import opened  # brings torch, which takes seconds

    return Path(opened(FolderSource(kind="folder", path=str(folder))).path)


def hub_name(model: str | Path, revision: str | None = None) -> tuple[str, str | None] | None:
    """A hub's model and the revision that is asked for; ``None`` for a folder."""
    found = _NAME.fullmatch(str(model))
    if found is None or Path(model).exists():
        return None
    return found["repo"], revision or found["revision"]


def _fetched(repo: str, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    patterns = [*_WORDS, *(_WEIGHTS if weights else ())]
    try:
        about = HfApi().model_info(repo, revision=revision, files_metadata=True)
        if weights:
            _check_files(repo, about.siblings or [])
        if revision != about.sha:
            print(f"mechshift: {repo} is taken at commit {about.sha}.", file=sys.stderr)
        before = _blobs(repo)
        # by its revision, so that the cache knows it by that, too, when there is no network
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise ModelError(f"{shown(repo)} is no name of the hub: {shortened(error)}.") from error
    except (OSError, HTTPError) as error:
        if not _answered(error) and (kept := _kept(repo, revision, patterns)) is not None:
            return kept
        raise ModelError(_why_not(repo, revision, error)) from error
    _check_hashes(repo, folder, before)
    return folder


def _blobs(repo: str) -> set[str]:
    """Names of the contents that the cache has of a model."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "blobs"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _check_hashes(repo: str, folder: Path, before: set[str]) -> None:
    """Hold weights that have just come against the hub's sha256, by which the cache names them.

    Raises:
        ModelError: one has another content; it is deleted.
    """
    for path in sorted(folder.glob(_WEIGHTS[0])):
        content = path.resolve()
        if content.name in before or _SHA256.fullmatch(content.name) is None:
            continue
        with content.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != content.name:
            path.unlink()
            content.unlink(missing_ok=True)
            raise ModelError(
                f"{path.name} of {repo} has sha256 {found[:12]}… instead of {content.name[:12]}…, "
                "so it was deleted: say the command again."
            )


def _kept(repo: str, revision: str | None, patterns: list[str]) -> Path | None:
    """What the cache has of a model when the hub can't be asked, if it is all there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repo, revision=revision, allow_patterns=patterns, local_files_only=True
        )
    except (LocalEntryNotFoundError, ValueError):
        return None
    if _WEIGHTS[0] in patterns and not any(Path(found).glob(_WEIGHTS[0])):
        return None  # only the configuration was fetched
    print(
        f"mechshift: The hub can't be reached, so {repo} is taken as it was fetched before, at "
        f"commit {Path(found).name}.",
        file=sys.stderr,
    )
    return Path(found)


def _answered(error: Exception) -> bool:
    """Whether the hub, or this machine's disk, said no; otherwise the hub wasn't reached."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) or (
        isinstance(error, OSError) and sentence_of(error) is not None
    )


def _why_not(repo: str, revision: str | None, error: Exception) -> str:
    """Why the hub's model isn't there, and the way out."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return (
            f"{repo} is gated: accept its terms on its page of the hub, then say who you are with "
            "`hf auth login` or the variable HF_TOKEN."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder {shown(repo)} here and no such model on the hub, or it is "
            "private: correct the name, or say who you are with `hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return (
            f"{repo} has no revision {shown(revision)}: give a branch, tag or commit that its page "
            "lists, or leave --revision out."
        )
    if isinstance(error, HfHubHTTPError):
        return f"The hub doesn't give {repo} ({shortened(error)}): try again later."
    if isinstance(error, OSError) and (sentence := sentence_of(error, doing="write")):
        return f"{repo} can't be fetched. {sentence}"
    return (
        f"There is no folder {shown(repo)} here, and the Hugging Face hub can't be reached "
        f"({shortened(error)}): connect to the network, or fetch it elsewhere with "
        f"`hf download {named(repo)} --local-dir FOLDER` and give FOLDER."
    )


def _check_files(repo: str, files: list[Any]) -> None:
    """Refuse, before anything is fetched, what can't be read or doesn't fit on the disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    weights = [x for x in files if x.rfilename.endswith(".safetensors")]
    if not weights:
        raise ModelError(
            f"{repo} has no safetensors on the hub: its weights would be a pickle, which can run "
            "code; take another revision, or convert it where you trust it."
        )
    folder = Path(HF_HUB_CACHE)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    needed, free = sum(x.size or 0 for x in weights), shutil.disk_usage(folder).free
    kept = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    if needed > free and not kept.exists():  # what is there in part needs less
        raise ModelError(
            f"{repo} has {needed / 1e9:.1f} GB of weights and {folder} has room for "
            f"{free / 1e9:.1f} GB: free some, or set HF_HOME to a larger disk."
        )
