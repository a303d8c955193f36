"""Where a model runs: the device is there, the model fits onto it, and its code runs at all."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from mechshift_lib.errors import ModelError, out_of_memory
from mechshift_lib.models.opening import shortened
from mechshift_lib.models.sameness import probe_logits
from mechshift_lib.models.weights import is_plain


def check_device(name: str) -> None:
    """Refuse a device that there isn't.

    Raises:
        ModelError: it is unknown, or not on this machine.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError):
        raise ModelError(f"Unknown device {name[:40]!r}: use 'cpu', 'cuda' or 'cuda:0'.") from None
    try:
        torch.zeros(1, device=device).item()  # a device that torch knows and this build lacks fails
    except (RuntimeError, AssertionError, ImportError):
        raise ModelError(
            f"Device {name!r} isn't available on this machine: use device 'cpu'."
        ) from None


def place(model: PreTrainedModel, device: str) -> None:
    """Put a model where it is to run, and run it once; a quantised one was read to there.

    Raises:
        ModelError: it doesn't fit there, or its code fails with this configuration.
    """
    try:
        if is_plain(model):
            model.to(torch.device(device))  # type: ignore[arg-type]
        probe_logits(model)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The model doesn't fit into the memory of {device!r}: load it in bfloat16, or use "
            "device 'cpu'."
        ) from error
    except Exception as error:
        if said := out_of_memory(error):
            raise ModelError(said) from error
        raise ModelError(
            f"This {model.config.model_type} model fails on a short random input, so correct its "
            f"config.json, or fetch it again: {shortened(error)}."
        ) from error
