"""What is asserted whenever a model is loaded: its parts and the direction of its attention.

That the parts work together as the anatomy says is proven by :mod:`mechshift_lib.models.proof`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import SPLITS, Anatomy, at, norm_parts, rows
from mechshift_lib.models.sameness import UNTYING, check_same, probe_logits
from mechshift_lib.models.shape import shape_of

Attention = Literal["causal", "full"]


def set_attention(model: PreTrainedModel, anatomy: Anatomy, attention: Attention) -> None:
    """Make a model attend as declared.

    ``config.is_causal`` is what transformers builds its masks from; the modules' own flag alone
    changes nothing there, but it is what remote code may look at.

    Raises:
        ModelError: the checkpoint itself says that it attends in both directions.
    """
    if attention == "causal":
        if getattr(model.config, "is_causal", None) is False:
            raise ModelError(
                "The checkpoint's config says is_causal=false but attention 'causal' is declared: "
                "declare attention 'full'."
            )
        return
    model.config.is_causal = False
    for index in range(shape_of(model.config, anatomy).n_layers if anatomy.attn else 0):
        at(anatomy.layer(model, index), anatomy.attn).is_causal = False


def untie_unembedding(model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Give an unembedding that has no linear module of its own one with the embedding's weights.

    The model's code goes on using the embedding (LLaDA with ``weight_tying``); the module is what
    the anatomy names, and shares its weights.

    Raises:
        ModelError: the module doesn't compute the model's logits.
    """
    parent, _, name = anatomy.unembed.rpartition(".")
    owner = at(model, parent) if parent else model
    tied = getattr(model.config, anatomy.config.tied, False)
    if not tied or isinstance(getattr(owner, name, None), nn.Linear):
        return
    embedding: Any = model.get_input_embeddings()
    linear = nn.Linear(embedding.embedding_dim, embedding.num_embeddings, False, device="meta")
    linear.weight = embedding.weight
    setattr(owner, name, linear.eval())
    check_same(UNTYING, *_both_logits(model, at(model, anatomy.final_norm), linear))


def _both_logits(
    model: PreTrainedModel, final_norm: nn.Module, unembed: nn.Module
) -> tuple[Tensor, Tensor]:
    """The model's own logits, and those of an unembedding that its code doesn't call."""
    kept: list[Tensor] = []
    handle = final_norm.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        logits = probe_logits(model)
    finally:
        handle.remove()
    return logits, unembed(kept[0])


def embedding_rows(model: PreTrainedModel) -> int:
    """Number of ids that the embedding knows."""
    embedding: Any = model.get_input_embeddings()
    return int(embedding.weight.shape[0])


@torch.no_grad()
def check_attention(model: PreTrainedModel, attention: Attention) -> None:
    """Prove the attention: does changing the last token move the first token's logits?

    It must for ``"full"``, and by exactly 0 for ``"causal"``.

    Raises:
        ModelError: the model attends otherwise than declared.
    """
    vocabulary = embedding_rows(model)
    ids = torch.arange(4, device=model.device)[None] % vocabulary
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % vocabulary
    first, other = (_logits(model, x)[0, 0] for x in (ids, changed))
    sees = not torch.equal(first, other)
    if sees and attention == "causal":
        raise ModelError(
            "Attention 'causal' is declared, but the first token sees the last: declare 'full'."
        )
    if not sees and attention == "full":
        raise ModelError(
            "Attention 'full' is declared, but the first token doesn't see the last: this model "
            "can't be made bidirectional by its config, so declare 'causal' or use other code."
        )


def check_parts(model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Check that the parts are where the anatomy says and have the declared widths.

    Raises:
        ModelError: a part is missing or of the wrong shape.
    """
    shape = shape_of(model.config, anatomy)
    width, heads, kv, head = shape.d_model, shape.n_heads, shape.n_kv_heads, shape.d_head
    try:
        untie_unembedding(model, anatomy)
        for name in (anatomy.embed, anatomy.final_norm, anatomy.unembed):
            at(model, name)
        norm_parts(at(model, anatomy.final_norm))
        for index in range(shape.n_layers):
            layer = anatomy.layer(model, index)
            for path in filter(None, (anatomy.attn, anatomy.mlp)):
                at(layer, path)
            neurons = rows(at(layer, anatomy.mlp_out)).shape[1]
            _check_shape(rows(at(layer, anatomy.mlp_out)), (width, neurons), anatomy.mlp_out)
            norm_parts(at(layer, anatomy.attn_norm))
            norm_parts(at(layer, anatomy.mlp_norm))
            _check_shape(rows(at(layer, anatomy.o)), (width, heads * head), anatomy.o)
            if anatomy.fused:
                expected = ((heads + 2 * kv) * head, width)
                _check_shape(rows(at(layer, anatomy.fused)), expected, anatomy.fused)
            else:
                for part, count in zip(SPLITS, (heads, kv, kv), strict=True):
                    path = getattr(anatomy, part)
                    _check_shape(rows(at(layer, path)), (count * head, width), path)
    except (AttributeError, IndexError, TypeError) as error:
        raise ModelError(
            f"The {anatomy.model_type} anatomy doesn't fit this model ({error}): correct it in "
            "mechshift_lib/models/architectures.py."
        ) from error


def _check_shape(weight: Tensor, expected: tuple[int, int], path: str) -> None:
    if tuple(weight.shape) != expected:
        raise ModelError(
            f"{path} has shape {tuple(weight.shape)} instead of {expected}: correct the anatomy "
            "in mechshift_lib/models/architectures.py."
        )


def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits
