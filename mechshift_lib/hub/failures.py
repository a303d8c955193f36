"""What can go wrong between here and the hub, each in one sentence with the way out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors

from mechshift_lib.config import HubSource
from mechshift_lib.documents.files import sentence_of
from mechshift_lib.errors import ModelError

#: What is said wherever a fetch stopped half-way.
RESUMES = "say the same command again, files that are whole already are kept"


@contextmanager
def spoken(source: HubSource) -> Iterator[None]:
    """Within, what the hub, the network or the disk refuses is raised as one sentence.

    Raises:
        ModelError: with what to change.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        said = sentence(error, source)
        if said is None:
            raise
        raise ModelError(said) from error


def sentence(error: Exception, source: HubSource) -> str | None:
    """What went wrong and what to do, or ``None`` where it is a defect of the library."""
    repo = source.repo
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{repo} is gated: accept its terms at https://huggingface.co/{repo}, make a token at "
            "https://huggingface.co/settings/tokens, and say hf auth login or set HF_TOKEN."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{repo} has no revision {source.revision[:12]}…: copy 40 hex digits from "
            f"https://huggingface.co/{repo}/commits/main."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"The hub has no repository {repo} that you may read: correct its name, or say "
            "hf auth login if it is private."
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo} can't be fetched while HF_HUB_OFFLINE is set: unset it."
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        return f"The hub answered {status} for {repo}: wait a minute and {RESUMES}."
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.HTTPError, ConnectionError)):
        return f"The hub can't be reached for {repo}: check the network and {RESUMES}."
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        said = sentence_of(error, doing="write")
        return f"The disk is full: make room and {RESUMES}." if full else said
    return None
