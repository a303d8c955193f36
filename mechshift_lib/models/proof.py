"""Proof, whenever a model is loaded, that it computes what its anatomy says.

Two inputs of one token each are run once, and everything that circuits rest on is compared with
what the modules took in and put out. A single token attends to itself alone, so each head puts out
its own value: that tells how a fused projection is laid out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nnsight
import torch
from torch import Tensor
from transformers import PreTrainedModel

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import (
    Anatomy,
    at,
    gather_qkv,
    norm_parts,
    projections,
    rows,
    split_sizes,
)
from mechshift_lib.models.parts import parts_of
from mechshift_lib.models.sameness import differ
from mechshift_lib.models.shape import Shape, shape_of
from mechshift_lib.models.weights import home_of, tensor_of

SUM = "the sum of the node outputs before it"


@dataclass(frozen=True)
class _Layer:
    """What one layer's modules took in and put out, ``[2, 1, …]``."""

    attn_in: Tensor
    attn_normed: Tensor
    projected_in: list[Tensor]
    projected: list[Tensor]
    heads: Tensor
    attended: Tensor
    mlp_in: Tensor
    mlp_normed: Tensor
    neurons: Tensor
    mlp: Tensor


@dataclass(frozen=True)
class _Run:
    """One pass."""

    embed: Tensor
    final_in: Tensor
    final: Tensor
    logits: Tensor
    layers: list[_Layer] = field(default_factory=list)


@torch.no_grad()
def check_anatomy(model: PreTrainedModel, lm: Any, anatomy: Anatomy) -> None:
    """Prove that the nodes' outputs add up to the residual stream and that readers read it.

    Proven are: every norm reads the embedding plus everything written before it; it computes an
    RMSNorm or LayerNorm with the gain and epsilon found in it; q, k and v are projected from its
    output; a head's output is taken up by its own columns of the output projection; an MLP's
    output is its last linear module's; the logits are the unembedding of the final norm's output.

    Args:
        model: the Hugging Face model, as it will be used.
        lm: its nnsight wrapper.
        anatomy: what is to be proven.

    Raises:
        ModelError: one of these isn't so, in one sentence that names the first.
    """
    shape = shape_of(model.config, anatomy)
    try:
        run = _trace(model, lm, anatomy, shape)
    except ModelError:  # a pass elsewhere that wasn't run
        raise
    except Exception as error:
        raise ModelError(
            f"The {anatomy.model_type} anatomy doesn't fit this model, which doesn't run through "
            f"its parts in their order ({type(error).__name__}): correct it in "
            "mechshift_lib/models/architectures.py."
        ) from error
    if not torch.isfinite(run.logits).all():
        narrow = model.dtype == torch.float16
        raise ModelError(
            "The model's logits are NaN or infinite"
            + (
                " in float16, whose largest number is 65504: load it in bfloat16 or float32."
                if narrow
                else ": fetch or train it again."
            )
        )
    stream = run.embed
    for index, layer in enumerate(run.layers):
        stream = _check_layer(model, anatomy, shape, index, layer, stream)
    _compare(anatomy, f"the input of {anatomy.final_norm}", run.final_in, stream, SUM)
    _check_norm(anatomy, at(model, anatomy.final_norm), anatomy.final_norm, run.final_in, run.final)
    logits = at(model, anatomy.unembed)(run.final)
    if differ(run.logits, logits):
        raise ModelError(
            "The logits aren't the unembedding of the final norm's output (scaled or capped?): "
            "correct the anatomy in mechshift_lib/models/architectures.py."
        )


