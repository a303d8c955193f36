"""Training of dictionaries by BatchTopK (Bussmann et al. 2024, arXiv 2412.06410), on a stream.

Of all features of all tokens of a batch only the ``k * batch`` largest stay; what is then left of
the squared error is the loss. Later a threshold does the same without a batch: the mean of the
smallest activations that stayed. Features that have long been silent learn to explain the error
that is left (auxiliary loss of Gao et al. 2024, arXiv 2406.04093).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mechshift_lib.errors import ConfigError
from mechshift_lib.semantics.dictionary import Dictionary, Settings, raw_features

#: Weight of the auxiliary loss, and steps without activity after which a feature takes part in it.
AUXILIARY, SILENT = 1 / 32, 25
#: Share of the last steps that the threshold is taken over.
THRESHOLD_SHARE = 0.25


def shuffled(chunks: Iterator[Tensor], batch: int, memory: int, seed: int) -> Iterator[Tensor]:
    """Batches of rows in random order, holding no more than a budget of them.

    A buffer is filled, shuffled and given out by half, then filled again.

    Args:
        chunks: activations ``[n, n_model, d_model]``, float32.
        batch: rows of each batch; what doesn't fill one at the end is left out.
        memory: bytes that the buffer may take.
        seed: seed of the order.

    Raises:
        ConfigError: the budget doesn't hold two batches.
    """
    generator = torch.Generator().manual_seed(seed)
    buffer: Tensor | None = None
    filled = capacity = 0
    for chunk in chunks:
        if buffer is None:
            capacity = memory // (chunk[0].numel() * 4)
            if capacity < 2 * batch:
                raise ConfigError(
                    f"A memory budget of {memory:,} bytes holds {capacity:,} activations: give "
                    f"room for {2 * batch:,}, two batches, or make the batch smaller."
                )
            buffer = torch.empty(capacity, *chunk.shape[1:])
        while len(chunk):
            taken = min(len(chunk), capacity - filled)
            buffer[filled : filled + taken] = chunk[:taken]
            filled, chunk = filled + taken, chunk[taken:]
            if filled == capacity:
                order = torch.randperm(filled, generator=generator)
                given = filled // 2 // batch * batch
                for start in range(0, given, batch):
                    yield buffer[order[start : start + batch]]
                kept = order[given:].sort().values  # moved down row by row, in place
                for to, at in enumerate(kept.split(batch)):
                    buffer[to * batch : to * batch + len(at)] = buffer[at]
                filled -= given
    if buffer is not None:
        order = torch.randperm(filled, generator=generator)
        for start in range(0, filled - batch + 1, batch):
            yield buffer[order[start : start + batch]]


def train_dictionary(
    batches: Iterator[Tensor], settings: Settings, about: dict[str, Any] | None = None
) -> Dictionary:
    """Train a dictionary. The same batches and settings give the same bits on one machine.

    Args:
        batches: activations ``[batch, n_model, d_model]``; the first gives mean and scale.
        settings: how it is trained.
        about: goes with the dictionary.

    Raises:
        ConfigError: the settings make no sense, or there are fewer batches than steps.
    """
    if not 0 < settings.k < settings.features or settings.steps < 1:
        raise ConfigError(
            f"A dictionary of {settings.features} features can't have {settings.k} active in "
            f"{settings.steps} steps: give 0 < k < features and at least one step."
        )
    first = next(batches, None)
    if first is None:
        raise ConfigError("There are no activations to train a dictionary on: give more texts.")
    mean = first.mean(0)
    scale = (first - mean).square().sum(2).mean(0).sqrt().clamp(min=1e-6)
    generator = torch.Generator().manual_seed(settings.seed)
    decoder = torch.randn(settings.features, *mean.shape, generator=generator).to(first.device)
    decoder /= decoder.flatten(1).norm(dim=1)[:, None, None]
    weights = {
        "encoder": decoder.permute(1, 2, 0).contiguous(),
        "encoder_bias": decoder.new_zeros(settings.features),
        "decoder": decoder,
        "bias": torch.zeros_like(mean),
    }
    for weight in weights.values():
        weight.requires_grad_(True)
    optimiser = torch.optim.Adam(weights.values(), lr=settings.lr, betas=(0.9, 0.999))
    silent = decoder.new_zeros(settings.features)
    smallest: list[Tensor] = []
    batch: Tensor | None = first
    for step in range(settings.steps):
        if batch is None:
            raise ConfigError(
                f"Activations ended at step {step} of {settings.steps}: give more texts or fewer "
                "steps."
            )
        left = (settings.steps - step) / (0.2 * settings.steps)
        optimiser.param_groups[0]["lr"] = settings.lr * min(1.0, left)
        x = (batch - mean) / scale[:, None]
        loss, least, active = _loss(x, weights, settings.k, silent)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            decoder /= decoder.flatten(1).norm(dim=1)[:, None, None].clamp(min=1e-12)
            silent = torch.where(active, 0.0, silent + 1)
        if step >= (1 - THRESHOLD_SHARE) * settings.steps:
            smallest.append(least)
        batch = next(batches, None)
    final = {name: weight.detach() for name, weight in weights.items()}
    threshold = torch.stack(smallest).mean() if smallest else least
    return Dictionary(
        **final, mean=mean, scale=scale, threshold=threshold, settings=settings, about=about or {}
    )


def _loss(
    x: Tensor, weights: dict[str, Tensor], k: int, silent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, smallest activation that stayed, and which features were active."""
    before = raw_features(x, weights["encoder"], weights["encoder_bias"], weights["bias"])
    top = before.flatten().topk(k * len(x))
    features = torch.zeros_like(before.flatten()).scatter(0, top.indices, top.values)
    features = features.view_as(before)
    flat = weights["decoder"].flatten(1)
    error = x.flatten(1) - features @ flat - weights["bias"].flatten()
    loss = error.square().sum(1).mean()
    dead = (silent >= SILENT).nonzero().squeeze(1)
    if len(dead):
        candidates = before[:, dead]
        best = candidates.topk(min(len(dead), 2 * k), dim=1)
        sparse = torch.zeros_like(candidates).scatter(1, best.indices, best.values)
        loss = loss + AUXILIARY * (error.detach() - sparse @ flat[dead]).square().sum(1).mean()
    return loss, top.values[-1].detach(), (features > 0).any(0)
