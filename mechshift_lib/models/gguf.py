"""A GGUF file, read once by transformers and kept as an ordinary folder.

Parsing the file and converting its tokenizer takes 10 to 20 seconds, reading the folder less than
one. The folder's name holds the file's sha256 and the version of transformers that read it.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from mechshift_lib.documents.cache import cache_root, made_once
from mechshift_lib.models.sameness import DEQUANTISING, check_same, probe_logits


def as_folder(path: Path, digest: str) -> Path:
    """The folder (float32 safetensors, configuration, tokenizer) made from a GGUF file.

    Args:
        path: the GGUF file.
        digest: its sha256, already checked.

    Raises:
        ModelError: the cache folder can't be written, or the folder's model doesn't compute what
            the file's does.
    """
    folder = cache_root() / f"{path.stem}-{digest[:16]}-transformers-{transformers.__version__}"
    return made_once(folder, lambda place: _convert(path, place))


def _convert(path: Path, folder: Path) -> None:
    parent, name = str(path.parent), path.name
    config = AutoConfig.from_pretrained(parent, gguf_file=name)
    read = AutoModelForCausalLM.from_pretrained(
        parent, gguf_file=name, config=copy.deepcopy(config), dtype=torch.float32
    )
    # what was read counts as quantised and refuses to be saved; its weights are plain float32
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    check_same(DEQUANTISING, probe_logits(read.eval()), probe_logits(again.eval()))
    AutoTokenizer.from_pretrained(parent, gguf_file=name).save_pretrained(folder)