def _trace(model: PreTrainedModel, lm: Any, anatomy: Anatomy, shape: Shape) -> _Run:
    """Run two inputs of one token each; modules in the order in which they run."""
    vocabulary: Any = model.get_input_embeddings()
    ids = torch.tensor([[0], [int(vocabulary.weight.shape[0]) // 2]], device=home_of(model))
    parts = parts_of(lm, anatomy, shape.n_layers)
    with lm.trace(input_ids=ids, use_cache=False):
        layers: list[dict[str, Any]] = nnsight.save([])
        embed = parts.embed.output.save()
        for layer in parts.layers:
            read: dict[str, Any] = {
                "attn_in": layer.attn_norm.input,
                "attn_normed": layer.attn_norm.output,
                "projected_in": [],
                "projected": [],
            }
            for part in layer.qkv:
                read["projected_in"].append(part.input)
                read["projected"].append(part.output)
            read["heads"] = layer.o.input
            read["attended"] = layer.o.output
            read["mlp_in"] = layer.mlp_norm.input
            read["mlp_normed"] = layer.mlp_norm.output
            read["neurons"] = layer.mlp_out.input
            read["mlp"] = layer.mlp.output
            layers.append(read)
        final_in = parts.final_norm.input.save()
        final = parts.final_norm.output.save()
        logits = lm.output.logits.save()
    return _Run(embed, final_in, final, logits, [_Layer(**read) for read in layers])


def _check_layer(
    model: PreTrainedModel,
    anatomy: Anatomy,
    shape: Shape,
    index: int,
    run: _Layer,
    stream: Tensor,
) -> Tensor:
    """Check one layer that is given the residual stream, and return the stream behind it."""
    layer, where = anatomy.layer(model, index), f" in layer {index}"

    def same(what: str, found: Tensor, expected: Tensor, rule: str) -> None:
        _compare(anatomy, what + where, found, expected, rule)

    def norm(path: str, x: Tensor, normed: Tensor) -> None:
        _check_norm(anatomy, at(layer, path), path + where, x, normed)

    same(f"the input of {anatomy.attn_norm}", run.attn_in, stream, SUM)
    norm(anatomy.attn_norm, run.attn_in, run.attn_normed)
    for path, given in zip(projections(anatomy), run.projected_in, strict=True):
        same(f"the input of {path}", given, run.attn_normed, f"the output of {anatomy.attn_norm}")
    qkv = gather_qkv(anatomy, run.projected, shape.d_head)
    sizes = split_sizes(shape.n_heads, shape.n_kv_heads, shape.d_head)
    values = qkv.split(sizes, -1)[2].unflatten(-1, (-1, shape.d_head))
    values = values.repeat_interleave(shape.n_heads // shape.n_kv_heads, -2).flatten(-2)
    same(f"the input of {anatomy.o} for a single token", run.heads, values, "each head's v")
    product = _linear(at(layer, anatomy.o), run.heads)
    same(f"the output of {anatomy.o}", run.attended, product, "its weight times its input")
    stream = run.attn_in if anatomy.parallel else run.attn_in + run.attended
    same(f"the input of {anatomy.mlp_norm}", run.mlp_in, stream, SUM)
    norm(anatomy.mlp_norm, run.mlp_in, run.mlp_normed)
    written = _linear(at(layer, anatomy.mlp_out), run.neurons)
    same(f"the output of {anatomy.mlp}", run.mlp, written, f"that of {anatomy.mlp_out}")
    return run.attn_in + run.attended + run.mlp


def _linear(module: Any, x: Tensor) -> Tensor:
    bias = tensor_of(module, "bias")
    y = x @ rows(module).T
    return y if bias is None else y + bias


def _check_norm(anatomy: Anatomy, module: Any, path: str, x: Tensor, normed: Tensor) -> None:
    """Check that a norm computes what the gradients of circuits assume."""
    gain, epsilon = norm_parts(anatomy, module)
    wide = torch.promote_types(x.dtype, torch.float32)
    x = x.to(wide)
    if anatomy.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    expected = gain.to(wide) * x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    bias = tensor_of(module, "bias")
    if bias is not None:
        expected = expected + bias.to(wide)
    kind = "a LayerNorm" if anatomy.norm == "layer" else "an RMSNorm"
    gain_of = {"weight": "with its gain", "one-plus": "with one plus its gain", "none": "alone"}
    rule = f"that of {kind} {gain_of[anatomy.gain]}"
    _compare(anatomy, f"the output of {path}", normed, expected, rule)


def _compare(anatomy: Anatomy, what: str, found: Tensor, expected: Tensor, rule: str) -> None:
    if found.shape != expected.shape or differ(found, expected):
        raise ModelError(
            f"The {anatomy.model_type} anatomy doesn't fit this model, where {what} isn't {rule}: "
            "correct it in mechshift_lib/models/architectures.py."
        )
