"""The noise schedule of masked diffusion: how much is masked, and which tokens.

Linear schedule: at time ``t ~ U(0, 1)`` each maskable token is masked independently with
probability ``t`` (MDLM, Sahoo et al. 2024; DiffuLLaMA, Gong et al. 2025). The number of masked
tokens among ``n`` is then uniform on ``0 … n``; a draw that masks nothing teaches nothing, so the
number is drawn from ``1 … n`` directly, which has the same expected loss (LLaDA, Nie et al. 2025,
eq. 6) and varies less.
"""

from __future__ import annotations

import numpy as np


def draw_masks(maskable: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask a random, non-empty subset of each row's maskable tokens.

    The number ``k`` is uniform on ``1 … n``, stratified over the batch (an even grid with one
    common offset, shuffled: the low-discrepancy sampler of MDLM); the subset is uniform given
    ``k``.

    Args:
        maskable: bool ``[batch, pos]``; prompt, BOS and padding are False.
        rng: source of randomness.

    Returns:
        masked, bool ``[batch, pos]``, a subset of ``maskable``; and the mask ratio ``k / n`` of
        each row, float64 ``[batch]``, which takes the place of ``t`` (0 where ``n`` is 0).
    """
    size, n = len(maskable), maskable.sum(1)
    uniform = (rng.random() + rng.permutation(size) / size) % 1.0
    k = np.minimum(np.floor(uniform * n).astype(int) + 1, n)
    noise = np.where(maskable, rng.random(maskable.shape), 2.0)
    rank = noise.argsort(1).argsort(1)
    return (rank < k[:, None]) & maskable, k / np.maximum(n, 1)


def apply_masks(ids: np.ndarray, masked: np.ndarray, mask_id: int) -> np.ndarray:
    """The noised input: ``mask_id`` where ``masked``, else ``ids``; ``[batch, pos]``."""
    return np.where(masked, mask_id, ids)
