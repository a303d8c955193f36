"""The residual stream at chosen positions, and runs from which directions are taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.tracing.layers import STREAMS, LayerRun, run_layers
from mechshift_lib.circuits.tracing.resuming import run_from
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel


def _by_length(inputs: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Rows of inputs of one length, so that nothing is padded."""
    lengths = np.array([len(one) for one in inputs])
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length).tolist()
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def _run(model: LoadedModel, inputs: Sequence[Sequence[int]], rows: list[int]) -> LayerRun:
    ids = torch.tensor([list(inputs[i]) for i in rows], device=model.device)
    return run_layers(model, ids, STREAMS)


def stream_at(
    model: LoadedModel,
    inputs: Sequence[Sequence[int]],
    positions: Sequence[Sequence[int]],
    batch_size: int,
) -> NDArray[np.float32]:
    """Residual stream of every input at positions of its own.

    One batch of runs is in memory at a time; only the asked positions are kept.

    Args:
        model: a loaded model.
        inputs: token ids, of any lengths.
        positions: for each input the positions that are kept, the same number for all.
        batch_size: inputs a pass.

    Returns:
        ``[n_layers + 1, n_input, n_position, d_model]``: the input of each layer and, last, of the
        final norm.
    """
    n_place = len(positions[0])
    shape = (model.n_layers + 1, len(inputs), n_place, model.d_model)
    found = np.empty(shape, dtype=np.float32)
    for rows in _by_length(inputs, batch_size):
        run = _run(model, inputs, rows)
        where = torch.tensor([list(positions[i]) for i in rows], device=model.device)
        item = torch.arange(len(rows), device=model.device)[:, None]
        for layer, stream in enumerate(run.inputs):
            found[layer, rows] = stream[item, where].float().cpu().numpy()
    return found


def _likeliest(
    model: LoadedModel, run: LayerRun, layer: int, stream: Tensor, where: Tensor
) -> NDArray[np.int64]:
    """Likeliest token of each input at its position, going on from a layer with a stream."""
    item = torch.arange(len(where), device=where.device)
    final = run_from(model, run.ids, layer, stream)[item, where]
    logits = at(model.hf, model.anatomy.unembed)(final).float()
    if model.mask_id is not None:  # never chosen (SUBS)
        logits[:, model.mask_id] = -torch.inf
    return np.asarray(logits.argmax(-1).cpu().numpy())


@torch.no_grad()
def predictions_without(
    model: LoadedModel,
    inputs: Sequence[Sequence[int]],
    positions: Sequence[int],
    bases: Sequence[tuple[int, NDArray[np.float64]]],
    mean: Sequence[NDArray[np.float64]],
    batch_size: int,
) -> NDArray[np.int64]:
    """What the model predicts at a position once directions are taken out of the stream there.

    The component along the directions is set to its mean, so that what is lost is what it says of
    the example (amnesic probing, Elazar et al. 2021, arXiv 2006.00995).

    Args:
        model: a loaded model.
        inputs: token ids, of any lengths.
        positions: where the stream is changed and the logits are read, one for each input.
        bases: for each ablation the layer whose input is changed and an orthonormal basis of what
            is taken out, ``[rank, d_model]``; the layer is at most ``n_layers``, the final norm.
        mean: mean of the stream at the position, one ``[d_model]`` for each ablation.
        batch_size: inputs a pass.

    Returns:
        The likeliest token, ``[1 + n_ablation, n_input]``; the first row is the whole model's.

    Raises:
        ModelError: the model has no such layer, or a basis of another width.
    """
    for layer, basis in bases:
        if not 0 <= layer <= model.n_layers:
            raise ModelError(f"There is no layer {layer}: this model has 0 to {model.n_layers}.")
        if basis.shape[1] != model.d_model:
            raise ModelError(
                f"Directions of width {basis.shape[1]} don't fit a model of width {model.d_model}."
            )
    found = np.empty((1 + len(bases), len(inputs)), dtype=np.int64)
    for rows in _by_length(inputs, batch_size):
        run = _run(model, inputs, rows)
        item = torch.arange(len(rows), device=model.device)
        where = torch.tensor([positions[i] for i in rows], device=model.device)

        found[0, rows] = _likeliest(model, run, model.n_layers, run.inputs[-1], where)
        for number, ((layer, basis), centre) in enumerate(zip(bases, mean, strict=True), 1):
            stream = run.inputs[layer].clone()
            here = stream[item, where]
            rows_of = torch.tensor(basis, device=here.device, dtype=torch.float32)
            off = here.float() - torch.tensor(centre, device=here.device, dtype=torch.float32)
            stream[item, where] = (here.float() - off @ rows_of.T @ rows_of).to(stream.dtype)
            found[number, rows] = _likeliest(model, run, layer, stream, where)
    return found
