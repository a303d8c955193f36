"""What fetching a model takes, known before the first byte of its weights is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.hf_api import RepoSibling

from mechshift_lib.config import HubSource, ModelSize
from mechshift_lib.documents.cache import cache_root
from mechshift_lib.documents.files import read_json
from mechshift_lib.errors import ModelError
from mechshift_lib.hub.failures import spoken
from mechshift_lib.hub.forms import FORMS, Form, form_of

#: Files that are read beside the weights.
BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "model.safetensors.index.json",
)
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What is to be fetched of one repository.

    Attributes:
        source: the repository and its revision.
        sizes: name of each file -> its bytes.
        hashes: name of each weights file -> its sha256, as the hub states it.
        form: how its weights become those of an architecture of transformers.
        size: how large it is, by its configuration and its weights files.
        there: bytes of it that lie in the hub's cache already.
    """

    source: HubSource
    sizes: Mapping[str, int]
    hashes: Mapping[str, str]
    form: Form
    size: ModelSize
    there: int = 0

    @property
    def to_fetch(self) -> int:
        """Bytes that come over the network."""
        return sum(self.sizes.values()) - self.there

    @property
    def weights(self) -> int:
        """Bytes of the weights files."""
        return sum(size for name, size in self.sizes.items() if name.endswith(".safetensors"))

    @property
    def to_keep(self) -> int:
        """Bytes that are written beside the hub's cache, where the weights get other names."""
        return self.weights if self.form.renames else 0


def plan(source: HubSource) -> Plan:
    """Ask the hub what a repository holds at its revision; nothing but config.json is fetched.

    Raises:
        ModelError: no revision is pinned, the hub can't be reached or refuses, or there are no
            weights in safetensors.
    """
    if not source.pinned:
        raise ModelError(
            f"No revision of {source.repo} is pinned, so nothing is fetched: copy 40 hex digits "
            f"from https://huggingface.co/{source.repo}/commits/main."
        )
    with spoken(source):
        info = HfApi(endpoint=constants.ENDPOINT).model_info(
            source.repo, revision=source.revision, files_metadata=True
        )
        files = {file.rfilename: file for file in info.siblings or ()}
        config = hf_hub_download(
            source.repo, "config.json", revision=source.revision, endpoint=constants.ENDPOINT
        )
    wanted = _wanted(files, source)
    hashes = {
        name: str(file.lfs["sha256"])
        for name, file in wanted.items()
        if name.endswith(".safetensors") and file.lfs is not None
    }
    described = read_json(config, "The model's config.json", ModelError)
    form = FORMS["as it is"] if source.remote_code else form_of(described)
    cached = [
        name
        for name in wanted
        if isinstance(
            try_to_load_from_cache(source.repo, name, revision=source.revision), (str, Path)
        )
    ]
    sizes = {name: int(file.size or 0) for name, file in wanted.items()}
    weights = sum(sizes[name] for name in sizes if name.endswith(".safetensors"))
    size = size_of(source, form.config(described), weights)
    return Plan(source, sizes, hashes, form, size, sum(sizes[name] for name in cached))


#: Names of a model's numbers in the configurations of Llama, Qwen and GPT-2.
_NUMBERS = {
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "width": ("hidden_size", "n_embd"),
    "head_width": ("head_dim",),
    "hidden": ("intermediate_size", "n_inner"),
}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def size_of(source: HubSource, config: Mapping[str, Any], weights: int) -> ModelSize:
    """How large a model is, and whether its pair's file says so.

    Args:
        source: where it is from, with the size that is declared.
        config: its configuration, as transformers reads it.
        weights: bytes of its weights files.

    Raises:
        ModelError: a number is missing, or another than declared.
    """
    found: dict[str, Any] = {
        ours: next((config[name] for name in names if config.get(name) is not None), None)
        for ours, names in _NUMBERS.items()
    }
    heads, width = found["heads"], found["width"]
    if not all(isinstance(x, int) and x > 0 for x in (heads, width, found["layers"])):
        raise ModelError(
            f"config.json of {source.repo} doesn't say how many layers and heads it has: the "
            "library can't describe this model; see mechshift_lib/hub/forms.py."
        )
    found["kv_heads"] = found["kv_heads"] or heads
    found["head_width"] = found["head_width"] or width // heads
    found["hidden"] = found["hidden"] or 4 * width
    for ours, value in found.items():
        declared = getattr(source.size, ours, value)
        if declared != value:
            raise ModelError(
                f"{source.repo} has {ours} {value}, but the pair's file says {declared}: correct "
                "size there, by which memory is estimated."
            )
    stored = str(config.get("dtype") or config.get("torch_dtype") or source.stored)
    parameters = max(1, weights // _BYTES.get(stored, 4))
    return ModelSize.model_validate(found | {"parameters": parameters})


def _wanted(files: Mapping[str, RepoSibling], source: HubSource) -> dict[str, RepoSibling]:
    """The files that are read, of all that a repository has."""
    weights = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    if not weights:
        pickled = [name for name in files if name.endswith(PICKLED)]
        what = f"only {pickled[0]}, a pickle that could run code" if pickled else "no weights"
        raise ModelError(
            f"{source.repo} has {what} at this revision: choose a revision with .safetensors, or "
            "save the model again with save_pretrained and give that folder."
        )
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]  # the others are copies in another format or precision
    code = [name for name in files if name.endswith(".py")] if source.remote_code else []
    return {name: files[name] for name in (*weights, *BESIDE, *code) if name in files}


def check_disk(plans: list[Plan]) -> None:
    """Refuse, before anything is fetched, what the disks have no room for.

    Raises:
        ModelError: there is too little room.
    """
    wanted: dict[int, tuple[Path, int]] = {}
    for folder, sizes in (
        (Path(constants.HF_HUB_CACHE), [one.to_fetch for one in plans]),
        (cache_root(), [one.to_keep for one in plans]),
    ):
        there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        disk = there.stat().st_dev
        wanted[disk] = (there, wanted.get(disk, (there, 0))[1] + sum(sizes))
    for place, needed in wanted.values():
        free = shutil.disk_usage(place).free
        if needed > free:
            raise ModelError(
                f"Fetching takes {needed / GIB:.1f} GiB, but the disk of {place} has "
                f"{free / GIB:.1f} GiB free: make room, or set HF_HOME and MECHSHIFT_CACHE to a "
                "folder on another disk."
            )
