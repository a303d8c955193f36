"""Adapters: a LoRA's product added to the weights, so that tracing sees a plain model."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from mechshift_lib.documents.packed import unpacked
from mechshift_lib.errors import ModelError
from mechshift_lib.models.checks import embedding_rows
from mechshift_lib.models.opening import quiet, shortened
from mechshift_lib.models.sameness import MERGING, check_same, probe_logits
from mechshift_lib.models.sources import named

WEIGHTS = "adapter_model.safetensors"


def merge_adapter(model: PreTrainedModel, path: Path) -> PreTrainedModel:
    """Add an adapter's product to the weights of its base, and prove that it is what was added.

    Where the adapter was trained with new tokens, the embedding grows to hold them. Where the
    unembedding is the embedding and the adapter changes one of the two, the two are parted first:
    merged into both, the product would count twice.

    Raises:
        ModelError: the adapter is missing, damaged or of another model, or the merged model doesn't
            compute what base and adapter do.
    """
    from peft import PeftModel

    try:
        path = unpacked(path)
        missing = not (path / WEIGHTS).is_file()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Adapter folder {named(path)} can't be read ({type(error).__name__}): correct the "
            "path, or its permissions."
        ) from error
    if missing:
        raise ModelError(
            f"Adapter folder {named(path)} has no {WEIGHTS}: train the adapter first, or save it "
            "as safetensors."
        )
    try:
        with quiet(), warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            _grow(model, path)
            adapted: Any = PeftModel.from_pretrained(model, str(path)).eval()
            before = probe_logits(adapted)
            _part(adapted.get_base_model())
            merged: PreTrainedModel = adapted.merge_and_unload()
    except Exception as error:
        raise ModelError(
            f"The adapter at {named(path)} can't be added to this model, so name the model that it "
            f"was trained on, or train it again: {shortened(error)}"
        ) from error
    check_same(MERGING, before, probe_logits(merged))
    return merged


def _grow(model: PreTrainedModel, path: Path) -> None:
    """Lengthen the embedding to that which was saved with the adapter."""
    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding)
    with safe_open(path / WEIGHTS, framework="pt") as file:
        saved = [k for k in file.keys() if k.endswith(f"{name}.weight")]  # noqa: SIM118
        rows = max((file.get_slice(k).get_shape()[0] for k in saved), default=0)
    if rows > embedding_rows(model):
        model.resize_token_embeddings(rows, mean_resizing=False)


def _part(model: Any) -> None:
    """Give the unembedding weights of its own where it shares those of an embedding with a LoRA."""
    from peft.tuners.lora import LoraLayer

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or not any(isinstance(module, LoraLayer) for module in (embedding, head)):
        return
    own, shared = (getattr(module, "base_layer", module) for module in (head, embedding))
    if own.weight is shared.weight:
        own.weight = nn.Parameter(own.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False
