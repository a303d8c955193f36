"""What each component writes into the logits: direct logit attribution.

The final residual stream is the sum of what the embedding, the heads, the MLPs and the biases of
the output projections wrote. The final norm is no sum; but with its scale held at that of the run
it is linear, and so is the unembedding W_U. So the logits are, exactly, a sum over components
(nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A Mathematical
Framework for Transformer Circuits"); Kong et al. (arXiv 2601.14758) read components so.

It is what a component writes *directly*: what others make of its output later is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.tracing.layers import Kept, run_layers
from mechshift_lib.models.anatomy import at, rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.norms import Norm
from mechshift_lib.models.readout import Item
from mechshift_lib.models.weights import tensor_of

#: Name of what no node of the graph writes: biases of output projections, of the final norm and of
#: the unembedding.
BIAS = "bias"
KEPT: frozenset[Kept] = frozenset({"heads", "mlps"})


@dataclass(frozen=True)
class Unembedding:
    """The linear map from the final norm's output to the logits, in float32 at least.

    Attributes:
        weight: W_U, ``[vocab, d_model]``.
        bias: ``[vocab]``, if there is one.
    """

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, model: LoadedModel) -> Unembedding:
        """That of a model."""
        module = at(model.hf, model.anatomy.unembed)
        bias = tensor_of(module, "bias")
        return cls(_wide(rows(module)), None if bias is None else _wide(bias))

    @cached_property
    def centred(self) -> Tensor:
        """W_U without what it adds to all logits alike, which no probability depends on."""
        return self.weight - self.weight.mean(0)

    def difference(
        self, answers: Sequence[int], distractors: Sequence[int]
    ) -> tuple[Tensor, float]:
        """Direction and bias of the answers' mean logit minus the distractors', ``[d_model]``."""
        right, wrong = list(answers), list(distractors)
        direction = self.weight[right].mean(0) - self.weight[wrong].mean(0)
        if self.bias is None:
            return direction, 0.0
        return direction, float(self.bias[right].mean() - self.bias[wrong].mean())


@dataclass(frozen=True)
class Written:
    """What components write at the positions that are read.

    Attributes:
        names: ``input``, heads and MLPs in the order in which they write, and :data:`BIAS`.
        parts: what each adds to the final norm's output, ``[n_read, n_component, d_model]``; over
            components they sum to that output.
        sizes: norm of what each adds to the residual stream, ``[n_read, n_component]``.
        scale: what the norm multiplies by, gain included, ``[n_read, d_model]``.
        centred: whether the norm takes the mean away first.
        answer: what each adds to the mean logit of the answers minus that of the distractors,
            ``[n_read, n_component]``; over components it sums to the model's difference.
        directions: for each read, what the difference is taken along, ``[n_read, d_model]``.
    """

    names: list[str]
    parts: Tensor
    sizes: Tensor
    scale: Tensor
    centred: bool
    answer: NDArray[np.float64]
    directions: Tensor

    def of_random(self, draws: int, seed: int) -> NDArray[np.float64]:
        """:attr:`answer` had each component written in a random direction, as much as it does.

        A component has the same direction at all reads.

        Returns:
            ``[draws, n_read, n_component]``.
        """
        n_component, d_model = self.parts.shape[1:]
        drawn = random_directions(draws, n_component, d_model, seed).to(self.parts)
        along = self.scale * self.directions
        if self.centred:
            along = along - along.mean(-1, keepdim=True)
        found = torch.einsum("kcd,rd->krc", drawn, along) * self.sizes
        return found.double().cpu().numpy()


def random_directions(draws: int, n: int, d_model: int, seed: int) -> Tensor:
    """Unit vectors, uniform on the sphere, ``[draws, n, d_model]``."""
    drawn = torch.randn(draws, n, d_model, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)


@torch.no_grad()
def written(model: LoadedModel, items: Sequence[Item], unembedding: Unembedding) -> Written:
    """Split the clean run at its reads into what each component writes.

    Grouped keys and values make no difference: every query head has an output of its own. An
    adapter is part of the weights.

    Args:
        model: a loaded model.
        items: questions of one length, a batch; the reads follow each other item by item.
        unembedding: of this model.
    """
    ids = torch.tensor([list(item.clean) for item in items], device=model.device)
    run = run_layers(model, ids, KEPT)
    flat = [(row, read) for row, item in enumerate(items) for read in item.reads]
    row, pos = (torch.tensor(list(x), device=model.device) for x in zip(*flat, strict=True))

    # 1. What is added to the residual stream
    added = [_wide(run.embed[row, pos])[:, None]]
    biases = torch.zeros_like(added[0])
    for layer in range(model.n_layers):
        output = at(model.anatomy.layer(model.hf, layer), model.anatomy.o)
        z = _wide(run.heads[layer][row, pos]).unflatten(-1, (model.n_heads, model.d_head))
        by_head = _wide(rows(output)).unflatten(1, (model.n_heads, model.d_head))
        added.append(torch.einsum("rhk,dhk->rhd", z, by_head))
        added.append(_wide(run.mlps[layer][row, pos])[:, None])
        bias = tensor_of(output, "bias")
        biases = biases if bias is None else biases + _wide(bias)
    stream = torch.cat([*added, biases], dim=1)

    # 2. Through the final norm, at the scale that it has in this run
    norm = _final_norm(model, stream.dtype)
    scale = _scale(norm, _wide(run.final_in[row, pos]))
    parts = stream - stream.mean(-1, keepdim=True) if norm.centred else stream
    parts = parts * scale[:, None]
    if norm.bias is not None:
        parts[:, -1] += norm.bias

    # 3. Along answer minus distractor
    asked = [
        unembedding.difference(right, wrong)
        for item in items
        for right, wrong in zip(item.answers, item.distractors, strict=True)
    ]
    directions = torch.stack([direction for direction, _ in asked])
    answer = torch.einsum("rcd,rd->rc", parts.double(), directions.double()).cpu().numpy()
    answer[:, -1] += [bias for _, bias in asked]
    return Written(
        names=[*Graph.for_model(model).sources, BIAS],
        parts=parts,
        sizes=stream.norm(dim=-1),
        scale=scale,
        centred=norm.centred,
        answer=answer,
        directions=directions,
    )


def logits_of(parts: Tensor, unembedding: Unembedding) -> Tensor:
    """What components add to every logit, ``[..., n_component, vocab]``; the last has the bias.

    Args:
        parts: ``[..., n_component, d_model]``, in the order of :attr:`Written.names`.
        unembedding: of this model.
    """
    found = parts @ unembedding.weight.T
    if unembedding.bias is not None:
        found[..., -1, :] += unembedding.bias
    return found


def tokens_share(parts: Tensor, unembedding: Unembedding) -> tuple[Tensor, Tensor]:
    """Share of the vocabulary that each component effectively writes to, and how much it writes.

    The participation ratio of what it adds to the logits, beyond what it adds to all alike, divided
    by the number of tokens: 2/π for normal numbers, 1/vocab for one token.

    Args:
        parts: ``[..., n_component, d_model]``.
        unembedding: of this model.

    Returns:
        The share and the norm of what is added, both ``[..., n_component]``.
    """
    logits = parts @ unembedding.centred.T
    total, squares = logits.abs().sum(-1), logits.square().sum(-1)
    return total.square() / (squares * logits.shape[-1]), squares.sqrt()


@torch.no_grad()
def random_tokens_share(
    model: LoadedModel, unembedding: Unembedding, draws: int, seed: int
) -> float:
    """:func:`tokens_share` of random directions of the stream: a mean over draws.

    The norm's scale makes no difference, its gain does.
    """
    norm = _final_norm(model, unembedding.weight.dtype)
    drawn = random_directions(draws, 1, model.d_model, seed)[:, 0].to(unembedding.weight)
    if norm.centred:
        drawn = drawn - drawn.mean(-1, keepdim=True)
    share, _ = tokens_share(drawn * norm.gain, unembedding)
    return float(share.mean())


def _final_norm(model: LoadedModel, dtype: torch.dtype) -> Norm:
    return Norm.of(model.anatomy, at(model.hf, model.anatomy.final_norm), dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def _scale(norm: Norm, x: Tensor) -> Tensor:
    """What a norm multiplies its (centred) inputs ``[..., d_model]`` by, gain included."""
    if norm.centred:
        x = x - x.mean(-1, keepdim=True)
    return (x.square().mean(-1, keepdim=True) + norm.epsilon).rsqrt() * norm.gain
