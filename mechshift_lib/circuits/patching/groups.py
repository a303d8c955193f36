"""Exact patching of groups of positions: the stream of the corrupted run at several at once.

Patching one position after the other misses what only several hold together, and adds up what
several hold alike. A group is patched as one, at the input of each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.patching.activations import TwoRuns, rows_by_length
from mechshift_lib.circuits.questions.items import check_batch_size, check_items
from mechshift_lib.circuits.questions.metrics import check_metric, item_metric
from mechshift_lib.circuits.tracing.resuming import run_from
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

#: Positions of items whose runs are kept at once, per patched run of a pass.
_ITEMS = 4


@dataclass(frozen=True)
class GroupPatching:
    """What the metric becomes when groups of positions are patched.

    Attributes:
        clean: metric of each item in the clean run, ``[n_item]``.
        corrupted: metric of each item in the corrupted run.
        layers: layers at whose inputs is patched (``n_layers``: the final norm's), ``[n_patched]``.
        patched: metric of the clean run with the corrupted stream at a group's positions,
            ``[n_item, n_group, n_patched]``.
    """

    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]
    layers: NDArray[np.int64]
    patched: NDArray[np.float64]


def patch_groups(
    model: LoadedModel,
    items: Sequence[Item],
    groups: Sequence[Sequence[Sequence[int]]],
    *,
    metric: str = "logit-diff",
    first: int = 0,
    batch_size: int = 256,
) -> GroupPatching:
    """Put the corrupted run's residual stream into the clean run at groups of positions.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        groups: for each group and item its positions, ``[n_group][n_item]``; none changes nothing.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        first: the first layer at whose input is patched; then each one up to the final norm.
        batch_size: patched runs in one pass; makes no difference to the values.

    Raises:
        CircuitError: a group doesn't fit the items, an item is malformed or doesn't fit the model,
            or the metric is unknown or NaN.
    """
    check_items(items, model)
    check_metric(metric)
    check_batch_size(batch_size)
    if any(len(group) != len(items) for group in groups):
        raise CircuitError(f"Every group needs positions for each of the {len(items)} items.")
    longest = max(len(item.clean) for item in items)
    where = np.zeros((len(items), len(groups), longest), dtype=bool)
    for column, group in enumerate(groups):
        for row, (item, positions) in enumerate(zip(items, group, strict=True)):
            if any(not 0 <= p < len(item.clean) for p in positions):
                raise CircuitError(f"A group has positions outside of example {item.example}.")
            where[row, column, list(positions)] = True
    clean, corrupted = np.empty(len(items)), np.empty(len(items))
    layers = np.arange(first, model.n_layers + 1)
    patched = np.empty((len(items), len(groups), len(layers)))

    def work(rows: Sequence[int]) -> None:
        runs = TwoRuns.of(model, [items[row] for row in rows], "noise", metric)
        length = runs.base.ids.shape[1]
        chosen = torch.from_numpy(where[rows, :, :length]).to(runs.base.ids.device)
        clean[rows] = runs.clean.double().cpu().numpy()
        corrupted[rows] = runs.corrupted.double().cpu().numpy()
        for column, layer in enumerate(layers.tolist()):
            value = _measure(model, runs, chosen, layer, metric, batch_size)
            patched[rows, :, column] = value.numpy()

    for length, bucket in rows_by_length(items):
        size = BatchSize(max(1, _ITEMS * batch_size // length))
        for _ in retrying_batches(bucket, size, work):
            pass
    return GroupPatching(clean, corrupted, layers, patched)


@torch.no_grad()
def _measure(
    model: LoadedModel, runs: TwoRuns, chosen: Tensor, layer: int, metric: str, batch_size: int
) -> Tensor:
    """Metric with each group ``[batch, n_group, pos]`` patched at a layer, ``[batch, n_group]``.

    A group that can't change the reads keeps the value of the clean run.
    """
    stream, other = runs.base.inputs[layer], runs.source.inputs[layer]
    matters = runs.is_read if layer == model.n_layers else runs.reaches
    changed = chosen & ((stream != other).any(-1) & matters)[:, None]
    values = runs.start.double().cpu()[:, None].repeat(1, chosen.shape[1])
    found = changed.any(-1).nonzero()

    def work(some: Sequence[int]) -> Tensor:
        item, group = found[some[0] : some[-1] + 1].unbind(1)
        rows = torch.where(changed[item, group][..., None], other[item], stream[item])
        final = run_from(model, runs.base.ids[item], layer, rows)
        unembed = at(model.hf, model.anatomy.unembed)
        return item_metric(metric, final, unembed, runs.reads.take(item)).double().cpu()

    for some, value in retrying_batches(
        range(len(found)), BatchSize(batch_size), work, within=True
    ):
        values[tuple(found[some[0] : some[-1] + 1].cpu().unbind(1))] = value
    return values
