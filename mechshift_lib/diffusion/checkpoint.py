"""Checkpoints of an unfinished stage: weights and optimizer state as safetensors, no pickle."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mechshift_lib.errors import ModelError


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes: the rest of the model comes from where it was loaded."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def save_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, tokens: int
) -> None:
    """Save the state after ``step`` steps and ``tokens`` tokens, replacing the last, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in _trained(model).items():
        tensors[f"model.{name}"] = parameter.detach()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
    temporary = folder / ".checkpoint.tmp"
    # Tensors that share memory are refused by safetensors: store copies.
    copies = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(copies, temporary, {"step": str(step), "tokens": str(tokens)})
    temporary.replace(folder / "checkpoint.safetensors")


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, int]:
    """Restore what :func:`save_checkpoint` saved; returns the steps and tokens done.

    Raises:
        ModelError: the file is damaged or of another model.
    """
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return 0, 0
    try:
        with safe_open(path, "pt") as file:
            step, tokens = (int(file.metadata()[key]) for key in ("step", "tokens"))
        tensors = load_file(path)
        saved = {key.removeprefix("model.") for key in tensors if key.startswith("model.")}
        if saved != set(_trained(model)):
            raise KeyError("other parameters")
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(tensors[f"model.{name}"])
                prefix = f"optimizer.{name}."
                state = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                moved = {k: v.to(parameter.device) for k, v in state.items() if k != "step"}
                optimizer.state[parameter] = moved | {"step": state["step"]}
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"The checkpoint {path} is damaged or of another model: delete it to start the stage "
            "anew."
        ) from error
    return step, tokens
