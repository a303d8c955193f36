"""What is minimised: the autoregressive loss and the masked-diffusion loss with shift.

Both read token ``i`` from the logits at ``i - 1``, as an ARM does; that is what lets a
masked diffusion model start from an ARM's weights (shift operation of DiffuLLaMA and Dream).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def token_losses(hidden: Tensor, head: torch.nn.Module, ids: Tensor, where: Tensor) -> Tensor:
    """Cross-entropy of the chosen tokens, each read one position earlier.

    Logits are formed at the chosen positions only.

    Args:
        hidden: last hidden states, ``[batch, pos, d_model]``.
        head: the unembedding, d_model -> vocabulary.
        ids: the true tokens, ``[batch, pos]``.
        where: bool ``[batch, pos]``; True at position 0 is an error, as nothing predicts it.

    Returns:
        float ``[n_chosen]`` in row-major order of ``where``.

    Raises:
        ValueError: ``where`` chooses the first token of a sequence.
    """
    if bool(where[:, 0].any()):
        raise ValueError("the first token can't be predicted: no position precedes it")
    chosen = hidden[:, :-1][where[:, 1:]]
    return F.cross_entropy(head(chosen).float(), ids[:, 1:][where[:, 1:]], reduction="none")


def inverse_time_weights(times: Tensor, masked: Tensor) -> Tensor:
    """Weight 1/t of every masked token, 0 elsewhere; float ``[batch, pos]``.

    With the linear schedule the weighted sum is the negative evidence lower bound (MDLM eq. 10;
    DiffuLLaMA eq. 5).
    """
    return masked.float() / times[:, None]


def cart_weights(masked: Tensor, present: Tensor, p: float = 0.3) -> Tensor:
    """Token-adaptive weights of Dream (context-adaptive noise rescheduling, CART).

    ``w_n = 1/2 * sum over unmasked i != n of p (1 - p)^(|n - i| - 1)`` at every masked ``n``: a
    masked token counts more the more known tokens are near (Ye et al. 2025, Dream 7B, eq. 4).

    Args:
        masked: bool ``[batch, pos]``.
        present: bool ``[batch, pos]``, False at padding, which informs of nothing.
        p: parameter of the geometric kernel, 0 < p <= 1.

    Returns:
        float ``[batch, pos]``, 0 where not masked.
    """
    n = masked.shape[1]
    index = torch.arange(n, device=masked.device)
    distance = (index[:, None] - index[None, :]).abs()
    kernel = 0.5 * p * (1.0 - p) ** (distance - 1).clamp(min=0).float()
    kernel = kernel.masked_fill(distance == 0, 0.0)
    known = (present & ~masked).float()
    return (known @ kernel) * masked


def annealed_attention(
    present: Tensor, rate: float, generator: torch.Generator | None = None
) -> Tensor:
    """Additive attention mask on the way from causal to full (DiffuLLaMA, attention annealing).

    A query sees a key if the key is not later, or with probability ``rate`` if it is; a key that
    is padding is seen by nobody but itself (so that no row is empty).

    Args:
        present: bool ``[batch, pos]``, False at padding.
        rate: 0 is causal, 1 is full.
        generator: source of randomness on the CPU (needed for 0 < rate < 1 to be repeatable).

    Returns:
        float ``[batch, 1, pos, pos]``: 0 where seen, the type's minimum elsewhere.
    """
    batch, n = present.shape
    seen = torch.ones(n, n, dtype=torch.bool).tril().expand(batch, n, n)
    if rate >= 1.0:
        seen = torch.ones_like(seen)
    elif rate > 0.0:
        seen = seen | (torch.rand(batch, n, n, generator=generator) < rate)
    itself = torch.eye(n, dtype=torch.bool, device=present.device)
    seen = (seen.to(present.device) & present[:, None, :]) | itself
    mask = torch.zeros(batch, n, n, device=present.device)
    return mask.masked_fill(~seen, torch.finfo(mask.dtype).min)[:, None]
