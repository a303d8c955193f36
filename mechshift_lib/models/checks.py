"""What is asserted whenever a model is loaded: its parts are there, of the declared widths.

That they work together as the anatomy says is proven by :mod:`mechshift_lib.models.proof`, what
tokens see by :mod:`mechshift_lib.models.attention`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import SPLITS, Anatomy, at, norm_parts, rows
from mechshift_lib.models.sameness import UNTYING, check_same, probe_logits
from mechshift_lib.models.shape import shape_of


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


def check_parts(model: PreTrainedModel, anatomy: Anatomy) -> None:
    """Check that the parts are where the anatomy says and have the declared widths.

    Raises:
        ModelError: a part is missing or of the wrong shape.
    """
    shape = shape_of(model.config, anatomy)
    width, heads, kv, head = shape.d_model, shape.n_heads, shape.n_kv_heads, shape.d_head
    if anatomy.fused and anatomy.fused_layout == "interleaved" and kv != heads:
        raise ModelError(
            f"An interleaved projection has a key and value for each of its {heads} query heads, "
            f"but this model has {kv}: correct the anatomy in "
            "mechshift_lib/models/architectures.py."
        )
    try:
        untie_unembedding(model, anatomy)
        for name in (anatomy.embed, anatomy.final_norm, anatomy.unembed):
            at(model, name)
        norm_parts(anatomy, at(model, anatomy.final_norm))
        for index in range(shape.n_layers):
            layer = anatomy.layer(model, index)
            for path in filter(None, (anatomy.attn, anatomy.mlp)):
                at(layer, path)
            neurons = rows(at(layer, anatomy.mlp_out)).shape[1]
            _check_shape(rows(at(layer, anatomy.mlp_out)), (width, neurons), anatomy.mlp_out)
            norm_parts(anatomy, at(layer, anatomy.attn_norm))
            norm_parts(anatomy, at(layer, anatomy.mlp_norm))
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
