"""A training step compiled by TorchInductor, where the machine has a C++ compiler.

Models spend half of an eager step between their matrix products, moving activations through
memory; compiled, these passes are fused. The sums are the same up to rounding. Compiling costs
about a minute for each shape of a batch, so it pays for long stages only, and batches are padded
to few widths.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

#: Stages shorter than this train eagerly: compiling would take longer than they do.
WORTHWHILE_STEPS = 500
#: Widths of compiled batches are multiples of this, so that few shapes are compiled.
WIDTH_STEP = 2


def compiles_here(device: torch.device | str, steps: int) -> bool:
    """Whether a stage of so many steps trains compiled: on a CPU with a C++ compiler."""
    on_cpu = torch.device(device).type == "cpu"
    return on_cpu and steps >= WORTHWHILE_STEPS and any(map(shutil.which, ("g++", "clang++")))


def padded_width(width: int, longest: int) -> int:
    """The width that a compiled batch is padded to: the next multiple of :data:`WIDTH_STEP`, or
    ``longest``, what there is, if that is less.
    """
    return min(-(-width // WIDTH_STEP) * WIDTH_STEP, longest)


def compiled_body(model: PreTrainedModel, by_layer: bool = False) -> Callable[..., Any]:
    """The model without its head, compiled for the shapes of inputs that it meets.

    Args:
        model: whose :attr:`model` is compiled; it runs as it is when it is called by itself.
        by_layer: compile one layer that all share in place of the whole, which takes a deep model
            seconds and not minutes, but lets passes be fused within layers only.
    """
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 64
    if not by_layer:
        return torch.compile(model.model, dynamic=False)
    layers = list(model.model.layers)
    fast = [torch.compile(layer.forward) for layer in layers]

    def body(**inputs: Any) -> Any:
        for layer, forward in zip(layers, fast, strict=True):
            layer.forward = forward
        try:
            return model.model(**inputs)
        finally:
            for layer in layers:
                del layer.forward

    return body
