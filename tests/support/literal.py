"""A slow, literal transformer that keeps a copy of the residual stream for every reader.

One head and one reader at a time, from the weights of a Hugging Face model: what the fast engine
must equal. ``Run.read`` is called for every reader with everything written so far, so a test can
take a gradient at one reader's input or change one edge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.support.parts import parts_of

Outputs = dict[str, Tensor]
Read = Callable[[str, Outputs], Tensor]


def plain_read(reader: str, written: Outputs) -> Tensor:
    """The residual stream: the sum of everything written so far."""
    return torch.stack(list(written.values())).sum(0)


def embedding(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Output of ``input``."""
    return parts_of(model).embed(ids)


def run(
    model: PreTrainedModel, embed: Tensor, *, causal: bool, read: Read = plain_read
) -> tuple[Tensor, Outputs]:
    """Logits ``[batch, pos, vocab]`` and what every node wrote.

    A bias of the output projection is written by a node of its own, ``b{layer}``, which no test
    patches. Key/value heads are read once per group, as the model has them. In parallel layers
    the MLP reads what the heads read.
    """
    parts = parts_of(model)
    length = embed.shape[1]
    written: Outputs = {"input": embed}
    allowed = torch.ones(length, length, dtype=torch.bool)
    allowed = allowed.tril() if causal else allowed

    for index, layer in enumerate(parts.layers):
        attn_norm, mlp_norm = parts.norms(layer)

        def project(part: str, head: int, layer=layer, norm=attn_norm, index=index) -> Tensor:
            x = norm(read(f"a{index}.h{head}<{part}>", written))
            return parts.project(layer, part, head, x)

        keys = [project("k", head) for head in range(parts.n_kv_heads)]
        values = [project("v", head) for head in range(parts.n_kv_heads)]
        new: Outputs = {}
        for head in range(parts.n_heads):
            k, v = (x[head * parts.n_kv_heads // parts.n_heads] for x in (keys, values))
            q, k = parts.turn(project("q", head)), parts.turn(k)
            pattern = (q @ k.transpose(1, 2) * parts.d_head**-0.5).masked_fill(~allowed, -torch.inf)
            new[f"a{index}.h{head}"] = parts.write(layer, head, pattern.softmax(-1) @ v)
        bias = parts.bias(layer)
        if bias is not None:
            new[f"b{index}"] = bias.expand_as(embed)
        before = dict(written)
        written.update(new)
        seen = before if parts.parallel else written
        written[f"m{index}"] = parts.mlp(layer, mlp_norm(read(f"m{index}", seen)))
    return parts.logits(read("logits", written)), written


def literal_scores(
    model: PreTrainedModel,
    clean: Tensor,
    corrupted: Tensor,
    metric: Callable[[Tensor], Tensor],
    *,
    causal: bool,
    shares: list[float],
) -> dict[str, float]:
    """EAP-IG of one example by plain autograd, one edge at a time."""
    start, stop = embedding(model, corrupted), embedding(model, clean)
    _, written = run(model, stop, causal=causal)
    _, written_corrupted = run(model, start, causal=causal)
    scores: dict[str, float] = {}
    for share in shares:
        inputs: dict[str, Tensor] = {}
        seen: dict[str, list[str]] = {}

        def read(reader: str, so_far: Outputs, inputs=inputs, seen=seen) -> Tensor:
            seen[reader] = [name for name in so_far if name[0] != "b"]
            inputs[reader] = plain_read(reader, so_far).clone()
            return inputs[reader]

        embed = (start + share * (stop - start)).detach().requires_grad_(True)
        logits, _ = run(model, embed, causal=causal, read=read)
        gradients = torch.autograd.grad(metric(logits), list(inputs.values()))
        for (reader, names), gradient in zip(seen.items(), gradients, strict=True):
            for name in names:
                product = ((written[name] - written_corrupted[name]) * gradient).sum()
                edge = f"{name}->{reader}"
                scores[edge] = scores.get(edge, 0.0) + float(product) / len(shares)
    return scores


def patched_logits(
    model: PreTrainedModel,
    embed: Tensor,
    replacements: Mapping[str, Mapping[str, Tensor]],
    *,
    causal: bool,
) -> Tensor:
    """Logits of a run where ``replacements[reader][source]`` is added to what the reader reads."""

    def read(reader: str, so_far: Outputs) -> Tensor:
        x = plain_read(reader, so_far)
        for added in replacements.get(reader, {}).values():
            x = x + added
        return x

    return run(model, embed, causal=causal, read=read)[0]


@torch.no_grad()
def exact_scores(
    model: PreTrainedModel,
    clean: Tensor,
    corrupted: Tensor,
    metric: Callable[[Tensor], Tensor],
    edges: list[str],
    *,
    causal: bool,
) -> dict[str, float]:
    """Metric lost when one edge alone carries the corrupted run's output, for each edge."""
    embed = embedding(model, clean)
    logits, written = run(model, embed, causal=causal)
    _, other = run(model, embedding(model, corrupted), causal=causal)
    whole = float(metric(logits))
    scores = {}
    for edge in edges:
        source, _, reader = edge.partition("->")
        change = {reader: {source: other[source] - written[source]}}
        patched = patched_logits(model, embed, change, causal=causal)
        scores[edge] = whole - float(metric(patched))
    return scores


@torch.no_grad()
def circuit_logits(
    model: PreTrainedModel, clean: Tensor, corrupted: Tensor, kept: set[str], *, causal: bool
) -> Tensor:
    """Logits with only the kept edges intact: all others carry the corrupted run's outputs."""
    _, other = run(model, embedding(model, corrupted), causal=causal)

    def read(reader: str, so_far: Outputs) -> Tensor:
        parts = [
            value if f"{name}->{reader}" in kept or name[0] == "b" else other[name]
            for name, value in so_far.items()
        ]
        return torch.stack(parts).sum(0)

    return run(model, embedding(model, clean), causal=causal, read=read)[0]
