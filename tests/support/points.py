"""Every gradient method's edge and node scores by plain autograd on the literal transformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.support.literal import Outputs, embedding, plain_read, run

#: Output of ``input``, and outputs of nodes that are set.
Point = tuple[Tensor, Mapping[str, Tensor]]


def literal_points(
    model: PreTrainedModel, clean: Tensor, corrupted: Tensor, method: str, steps: int, *, causal
) -> list[Point]:
    """The points of a method, one run each."""
    stop, start = embedding(model, clean), embedding(model, corrupted)
    if method == "eap":
        return [(stop, {})]
    if method == "clean-corrupted":
        return [(start, {}), (stop, {})]
    if method == "eap-ig":
        return [(start + k / steps * (stop - start), {}) for k in range(steps)]
    written, other = (run(model, x, causal=causal)[1] for x in (stop, start))
    layers = sorted({int(name[1:]) for name in written if name[0] == "m"})
    sublayers = [["input"]]
    for layer in layers:
        sublayers += [[n for n in written if n.startswith(f"a{layer}.")], [f"m{layer}"]]
    return [
        (
            stop,
            {n: other[n] + k / steps * (written[n] - other[n]) for n in names},
        )
        for names in sublayers
        for k in range(1, steps + 1)
    ]


def literal_method(
    model: PreTrainedModel,
    clean: Tensor,
    corrupted: Tensor,
    metric: Callable[[Tensor], Tensor],
    points: list[Point],
    *,
    causal: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores by position ``[pos]`` of every edge and of every node, averaged over the points."""
    written = run(model, embedding(model, clean), causal=causal)[1]
    other = run(model, embedding(model, corrupted), causal=causal)[1]
    changes = {n: (written[n] - other[n]).detach() for n in written if n[0] != "b"}
    edges: dict[str, Tensor] = {}
    nodes: dict[str, Tensor] = {}
    for embed, given in points:
        leaves = {n: value.detach().clone().requires_grad_(True) for n, value in given.items()}
        inputs: dict[str, Tensor] = {}
        seen: dict[str, list[str]] = {}
        outputs: dict[str, Tensor] = {}

        def read(
            reader: str, so_far: Outputs, leaves=leaves, inputs=inputs, seen=seen, outputs=outputs
        ) -> Tensor:
            so_far = {n: leaves.get(n, value) for n, value in so_far.items()}
            outputs.update(so_far)
            seen[reader] = [n for n in so_far if n[0] != "b"]
            inputs[reader] = plain_read(reader, so_far).clone()
            return inputs[reader]

        logits, _ = run(model, embed.detach().requires_grad_(True), causal=causal, read=read)
        total = metric(logits)
        found = torch.autograd.grad(
            total, list(inputs.values()), allow_unused=True, retain_graph=True
        )
        for (reader, names), gradient in zip(seen.items(), found, strict=True):
            for name in names:
                part = torch.zeros(embed.shape[1]) if gradient is None else changes[name] * gradient
                part = part if part.ndim == 1 else part.sum((0, 2))
                edge = f"{name}->{reader}"
                edges[edge] = edges.get(edge, 0) + part / len(points)
        found = torch.autograd.grad(total, [outputs[n] for n in changes], allow_unused=True)
        for name, gradient in zip(changes, found, strict=True):
            part = (changes[name] * gradient).sum((0, 2))
            nodes[name] = nodes.get(name, 0) + part / len(points)
    return edges, nodes
