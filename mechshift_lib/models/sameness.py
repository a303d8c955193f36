"""What is transformed at load must compute what it computed before, or loading refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mechshift_lib.errors import ModelError
from mechshift_lib.models.weights import home_of

#: Rows and tokens of the random input: few, so that a large model isn't slow to load.
_ROWS, _TOKENS = 2, 6


@dataclass(frozen=True)
class Transformation:
    """A change of a model that must leave its function as it is.

    Attributes:
        name: what is done, as the subject of a sentence.
        instead: what the user can do where it fails.
    """

    name: str
    instead: str


MERGING = Transformation(
    "Merging the adapter into the weights",
    "merge it with peft's merge_and_unload, compare the logits, and give the merged folder",
)
UNTYING = Transformation(
    "Giving the tied unembedding a module of its own",
    "save the model with tie_word_embeddings=false and an unembedding of its own",
)
UNGROUPING = Transformation(
    "Giving every query head its own key and value projection", "load it with kv 'grouped'"
)
WIDENING = Transformation(
    "Taking the sliding windows of layers away", "declare attention 'causal', or use other code"
)
DEQUANTISING = Transformation(
    "Saving the GGUF file's weights as float32",
    "give a Hugging Face folder with the model in safetensors",
)


def differ(found: Tensor, expected: Tensor) -> bool:
    """Whether vectors ``[…, d]`` differ by more than a few roundings of their own precision."""
    wide = torch.promote_types(found.dtype, torch.float32)
    tolerance = max(1e-3, 8 * torch.finfo(found.dtype).eps)
    error = (found.to(wide) - expected.to(wide)).norm(dim=-1)
    return bool((error > tolerance * expected.to(wide).norm(dim=-1) + 1e-6).any())


@torch.no_grad()
def probe_logits(model: Any, longest: int = _TOKENS) -> Tensor:
    """Logits of random ids, the same for every model with as many: ``[2, 6, vocab]``.

    Of fewer than 6 tokens where they are to be no ``longest`` than that.
    """
    vocabulary: Any = model.get_input_embeddings()
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(
        int(vocabulary.weight.shape[0]), (_ROWS, min(longest, _TOKENS)), generator=draw
    )
    logits: Tensor = model(input_ids=ids.to(home_of(model)), use_cache=False).logits
    return logits


def check_same(transformation: Transformation, before: Tensor, after: Tensor) -> None:
    """Compare logits ``[…, vocab]`` from before and after.

    Logits that are NaN to begin with pass: that is another fault, said by the proof of the anatomy.

    Raises:
        ModelError: they differ, in a sentence that names the transformation.
    """
    if not torch.isfinite(before).all():
        return
    if before.shape == after.shape and torch.isfinite(after).all() and not differ(after, before):
        return
    raise ModelError(
        f"{transformation.name} changed what this model computes, as its logits show: "
        f"{transformation.instead}."
    )


@contextmanager
def unchanged(
    model: PreTrainedModel, transformation: Transformation, longest: int = _TOKENS
) -> Iterator[None]:
    """Refuse what is done to ``model`` in the block where its logits change.

    Those of inputs no ``longest`` than that.

    Raises:
        ModelError: as :func:`check_same`.
    """
    before = probe_logits(model, longest)
    yield
    check_same(transformation, before, probe_logits(model, longest))
