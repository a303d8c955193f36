"""A fetched repository as an ordinary folder: what loading reads, and nothing else.

Weights whose names stay are linked from the hub's cache, others are written anew, one file at a
time. The folder appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer

from mechshift_lib.config import FolderSource, HubSource, ModelSpec
from mechshift_lib.documents.files import read_json
from mechshift_lib.errors import ModelError
from mechshift_lib.hub.forms import FORMS, form_of
from mechshift_lib.hub.planning import BESIDE, Plan, size_of
from mechshift_lib.snapshots import NOTE, Snapshot, snapshot_folder, write_note

#: Mask token that a tokenizer gets where a model has an id for one and the tokenizer hasn't.
ADDED_MASK = "[MASK]"
#: Buffers that old versions of transformers saved among GPT-2's weights.
_BUFFERS = (".attn.bias", ".attn.masked_bias")
_INDEX = "model.safetensors.index.json"
_EMBEDDINGS = ("transformer.wte.weight", "wte.weight", "model.embed_tokens.weight")


def as_folder(raw: Path, plan: Plan, spec: ModelSpec) -> Path:
    """The plain folder of a model, made from what was fetched.

    Args:
        raw: folder with the files of the plan.
        plan: what was fetched.
        spec: how its pair declares it: mask token, size.

    Raises:
        ModelError: the files are damaged, or aren't those of the model that was declared.
    """
    source = plan.source
    folder = snapshot_folder(source.repo, source.revision)
    if (folder / NOTE).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        rows = _weights(raw, temporary, plan)
        config = _config(raw, temporary, plan, rows)
        _beside(raw, temporary, plan)
        mask = _mask(temporary, spec, rows)
        opened_as = str(config.get("model_type"))
        note = Snapshot(source.repo, source.revision, mask, opened_as, dict(plan.hashes))
        write_note(temporary, note)
        shutil.rmtree(folder, ignore_errors=True)  # a folder without its note is no snapshot
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / NOTE).is_file():  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _weights(raw: Path, folder: Path, plan: Plan) -> int:
    """Weights under transformers' names; returns the rows of the embedding."""
    rows = 0
    names: dict[str, str] = {}
    for file in sorted(name for name in plan.sizes if name.endswith(".safetensors")):
        path = raw / file
        try:
            with safe_open(path, framework="pt") as stored:
                keys = list(stored.keys())
                new = {key: plan.form.renamed(key) for key in keys}
                for key in keys:
                    if new[key] in _EMBEDDINGS:
                        rows = stored.get_slice(key).get_shape()[0]
                if all(key == name for key, name in new.items()):
                    (folder / file).symlink_to(path.resolve())
                    names |= dict.fromkeys(keys, file)
                    continue
                kept = _kept(keys)
                tensors = {new[key]: stored.get_tensor(key).contiguous() for key in kept}
        except SafetensorError as error:
            raise ModelError(
                f"{file} of {plan.source.repo} is damaged: delete {path.resolve()} and fetch again."
            ) from error
        save_file(tensors, folder / file, metadata={"format": "pt"})
        names |= dict.fromkeys(tensors, file)
    if _INDEX in plan.sizes:
        text = json.dumps({"metadata": {}, "weight_map": names}, indent=1)
        (folder / _INDEX).write_text(text, encoding="utf-8")
    return rows


def _kept(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if not key.endswith(_BUFFERS)]


def _config(raw: Path, folder: Path, plan: Plan, rows: int) -> dict[str, Any]:
    """The configuration that transformers reads, with as many tokens as the embedding has rows."""
    config = plan.form.config(read_json(raw / "config.json", "The model's config.json", ModelError))
    if plan.form.renames and rows:
        config["vocab_size"] = rows
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return config


