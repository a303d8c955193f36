"""Opening: weights and tokenizers as they lie in a folder or on the hub."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as hf_logging

from mechshift_lib.choices import Quantization
from mechshift_lib.errors import MechshiftError, ModelError, out_of_memory
from mechshift_lib.models.architectures import anatomy_of
from mechshift_lib.models.checks import embedding_rows
from mechshift_lib.models.quantising import keep_activations, quantisation
from mechshift_lib.models.sources import Located, named


def open_model(
    located: Located,
    dtype: torch.dtype,
    quantization: Quantization | None = None,
    device: str = "cpu",
) -> PreTrainedModel:
    """Read weights in ``dtype``, from safetensors only.

    Args:
        located: where they are.
        dtype: their precision in memory.
        quantization: how those of linear modules are stored instead.
        device: where a quantised model goes; any other is in main memory.

    Raises:
        ModelError: the architecture is unknown, weights are missing or damaged, can't be
            quantised, or don't fit into the memory.
    """
    options: dict[str, Any] = {}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(located.name, **located.options)
            anatomy = anatomy_of(config)
            if quantization is not None:
                how = quantisation(quantization, anatomy, dtype)
                options = {"quantization_config": how, "device_map": {"": device}}
            loaded: Any = _auto_class(config).from_pretrained(
                located.name,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                use_safetensors=True,
                **options,
                **located.options,
            )
        model: PreTrainedModel
        info: dict[str, Any]
        model, info = loaded
    except MechshiftError:
        raise
    except Exception as error:
        if said := out_of_memory(error):
            raise ModelError(said) from error
        if unknown(error):
            raise ModelError(
                f"The model at {named(located.name)} has an architecture that transformers doesn't "
                "have, and code of a folder isn't run: give a model of one that it has, or name "
                "the hub's repository in a pair's file, with remote_code."
            ) from error
        raise ModelError(
            f"The model at {named(located.name)} can't be read, so fetch or train it again "
            f"({shortened(error)})."
        ) from error
    lacking = sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"]))
    if lacking:
        raise ModelError(
            f"The model at {named(located.name)} lacks {len(lacking)} weights, such as "
            f"{lacking[0][:100]}: fetch or train it again."
        )
    if quantization is not None:
        keep_activations(model, dtype)
    return model


def unknown(error: Exception) -> bool:
    """Whether transformers says that only code of the model's own could read it."""
    return any(said in str(error) for said in ("custom code", "does not recognize this arch"))


def _auto_class(config: Any) -> Any:
    """``AutoModelForCausalLM``, but ``AutoModel`` where only that has the model (Dream).

    A model that has no unembedding is found out by its anatomy.
    """
    remote = getattr(config, "auto_map", None) or {}
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or "AutoModelForCausalLM" in remote
    return AutoModelForCausalLM if known else AutoModel


def open_tokenizer(located: Located, *, needed: bool = True) -> Any:
    """Read the tokenizer, or ``None`` where there is none.

    Of old folders, whose files some architectures' code no longer takes, also where it isn't
    ``needed``: whoever gives token ids needs none.

    Raises:
        ModelError: it can't be read.
    """
    if not located.has_tokenizer:
        return None
    folder = Path(located.name)
    old = folder.is_dir() and not (folder / "tokenizer.json").is_file()
    try:
        with quiet():
            return _tokenizer_class(located).from_pretrained(located.name, **located.options)
    except Exception as error:
        if old and not needed:
            return None
        advice = (
            "it has no tokenizer.json, so open it with the class that it was made for, such as "
            "GPT2Tokenizer, and save it again with save_pretrained"
            if old
            else "fetch or save it again"
        )
        raise ModelError(
            f"The tokenizer at {named(located.name)} can't be read: {advice} ({shortened(error)})."
        ) from error


def _tokenizer_class(located: Located) -> Any:
    """The plain fast tokenizer where a folder declares it, else what transformers chooses.

    For a Qwen2 model, transformers takes its own Qwen2 tokenizer whatever the folder declares, and
    so would split a word-level tokenizer's text into bytes.
    """
    path = Path(located.name) / "tokenizer_config.json"
    declared = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    plain = declared.get("tokenizer_class") in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return PreTrainedTokenizerFast if plain else AutoTokenizer


def check_tokenizer(tokenizer: Any, model: PreTrainedModel) -> None:
    """Check that the embedding knows every id of the tokenizer's own, and of what it adds to texts.

    Tokens that were added later and are in no text, such as a padding token, may lie beyond.

    Raises:
        ModelError: an id lies beyond the embedding.
    """
    known, added = embedding_rows(model), tokenizer.get_added_vocab()
    own = [i for token, i in tokenizer.get_vocab().items() if token not in added]
    last = max([*own, *tokenizer("")["input_ids"]], default=0)
    if last >= known:
        raise ModelError(
            f"The tokenizer has token id {last}, but the model's embedding only ids below {known}: "
            "give the tokenizer that belongs to the model, or lengthen its embedding "
            "(resize_token_embeddings)."
        )


def find_mask_id(tokenizer: Any, token: str, model: PreTrainedModel) -> int:
    """Id of the mask token.

    Raises:
        ModelError: there is no tokenizer, it doesn't know the token, or the embedding is too short.
    """
    if tokenizer is None:
        raise ModelError(f"Mask token {token!r} can't be found: the folder has no tokenizer.")
    mask_id = tokenizer.get_vocab().get(token)
    if mask_id is None:
        raise ModelError(f"The tokenizer has no mask token {token!r}: name one that it has.")
    if mask_id >= embedding_rows(model):
        raise ModelError(f"Mask token {token!r} has id {mask_id}, beyond the model's embedding.")
    return int(mask_id)


def shortened(error: Exception) -> str:
    """The first line of an error, at most 120 characters."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}".rstrip(" :.")


@contextmanager
def quiet() -> Iterator[None]:
    """Loading without progress bars and notices."""
    bar, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):  # the GGUF reader has a bar of its own
            yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()
