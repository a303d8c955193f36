"""Matrix products in bfloat16 inside an otherwise float32 model, for training.

Autocast also keeps activations in bfloat16, which makes everything between the products slower
on a CPU, so only the factors of each product are rounded. Whether that pays depends on the
processor: with bfloat16 units (AMX, tensor cores) a training takes less time than in float32,
without them seven times as much. So a training measures one step of each
(:func:`measured_products`).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mechshift_lib.results.atomic import write_atomic

#: Precision of the factors of matrix products.
Matmul = Literal["float32", "bfloat16"]
#: bfloat16 is less exact, so it is chosen only where it takes at most this part of float32's time.
CLEARLY_FASTER = 0.85
#: How often each is timed; the best counts, as a disturbance only adds time.
ROUNDS = 3


class _RoundedLinear(torch.autograd.Function):
    """``x W^T + b`` with factors rounded to bfloat16, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        rounded = weight.bfloat16()
        ctx.save_for_backward(rows, rounded)
        ctx.shape, ctx.has_bias = x.shape, bias is not None
        out = torch.mm(rows, rounded.t()).float()
        if bias is not None:
            out += bias
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        grad = grads[0].reshape(-1, grads[0].shape[-1])
        rounded = grad.bfloat16()
        into = weights = biases = None
        if ctx.needs_input_grad[0]:
            into = torch.mm(rounded, weight).float().view(ctx.shape)
        if ctx.needs_input_grad[1]:
            weights = torch.mm(rounded.t(), rows).float()
        if ctx.has_bias and ctx.needs_input_grad[2]:
            biases = grad.sum(0)
        return into, weights, biases


def round_products(model: nn.Module) -> None:
    """Let every linear layer of the model multiply in bfloat16 from now on."""
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = _rounded_forward(module)  # type: ignore[method-assign]


def _rounded_forward(layer: nn.Linear) -> Any:
    known = vars(layer).get("rounded_forward")
    if known is not None:  # one function a layer: a compiled model knows it again
        return known

    def forward(x: Tensor) -> Tensor:
        return _RoundedLinear.apply(x, layer.weight, layer.bias)  # type: ignore[no-any-return]

    layer.rounded_forward = forward  # type: ignore[assignment]
    return forward


def exact_products(model: nn.Module) -> None:
    """Undo :func:`round_products`."""
    for module in model.modules():
        if type(module) is nn.Linear and "forward" in vars(module):
            del module.forward


@contextlib.contextmanager
def products_in(model: nn.Module, matmul: Matmul) -> Iterator[None]:
    """Multiply in this precision inside the ``with`` block."""
    if matmul == "bfloat16":
        round_products(model)
    try:
        yield
    finally:
        exact_products(model)


def measured_products(model: nn.Module, once: Callable[[], None]) -> dict[Matmul, float]:
    """Seconds of one forward and backward pass in each precision, the best of a few.

    Processor time, or time on the clock where a GPU does the work: other work on the machine
    shouldn't choose. Gradients are dropped and the random state is put back: training goes on as
    if nothing had been measured.

    Args:
        model: on the device that it will train on, in training mode.
        once: one forward and backward pass over always the same batch.
    """
    device = next(model.parameters()).device
    now = time.perf_counter if device.type == "cuda" else time.process_time
    seconds: dict[Matmul, float] = {"float32": math.inf, "bfloat16": math.inf}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for matmul in seconds:  # what is compiled or allocated once isn't part of a step
            with products_in(model, matmul):
                once()
        for _ in range(ROUNDS):
            for matmul in seconds:
                with products_in(model, matmul):
                    began = now()
                    once()
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    seconds[matmul] = min(seconds[matmul], now() - began)
                model.zero_grad(set_to_none=True)
            if seconds["bfloat16"] > 2 * seconds["float32"]:
                break  # without bfloat16 units each further round would cost as much as ten steps
    return seconds


def faster_products(seconds: dict[Matmul, float]) -> Matmul:
    """float32, unless bfloat16 is clearly faster (:data:`CLEARLY_FASTER`)."""
    clearly = seconds["bfloat16"] <= CLEARLY_FASTER * seconds["float32"]
    return "bfloat16" if clearly else "float32"


def kept_choice(
    model: nn.Module, once: Callable[[], None], kept: Path
) -> tuple[Matmul, dict[str, float]]:
    """The faster products and the seconds that were measured, measured once: the file ``kept``
    remembers them, so that what was interrupted goes on as it began.
    """
    if not kept.is_file():
        seconds = measured_products(model, once)
        rounded = {name: round(value, 4) for name, value in seconds.items()}
        chosen = {"matmul": faster_products(seconds), "matmul_seconds": rounded}
        write_atomic(kept, json.dumps(chosen) + "\n")
    record = json.loads(kept.read_text(encoding="utf-8"))
    return record["matmul"], record["matmul_seconds"]
