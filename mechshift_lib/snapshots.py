"""Where fetched models of the hub lie, and what is noted of each.

Loading never downloads. ``mechshift fetch`` (:mod:`mechshift_lib.hub`) puts an ordinary Hugging
Face folder here, and a pair's file that names the repository at that revision then means this
folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mechshift_lib.documents.cache import cache_root
from mechshift_lib.errors import ModelError

#: File of a fetched folder that says what it is; written last, so a folder that has it is whole.
NOTE = "mechshift.json"


def snapshot_folder(repo: str, revision: str) -> Path:
    """The folder of a repository at a revision, whether it is there or not."""
    return cache_root() / "hub" / repo.replace("/", "--") / revision


@dataclass(frozen=True)
class Snapshot:
    """What a fetched folder says of itself.

    Attributes:
        repo: the hub's repository.
        revision: its commit, 40 hex digits.
        mask_token: the mask token that was asked for by its id, as text.
        opened_as: the architecture of transformers that the weights are read with.
        sha256: name of each weights file -> its hash, as it was fetched.
    """

    repo: str
    revision: str
    mask_token: str | None
    opened_as: str
    sha256: dict[str, str]


def write_note(folder: Path, snapshot: Snapshot) -> None:
    """Note what a folder is; it counts as fetched from then on."""
    text = json.dumps(asdict(snapshot), indent=1, sort_keys=True)
    (folder / NOTE).write_text(text, encoding="utf-8")


def read_snapshot(repo: str, revision: str) -> Snapshot | None:
    """The note of a fetched folder, or ``None`` where nothing was fetched.

    Raises:
        ModelError: the note is damaged.
    """
    path = snapshot_folder(repo, revision) / NOTE
    try:
        return Snapshot(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path} is damaged: delete the folder that it lies in and run mechshift fetch again."
        ) from error
