"""What a dictionary is worth, and whether its features are shared or of one model only."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.semantics.dictionary import Dictionary, relative_norm

Array = NDArray[np.float64]

#: Bounds of the relative norm up to which a feature counts as of the first model only, and from
#: which on as of the second only; between the inner bounds it counts as shared.
ONLY, SHARED = (0.1, 0.9), (0.4, 0.6)
KINDS = ("first only", "leaning to first", "shared", "leaning to second", "second only")
#: Ratios of latent scaling, on errors and on reconstructions, below which a feature is of one model
#: (the bounds of Minder et al. 2025).
SCALED = (0.2, 0.5)


def kinds(relative: Array) -> NDArray[np.str_]:
    """The kind of each feature, one of :data:`KINDS`, by relative norm ``[n_feature]``."""
    at = np.searchsorted([ONLY[0], SHARED[0], SHARED[1], ONLY[1]], relative, side="right")
    return np.array(KINDS)[at]


@torch.no_grad()
def latent_scaling(dictionary: Dictionary, x: Tensor) -> tuple[Array, Array]:
    """Does a feature that one decoder lacks explain that model all the same?

    Sparsity can push a decoder vector to zero though the model has the feature (Minder et al. 2025,
    arXiv 2504.02922). So each feature's longer decoder vector v is fitted to what is left of each
    model's activations without the feature, beta = sum f <v, y> / (sum f^2 |v|^2) with
    y = x - decoded + f w and w the model's own vector. The ratio is the fit in the other model over
    the fit in the model of the longer vector: near 0, the feature is of one model only; near 1, it
    is shared and its norm is an artefact.

    Args:
        dictionary: a crosscoder of two models.
        x: activations ``[n, 2, d_model]``.

    Returns:
        Ratio on errors and ratio on reconstructions (y = decoded instead), ``[n_feature]``; NaN
        where a feature never is active or its own fit isn't positive.
    """
    features = dictionary.encode(x)
    scaled = dictionary.normalised(x)
    decoded = dictionary.normalised(dictionary.decode(features))
    norms = dictionary.norms()
    owner = norms.argmax(1)
    every = torch.arange(dictionary.n_features, device=x.device)
    longer = dictionary.decoder[every, owner]
    energy = features.square().sum(0) * longer.square().sum(1)
    found: list[Array] = []
    for target in (scaled - decoded, decoded - dictionary.bias):
        betas = []
        for model in range(2):
            fit = ((features.T @ target[:, model]) * longer).sum(1)
            if not found:  # the feature's own part is added back to the error
                own = (dictionary.decoder[:, model] * longer).sum(1)
                fit = fit + features.square().sum(0) * own
            betas.append(fit / energy)
        mine = torch.stack(betas, 1)[every, owner]
        other = torch.stack(betas, 1)[every, 1 - owner]
        ratio = torch.where((energy > 0) & (mine > 0), other / mine, torch.nan)
        found.append(ratio.double().cpu().numpy())
    return found[0], found[1]


def confirmed(errors: Array, decoded: Array) -> NDArray[np.bool_]:
    """Whether both ratios of :func:`latent_scaling` leave a feature to one model."""
    return (np.abs(errors) < SCALED[0]) & (np.abs(decoded) < SCALED[1])


def counts(dictionary: Dictionary, x: Tensor) -> dict[str, int]:
    """Features of a crosscoder of two models by kind, of those that are active at all.

    Args:
        dictionary: the crosscoder.
        x: activations ``[n, 2, d_model]``.

    Returns:
        Their number for each of :data:`KINDS`; ``live``, all of them; ``confirmed first`` and
        ``confirmed second``, those of one model only that latent scaling leaves to it.
    """
    live = explained(dictionary, x)[2] > 0
    of = kinds(relative_norm(dictionary).double().cpu().numpy())
    alone = confirmed(*latent_scaling(dictionary, x)) & live
    found = {kind: int((live & (of == kind)).sum()) for kind in KINDS}
    found |= {
        f"confirmed {x}": int((alone & (of == f"{x} only")).sum()) for x in ("first", "second")
    }
    return found | {"live": int(live.sum())}


@torch.no_grad()
def explained(dictionary: Dictionary, x: Tensor) -> tuple[Array, float, Array]:
    """How well activations ``[n, n_model, d_model]`` are reconstructed, and by how many features.

    Returns:
        Share of the variance explained in each model, ``[n_model]``; mean number of active
        features; share of rows at which each feature is active, ``[n_feature]``.
    """
    features = dictionary.encode(x)
    error = (x - dictionary.decode(features)).square().sum((0, 2))
    total = (x - x.mean(0)).square().sum((0, 2)).clamp(min=1e-12)
    active = (features > 0).double()
    share = (1 - error / total).double().cpu().numpy()
    return share, float(active.sum(1).mean()), active.mean(0).cpu().numpy()


def matching(a: Tensor, b: Tensor) -> float:
    """Mean over the features of ``a`` of the largest cosine with a feature of ``b``.

    Args:
        a: decoder ``[n_feature, n_model, d_model]`` or ``[n_feature, d]``.
        b: another one of the same width.
    """
    flat = [one.flatten(1) / one.flatten(1).norm(dim=1, keepdim=True) for one in (a, b)]
    return float((flat[0] @ flat[1].T).amax(1).mean())
