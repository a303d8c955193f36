"""Activations of single neurons at every token of a set of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mechshift_lib.circuits.attribution.neurons import KEPT, SITES, Site, neurons_of
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.models.anatomy import at, rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.semantics.rules import Text

#: Neurons of a layer that are looked at; of wider layers evenly spaced ones.
MOST = 1024


@torch.no_grad()
def neuron_activations(
    model: LoadedModel, texts: Sequence[Text], batch_size: int
) -> dict[Site, NDArray[np.float32]]:
    """What neurons of every layer do at every token.

    Args:
        model: a loaded model.
        texts: what is read, whole and unpadded.
        batch_size: texts a pass.

    Returns:
        For ``stream`` the residual stream at the end of each layer, for ``mlp`` what the last
        linear map of each MLP reads: ``[n_layers, n_token, width]``, text after text.
    """
    lengths = np.array([len(text.ids) for text in texts])
    starts = np.cumsum(lengths) - lengths
    keep = frozenset[str]().union(*KEPT.values())
    found: dict[Site, NDArray[np.float32]] = {}
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        for first in range(0, len(same), batch_size):
            batch = same[first : first + batch_size]
            ids = torch.tensor([texts[i].ids for i in batch], device=model.device)
            run = run_layers(model, ids, keep)  # type: ignore[arg-type]
            where = (starts[batch][:, None] + np.arange(length)).ravel()
            for site in SITES:
                for layer, x in enumerate(neurons_of(run, site)):
                    flat = x.flatten(0, 1).float().cpu().numpy()
                    chosen = looked_at(model, site)
                    if site not in found:
                        shape = (model.n_layers, int(lengths.sum()), len(chosen))
                        found[site] = np.empty(shape, dtype=np.float32)
                    found[site][layer, where] = flat[:, chosen]
    return found


def looked_at(model: LoadedModel, site: Site) -> NDArray[np.int64]:
    """Numbers of a layer's neurons that are looked at: all, or :data:`MOST` evenly spaced."""
    last = at(model.anatomy.layer(model.hf, 0), model.anatomy.mlp_out)
    width = model.d_model if site == "stream" else rows(last).shape[1]
    return np.unique(np.linspace(0, width - 1, min(width, MOST)).round().astype(np.int64))


def rotated(x: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The same activations in a random basis: every layer turned by a rotation of its own.

    Distances, the total variance and all that linear readers could read stay as they are.

    Args:
        x: ``[n_layers, n_token, width]``.
        seed: seed of the draw; layers are turned independently.
    """
    rng = np.random.default_rng(seed)
    turns = []
    for _ in x:
        q, r = np.linalg.qr(rng.normal(size=(x.shape[2], x.shape[2])))
        turns.append(q * np.sign(np.diag(r)))  # uniform over rotations (Mezzadri 2007)
    return np.einsum("lpi,lij->lpj", x, np.stack(turns).astype(np.float32), optimize=True)
