"""A model's modules by the names that the library has for them, looked up once.

A trace that is to run elsewhere travels as its source with everything that it names. So what it
names is plain: these modules, tensors, numbers and functions whose source says all, and no object
of the library, whose class would have to travel along.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mechshift_lib.models.anatomy import Anatomy, at, projections


def parts_of(root: Any, anatomy: Anatomy, n_layers: int) -> SimpleNamespace:
    """The modules of a model, or of its nnsight wrapper, that traces read and write.

    Returns:
        ``embed`` and ``final_norm``; ``returns``, the number of values in the tuple that a layer
        returns; and ``layers``, each with ``whole``, ``attn_norm``, ``qkv`` (a list, as
        :func:`mechshift_lib.models.anatomy.projections`), ``o``, ``mlp_norm``, ``mlp`` and
        ``mlp_out``.
    """
    names = ("attn_norm", "o", "mlp_norm", "mlp", "mlp_out")
    blocks = [anatomy.layer(root, index) for index in range(n_layers)]
    return SimpleNamespace(
        embed=at(root, anatomy.embed),
        final_norm=at(root, anatomy.final_norm),
        returns=anatomy.layer_returns,
        layers=[
            SimpleNamespace(
                whole=block,
                qkv=[at(block, path) for path in projections(anatomy)],
                **{name: at(block, getattr(anatomy, name)) for name in names},
            )
            for block in blocks
        ],
    )


def enter(parts: Any, layer: int, stream: Tensor) -> torch.device:
    """Inside a trace: reach ``layer`` with ``stream`` at its input, skipping what is below.

    ``stream`` may lie elsewhere than the model computes: it comes along with a trace that is sent.

    Returns:
        Where the model computes.
    """
    home = parts.embed.output.device
    stream = stream.to(home)
    if layer == 0:
        parts.embed.output = stream
    returned = (stream, *[None] * (parts.returns - 1)) if parts.returns else stream
    for block in parts.layers[:layer]:
        block.whole.skip(returned)
    return home


def chosen(where: Tensor, other: Tensor, own: Tensor) -> Tensor:
    """Inside a trace: ``other`` where ``where`` says so, else the model's ``own``, as its own."""
    return torch.where(where.to(own.device), other.to(own.device), own)
