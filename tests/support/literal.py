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
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

Outputs = dict[str, Tensor]
Read = Callable[[str, Outputs], Tensor]


def plain_read(reader: str, written: Outputs) -> Tensor:
    """The residual stream: the sum of everything written so far."""
    return torch.stack(list(written.values())).sum(0)


def embedding(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """Output of ``input``."""
    if model.config.model_type == "gpt2":
        positions = torch.arange(ids.shape[1])
        return model.transformer.wte(ids) + model.transformer.wpe(positions)
    return model.model.embed_tokens(ids)


def run(
    model: PreTrainedModel, embed: Tensor, *, causal: bool, read: Read = plain_read
) -> tuple[Tensor, Outputs]:
    """Logits ``[batch, pos, vocab]`` and what every node wrote.

    GPT-2's bias of the output projection is written by a node of its own, ``b{layer}``, which no
    test patches. Key/value heads are read once per group, as the model has them.
    """
    config = model.config
    gpt2 = config.model_type == "gpt2"
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    width = config.hidden_size // heads
    length = embed.shape[1]
    written: Outputs = {"input": embed}
    allowed = torch.ones(length, length, dtype=torch.bool)
    allowed = allowed.tril() if causal else allowed
    layers = model.transformer.h if gpt2 else model.model.layers

    for index, layer in enumerate(layers):
        norm = layer.ln_1 if gpt2 else layer.input_layernorm

        def project(part: str, head: int, layer=layer, norm=norm, index=index) -> Tensor:
            x = norm(read(f"a{index}.h{head}<{part}>", written))
            rows = slice(head * width, (head + 1) * width)
            if gpt2:
                shift = "qkv".index(part) * heads * width
                columns = slice(shift + rows.start, shift + rows.stop)
                fused = layer.attn.c_attn
                return x @ fused.weight[:, columns] + fused.bias[columns]
            linear = getattr(layer.self_attn, f"{part}_proj")
            y = x @ linear.weight[rows].T
            return y if linear.bias is None else y + linear.bias[rows]

        keys = [project("k", head) for head in range(kv_heads)]
        values = [project("v", head) for head in range(kv_heads)]
        new: Outputs = {}
        for head in range(heads):
            q = project("q", head)
            k, v = (x[head // (heads // kv_heads)] for x in (keys, values))
            if not gpt2:
                cos, sin = model.model.rotary_emb(q, torch.arange(length)[None])
                q, k = (x[:, 0] for x in apply_rotary_pos_emb(q[:, None], k[:, None], cos, sin))
            pattern = (q @ k.transpose(1, 2) * width**-0.5).masked_fill(~allowed, -torch.inf)
            z = pattern.softmax(-1) @ v
            rows = slice(head * width, (head + 1) * width)
            if gpt2:
                new[f"a{index}.h{head}"] = z @ layer.attn.c_proj.weight[rows]
            else:
                new[f"a{index}.h{head}"] = z @ layer.self_attn.o_proj.weight[:, rows].T
        written.update(new)
        if gpt2:
            written[f"b{index}"] = layer.attn.c_proj.bias.expand_as(embed)
        norm = layer.ln_2 if gpt2 else layer.post_attention_layernorm
        written[f"m{index}"] = layer.mlp(norm(read(f"m{index}", written)))
    norm = model.transformer.ln_f if gpt2 else model.model.norm
    return model.lm_head(norm(read("logits", written))), written


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
