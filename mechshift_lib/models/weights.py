"""Weights as the library reads them: where activations are, in full precision.

A module of a spread model (:mod:`mechshift_lib.models.spreading`) may hold its weights on another
device or in a file, a quantised one (:mod:`mechshift_lib.models.quantising`) as integers. Whatever
computes with weights outside of the modules takes them from here.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

#: Classes of bitsandbytes' modules, or derived from them: looked up by name, as it is optional.
QUANTISED = ("Linear4bit", "Linear8bitLt")


def is_quantised(module: Any) -> bool:
    """Whether a module holds its weight as integers."""
    return any(kind.__name__ in QUANTISED for kind in type(module).__mro__)


def tensor_of(module: Any, name: str) -> Tensor | None:
    """A weight or bias of a module, where activations are; ``None`` where it has none.

    A quantised weight is ``[out, in]`` in the precision that its module computes in. Of a plain
    module this is the parameter itself, of others a copy.
    """
    tensor = getattr(module, name, None)
    if not isinstance(tensor, Tensor):
        return None
    if name == "weight" and is_quantised(module):
        return _dequantised(module)
    hook = _hook(module)
    if hook is None:
        return tensor
    held: Tensor = hook.weights_map[name] if hook.offload else tensor
    return held.to(hook.home)


def home_of(model: nn.Module) -> torch.device:
    """Where a model takes its inputs, and where all its modules take in and put out activations."""
    for module in model.modules():
        hook = _hook(module)
        if hook is not None:
            home: torch.device = hook.home
            return home
    return next(model.parameters()).device


def places_of(model: nn.Module) -> set[torch.device]:
    """Devices on which a model's weights lie or are used."""
    hooks = [hook for module in model.modules() if (hook := _hook(module)) is not None]
    held = {p.device for p in model.parameters() if p.device.type != "meta"}
    return held | {x for hook in hooks for x in (hook.home, torch.device(hook.execution_device))}


def numbers_of(model: nn.Module) -> int:
    """How many weights a model has, those that are packed into fewer integers counted singly."""
    quantised: list[Any] = [module for module in model.modules() if is_quantised(module)]
    packed = {id(module.weight): module.in_features * module.out_features for module in quantised}
    return sum(packed.get(id(p), p.numel()) for p in model.parameters())


def is_plain(module: Any) -> bool:
    """Whether the module and all within it hold their weights as they are used."""
    return not any(_hook(part) or is_quantised(part) for part in module.modules())


def _hook(module: Any) -> Any:
    """What moves a module's weights or activations, if anything does."""
    hook = getattr(module, "_hf_hook", None)
    return hook if hasattr(hook, "home") else None


def _dequantised(module: Any) -> Tensor:
    from bitsandbytes.functional import dequantize_4bit
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    state = getattr(module.weight, "quant_state", None)
    if state is None:
        found: Tensor = dequantize_bnb_weight(module.weight, module.state)
        return found.to(module.compute_dtype)
    # As one row: bitsandbytes' code for AVX-512 takes wrong scales where a row ends within a block.
    flat = copy(state)
    flat.shape = torch.Size([1, state.shape.numel()])
    found = dequantize_4bit(module.weight.data.reshape(-1, 1), flat)
    return found.reshape(state.shape).to(module.compute_dtype)
