"""Does a component still write what it wrote? Compared question by question, in logits.

Models that were trained on from one another have the same components, but need not have the same
residual stream or unembedding. So what a component writes is compared where both are read: in the
logits, without what is added to all alike. Two of them have the inner product
``x_a W_a W_b^T x_b^T``, which needs no vector of the size of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mechshift_lib.errors import ModelError


def alike(own: Tensor, own_weight: Tensor, other: Tensor, other_weight: Tensor) -> Tensor:
    """Cosine between what components of two models write to the logits, over the same reads.

    Args:
        own: what each component adds to the final norm's output, ``[n_read, n_component, d]``
            (:attr:`mechshift_lib.semantics.components.Written.parts`).
        own_weight: W_U of that model, centred over tokens, ``[vocab, d]``.
        other: the same of the other model; its width may differ, its reads and components not.
        other_weight: its own, with the same vocabulary.

    Returns:
        ``[n_component, n_component]``: row of the one model, column of the other; the diagonal is
        a component with itself. 0 where one writes nothing.

    Raises:
        ModelError: reads, components or vocabularies don't match.
    """
    if own.shape[:2] != other.shape[:2] or len(own_weight) != len(other_weight):
        raise ModelError(
            f"What {own.shape[1]} components write at {own.shape[0]} reads can't be compared with "
            f"{other.shape[1]} at {other.shape[0]}, or vocabularies of {len(own_weight)} and "
            f"{len(other_weight)} tokens differ: compare models of one pair on the same questions."
        )
    a, b = own.double(), other.double()
    wa, wb = own_weight.double(), other_weight.double()
    # [d, d'] instead of [n_read, n_component, vocab].
    product = torch.einsum("rcd,de,rke->ck", a, wa.T @ wb, b)
    sizes = [
        torch.einsum("rcd,de,rce->c", x, w.T @ w, x).clamp(min=0).sqrt()
        for x, w in ((a, wa), (b, wb))
    ]
    scale = sizes[0][:, None] * sizes[1]
    return torch.where(scale > 0, product / scale.clamp(min=1e-300), torch.zeros_like(product))