def _beside(raw: Path, folder: Path, plan: Plan) -> None:
    """Tokenizer and code; a tokenizer with code of its own becomes transformers' class."""
    for name in plan.sizes:
        if name == "config.json" or name.startswith("model.safetensors") or "-of-" in name:
            continue
        if not (folder / name).exists():
            shutil.copyfile(raw / name, folder / name)
    described = folder / "tokenizer_config.json"
    if plan.form.tokenizer and described.is_file():
        told = read_json(described, "The tokenizer's configuration", ModelError)
        told.pop("auto_map", None)
        told["tokenizer_class"] = plan.form.tokenizer
        described.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _mask(folder: Path, spec: ModelSpec, rows: int) -> str | None:
    """The mask token by its id, added to the tokenizer where that has none; None without an id."""
    if spec.mask_id is None:
        return None
    wanted = spec.mask_id
    if rows and wanted >= rows:
        raise ModelError(
            f"Mask id {wanted} lies beyond the {rows} rows of the embedding: correct mask_id."
        )
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    token = tokenizer.convert_ids_to_tokens(wanted) if wanted < len(tokenizer) else None
    if token is None:
        token = spec.mask_token or ADDED_MASK
        if len(tokenizer) != wanted or token in tokenizer.get_vocab():
            raise ModelError(
                f"The tokenizer has {len(tokenizer)} tokens and none with mask id {wanted}: "
                "correct mask_id, or name the mask_token."
            )
        tokenizer.add_special_tokens({"mask_token": token})
        tokenizer.save_pretrained(folder)
    elif spec.mask_token is not None and token != spec.mask_token:
        raise ModelError(
            f"Id {wanted} is {token!r} in the tokenizer, not {spec.mask_token!r}: correct mask_id "
            "or mask_token."
        )
    return str(token)


def opened(
    source: FolderSource, mask_id: int | None = None, mask_token: str | None = None
) -> FolderSource:
    """A folder of this machine as loading reads it: itself, or made anew from a published form.

    Somebody may have downloaded a Tiny-A2D or a DiffuGPT by other means. What is made of it lies in
    the library's cache under the hash of its weights.

    Args:
        source: the folder.
        mask_id: id of the mask, where the tokenizer may have no token for it: it gets one then.
        mask_token: which; by default :data:`ADDED_MASK`.

    Raises:
        ModelError: the files are damaged, or can't be read as an architecture of transformers; the
            mask's id is none of its embedding's, or doesn't follow the tokenizer's.
    """
    raw = Path(source.path)
    weights = sorted(raw.glob("*.safetensors"))
    if not (raw / "config.json").is_file() or not weights:
        return source  # loading says what is missing
    config = read_json(raw / "config.json", "The model's config.json", ModelError)
    form = form_of(config) if isinstance(config, dict) else FORMS["as it is"]
    try:
        plain = form.config(config).get("model_type") == config.get("model_type")
        renamed = any(form.renamed(name) != name for name in _names(weights))
        if plain and not renamed and mask_id is None:
            return source
    except SafetensorError:
        return source  # loading says that they are damaged
    hashes = {path.name: sha256(path) for path in weights}
    mask = {} if mask_id is None else {"mask": f"{mask_id} {mask_token}"}
    content = hashes | mask
    revision = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:40]
    sizes = {name: (raw / name).stat().st_size for name in BESIDE if (raw / name).is_file()}
    sizes |= {path.name: path.stat().st_size for path in weights}
    name = re.sub(r"[^\w.-]", "-", raw.name)
    of = HubSource(kind="hub", repo=f"local/{name}", revision=revision)
    size = size_of(of, form.config(config), sum(path.stat().st_size for path in weights))
    spec = ModelSpec.model_construct(source=of, mask_id=mask_id, mask_token=mask_token)
    made = as_folder(raw, Plan(of, sizes, hashes, form, size), spec)
    return FolderSource(kind="folder", path=str(made))


def mask_of(folder: FolderSource) -> str | None:
    """The mask token of what :func:`opened` made with a mask's id."""
    told = read_json(Path(folder.path) / NOTE, "The note of the folder", ModelError)
    return Snapshot(**told).mask_token


def _names(weights: Iterable[Path]) -> Iterator[str]:
    for path in weights:
        with safe_open(path, framework="pt") as stored:
            yield from stored.keys()


def sha256(path: Path) -> str:
    """Hash of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
