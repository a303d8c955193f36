"""How far training has moved a saved model, be it a folder of weights or an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mechshift_lib.diffusion.loop import displacement
from mechshift_lib.documents.packed import unpacked
from mechshift_lib.models.adapters import WEIGHTS


def moved(arm: Path, folder: Path) -> float:
    """Euclidean norm of the change of all weights from one folder to another.

    Both are models, or both adapters of one model: then the change is that of the products that
    are added to its weights, which is never formed. With B the factors of the one and minus those
    of the other side by side, and A likewise, its square is tr(BᵀB AAᵀ).
    """
    arm, folder = unpacked(arm), unpacked(folder)
    if not (arm / WEIGHTS).is_file():
        before, after = _tensors(arm), _tensors(folder)
        return displacement([after[name] for name in before], list(before.values()))
    before, after = _factors(arm), _factors(folder)
    total = 0.0
    for name in before:
        if ".lora_A." in name:
            other = name.replace(".lora_A.", ".lora_B.")
            a = torch.cat([after[name], before[name]])  # [2 rank, in]
            b = torch.cat([after[other], -before[other]], dim=1)  # [out, 2 rank]
            total += float(((b.T @ b) * (a @ a.T)).sum())
    # The square of no change may be rounded below zero.
    return max(total, 0.0) ** 0.5


def _tensors(folder: Path) -> dict[str, Tensor]:
    return {
        name: tensor.to(torch.float32)
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def _factors(folder: Path) -> dict[str, Tensor]:
    """The factors of an adapter, its scale in those of the right."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    scale = config["lora_alpha"] / config["r"]
    return {
        name: tensor.double() * (scale if ".lora_B." in name else 1.0)
        for name, tensor in load_file(folder / WEIGHTS).items()
    }
