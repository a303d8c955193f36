"""Cutting attention: the model runs while no other token may look at some positions.

What these positions compute then reaches nobody; what they hold themselves, and what they see,
stays. It is the exact test of whether anything is read from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.questions.items import batches, check_batch_size, check_items
from mechshift_lib.circuits.questions.means import ItemMeans
from mechshift_lib.circuits.questions.metrics import check_metric, reads_for
from mechshift_lib.circuits.questions.reading import read_out
from mechshift_lib.circuits.tracing.layers import NOTHING, LayerRun, run_layers
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


@dataclass(frozen=True)
class CutRuns:
    """What a model does with attention to some positions cut.

    Attributes:
        examples: indices of the examples, ascending, ``[n_example]``.
        values: metric, ``[n_cut, n_example]``; the mean over an example's items weighted by their
            number of reads.
        correct: share of the reads whose likeliest token is an answer, ``[n_cut, n_example]``.
    """

    examples: NDArray[np.int64]
    values: NDArray[np.float64]
    correct: NDArray[np.float64]


@torch.no_grad()
def cut_attention(
    model: LoadedModel,
    items: Sequence[Item],
    cuts: Sequence[Sequence[Sequence[int]]],
    *,
    metric: str = "logit-diff",
    batch_size: int = 256,
    reads_only: bool = False,
) -> CutRuns:
    """Run the clean inputs while nobody but themselves sees some positions, in any layer.

    Args:
        model: a loaded model whose code takes a mask of its own, as those of transformers do.
        items: questions made by a readout.
        cuts: for each cut and item the positions that no other position may look at,
            ``[n_cut][n_item]``; none is the clean run.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        batch_size: rows per pass; makes no difference to the values.
        reads_only: hide them from the positions that are read alone: what others make of them can
            still be read, only not they themselves.

    Raises:
        CircuitError: a position is outside of its item, a read would see nothing else, the model's
            code doesn't heed the mask, or as in
            :func:`mechshift_lib.circuits.evaluation.runs.run_circuits`.
    """
    check_items(items, model)
    check_metric(metric)
    check_batch_size(batch_size)
    _check(items, cuts)
    _check_heeded(model, items[0])
    values, correct = (ItemMeans(items, (len(cuts),), np.float64) for _ in range(2))
    place = {id(item): row for row, item in enumerate(items)}
    unembed = at(model.hf, model.anatomy.unembed)
    for batch in batches(items, batch_size):
        found = np.zeros((2, len(batch), len(cuts)))
        ids = torch.tensor([item.clean for item in batch], device=model.device)
        clean = _run(model, ids, [()] * len(batch)).final
        reads = reads_for(metric, batch, model.device, clean, unembed)
        for number, cut in enumerate(cuts):
            hidden = [cut[place[id(item)]] for item in batch]
            readers = [item.reads for item in batch] if reads_only else None
            final_in = _run(model, ids, hidden, readers).final_in
            parts = read_out(model, metric, final_in.to(_precise(final_in)), reads)
            for kept, part in zip(found, parts, strict=True):
                kept[:, number] = part.double().cpu().numpy()
        values.add(batch, found[0])
        correct.add(batch, found[1])
    return CutRuns(values.examples, values.by_example.T, correct.by_example.T)


def attention_mask(
    model: LoadedModel,
    ids: Tensor,
    hidden: Sequence[Sequence[int]],
    readers: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """What each position may look at, as transformers adds it to the scores.

    Args:
        model: a loaded model.
        ids: input ids, ``[batch, pos]``.
        hidden: for each row the positions that only they themselves see.
        readers: for each row the positions that they are hidden from; by default all others.

    Returns:
        0 where a query (rows) sees a key (columns), else the least number of the model's dtype,
        ``[batch, 1, pos, pos]``.
    """
    batch, length = ids.shape
    seen = torch.ones(batch, length, length, dtype=torch.bool, device=ids.device)
    if model.attention == "causal":
        seen = seen.tril()
    for row, positions in enumerate(hidden):
        cut = torch.zeros(length, dtype=torch.bool, device=ids.device)
        cut[list(positions)] = True
        blind = ~cut  # a hidden position sees itself and the other hidden ones
        if readers is not None:
            blind = torch.zeros_like(cut)
            blind[list(readers[row])] = True
            blind &= ~cut
        seen[row] &= ~(blind[:, None] & cut[None, :])
    dtype = next(model.hf.parameters()).dtype
    mask = torch.zeros(batch, 1, length, length, dtype=dtype, device=ids.device)
    return mask.masked_fill(~seen[:, None], torch.finfo(dtype).min)


def _run(
    model: LoadedModel,
    ids: Tensor,
    hidden: Sequence[Sequence[int]],
    readers: Sequence[Sequence[int]] | None = None,
) -> LayerRun:
    """Run input ids ``[batch, pos]`` while some positions of each row are hidden from others."""
    return run_layers(model, ids, NOTHING, attention=attention_mask(model, ids, hidden, readers))


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _check(items: Sequence[Item], cuts: Sequence[Sequence[Sequence[int]]]) -> None:
    for cut in cuts:
        if len(cut) != len(items):
            raise CircuitError(f"A cut of {len(cut)} items doesn't fit {len(items)} items.")
        for item, positions in zip(items, cut, strict=True):
            if any(not 0 <= p < len(item.clean) for p in positions):
                raise CircuitError(
                    f"Example {item.example} has {len(item.clean)} positions, so {list(positions)} "
                    "can't all be cut off."
                )


def _check_heeded(model: LoadedModel, item: Item) -> None:
    """Prove that the model's code heeds a mask: hiding the last token but from itself counts."""
    ids = torch.tensor([item.clean], device=model.device)
    if len(item.clean) < 2:
        return
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % model.vocab_size
    last = [[len(item.clean) - 1]]
    first, second = (_run(model, x, last).final_in[0, :-1] for x in (ids, other))
    if not torch.equal(first, second):
        raise CircuitError(
            "This model's own code doesn't heed an attention mask, so attention can't be cut: use "
            "a model whose code is that of transformers."
        )
