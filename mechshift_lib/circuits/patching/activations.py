"""Exact activation patching of nodes by layer and position (Meng et al. 2022; Heimersheim & Nanda
2024), the yardstick of node attribution.

One activation of a run, at one position or at all, is replaced by that of the other run, and
everything behind it is computed again. ``"denoise"`` puts a clean activation into the corrupted run
(does it suffice to restore the behaviour?), ``"noise"`` a corrupted one into the clean run (is it
needed?).

A patched layer is run once for all positions: behind attention everything is computed position by
position, so replacing what is written there at all positions at once gives the next layer's input
of every single one. What follows is run with a row for each patch, from that layer on; patches that
change nothing that can reach a read keep the value of the run they are made in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.choices import DIRECTIONS, Direction
from mechshift_lib.circuits.patching.record import SITES, Patching, Site
from mechshift_lib.circuits.questions.items import check_batch_size, check_items
from mechshift_lib.circuits.questions.metrics import Reads, check_metric, item_metric, reads_for
from mechshift_lib.circuits.tracing.layers import STREAMS, LayerRun, run_layers
from mechshift_lib.circuits.tracing.resuming import run_from, through_layer
from mechshift_lib.circuits.tracing.retrying import BatchSize, retrying_batches
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


def patch_nodes(
    model: LoadedModel,
    items: Sequence[Item],
    *,
    sites: Sequence[Site] = SITES,
    direction: Direction = "denoise",
    metric: str = "logit-diff",
    by_position: bool = True,
    only: Sequence[int] | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Patching:
    """Patch every chosen activation, one at a time, and measure.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order; each denoising step of
            an MDM is an item of its own.
        sites: what to patch, some of :data:`SITES`.
        direction: ``"denoise"``: the corrupted run with an activation of the clean run;
            ``"noise"``: the clean run with an activation of the corrupted run.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        by_position: patch one position at a time; else all of them at once.
        only: with ``by_position``, the one position of each item that is patched: values of others
            are NaN.
        batch_size: patched runs in one pass, fewer once a GPU's memory runs out; makes no
            difference to the values.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed or doesn't fit the model, an option is unknown, or the
            metric is NaN.
    """
    sites = check_patching(sites, direction, metric, batch_size)
    check_items(items, model)
    if only is not None:
        _check_only(items, only, by_position)
    n_pos = max(len(item.clean) for item in items) if by_position else 1
    patched: dict[str, NDArray[np.float64]] = {
        site: np.full((len(items), *shape, n_pos), np.nan)
        for site, shape in _places(model).items()
        if site in sites
    }
    clean, corrupted = np.empty(len(items)), np.empty(len(items))

    def work(rows: Sequence[int]) -> None:
        wanted = None if only is None else [only[row] for row in rows]
        group = TwoRuns.of(model, [items[row] for row in rows], direction, metric, wanted)
        clean[rows] = group.clean.double().cpu().numpy()
        corrupted[rows] = group.corrupted.double().cpu().numpy()
        for site, place, value in _every_patch(
            model, group, sites, metric, by_position, batch_size
        ):
            where: tuple[Any, ...] = (rows, *place, slice(value.shape[-1]))
            patched[site][where] = value.numpy()

    with tqdm(total=len(items), desc="patching", unit="item", disable=not progress) as bar:
        for length, bucket in rows_by_length(items):
            size = BatchSize(max(1, batch_size // length))
            for rows, _ in retrying_batches(bucket, size, work):
                bar.update(len(rows))
    return Patching(
        direction=direction,
        metric=metric,
        by_position=by_position,
        examples=np.array([item.example for item in items], dtype=np.int64),
        steps=np.array([item.step for item in items], dtype=np.int64),
        reads=np.array([len(item.reads) for item in items], dtype=np.int64),
        lengths=np.array([len(item.clean) for item in items], dtype=np.int64),
        clean=clean,
        corrupted=corrupted,
        patched=patched,
    )


def _check_only(items: Sequence[Item], only: Sequence[int], by_position: bool) -> None:
    """Raise CircuitError unless there is a position of every item, patched one at a time."""
    if not by_position:
        raise CircuitError("Patching one position of each item takes by_position=True.")
    if len(only) != len(items):
        raise CircuitError(f"There are {len(only)} positions for {len(items)} items.")
    for item, position in zip(items, only, strict=True):
        if not 0 <= position < len(item.clean):
            raise CircuitError(
                f"An item of {len(item.clean)} tokens has no position {position} to patch."
            )


def check_patching(
    sites: Sequence[Site], direction: str, metric: str, batch_size: int
) -> tuple[Site, ...]:
    """The sites in their usual order, once each.

    Raises:
        CircuitError: an option of :func:`patch_nodes` is unknown or out of range.
    """
    unknown = [site for site in sites if site not in SITES]
    if unknown or not sites:
        what = f"Unknown site {unknown[0]!r}" if unknown else "There is no site to patch"
        raise CircuitError(f"{what}: choose from {', '.join(SITES)}.")
    if direction not in DIRECTIONS:
        raise CircuitError(f"Unknown direction {direction!r}: choose 'denoise' or 'noise'.")
    check_metric(metric)
    check_batch_size(batch_size)
    return tuple(site for site in SITES if site in sites)


def _places(model: LoadedModel) -> dict[Site, tuple[int, ...]]:
    """How many places each site has: layers, or layers and heads."""
    layers = model.n_layers
    return {
        "resid": (layers + 1,),
        "attn": (layers,),
        "mlp": (layers,),
        "head": (layers, model.n_heads),
    }


def rows_by_length(items: Sequence[Item]) -> list[tuple[int, list[int]]]:
    """Rows of the items of each length, the shortest first."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, item in enumerate(items):
        by_length[len(item.clean)].append(row)
    return sorted(by_length.items())


@dataclass(frozen=True)
class TwoRuns:
    """Items of one length with their two runs.

    Attributes:
        base: the run that is patched.
        source: the run that the activations come from.
        reads: the items' reads.
        clean: metric in the clean run, ``[batch]``.
        corrupted: metric in the corrupted run.
        start: metric of ``base``.
        reaches: which positions of the residual stream can reach a read through a layer,
            ``[batch, pos]``.
        is_read: which positions are read.
        wanted: which positions are patched, ``[batch, pos]``.
    """

    base: LayerRun
    source: LayerRun
    reads: Reads
    clean: Tensor
    corrupted: Tensor
    start: Tensor
    reaches: Tensor
    is_read: Tensor
    wanted: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        model: LoadedModel,
        items: list[Item],
        direction: str,
        metric: str,
        only: Sequence[int] | None = None,
    ) -> TwoRuns:
        runs = [
            run_layers(model, torch.tensor(ids, device=model.device), STREAMS)
            for ids in ([item.clean for item in items], [item.corrupted for item in items])
        ]
        unembed = at(model.hf, model.anatomy.unembed)
        finals = [run_from(model, run.ids, model.n_layers, run.inputs[-1]) for run in runs]
        reads = reads_for(metric, items, model.device, finals[0], unembed)
        clean, corrupted = (item_metric(metric, final, unembed, reads) for final in finals)
        is_read = torch.zeros_like(runs[0].ids, dtype=torch.bool)
        is_read[reads.rows, reads.positions] = True
        reaches = torch.ones_like(is_read)
        if model.attention == "causal":  # nothing behind the last read can change it
            reaches = is_read.flip(1).cumsum(1).flip(1) > 0
        base, source = runs[::-1] if direction == "denoise" else runs
        start = corrupted if direction == "denoise" else clean
        wanted = torch.ones_like(is_read)
        if only is not None:
            wanted.fill_(False)
            wanted[torch.arange(len(items)), torch.tensor(only)] = True
        return cls(base, source, reads, clean, corrupted, start, reaches, is_read, wanted)


#: A patch: its site, its place there (layer, or layer and head), and what belongs to it.
_Patch = tuple[Site, tuple[int, ...], Tensor]


def _every_patch(
    model: LoadedModel,
    group: TwoRuns,
    sites: Sequence[Site],
    metric: str,
    by_position: bool,
    batch_size: int,
) -> Iterator[_Patch]:
    """Every patch of a group of items with the metric that it leads to, ``[batch, n_pos]``."""
    for boundary in range(model.n_layers + 1):
        # 1. The patches that are complete at a layer's input, made at all positions
        patches = _patches(model, group, boundary, sites, batch_size)
        if not patches:
            continue
        # 2. From there on a run for each position that they change
        streams = torch.stack([stream for _, _, stream in patches])
        values = _measure(model, group, boundary, streams, metric, by_position, batch_size)
        for (site, place, _), value in zip(patches, values, strict=True):
            yield site, place, value


def _patches(
    model: LoadedModel, group: TwoRuns, boundary: int, sites: Sequence[Site], batch_size: int
) -> list[_Patch]:
    """Patches that are complete at the input of layer ``boundary``.

    Those of its residual stream and those of what the layer below writes, each with the residual
    stream if it is made at all positions, ``[batch, pos, d_model]``.
    """
    base, source = group.base, group.source
    found: list[_Patch] = []
    if "resid" in sites:
        found.append(("resid", (boundary,), source.inputs[boundary]))
    layer = boundary - 1
    if layer < 0:
        return found
    whole: list[_Patch] = []
    if "attn" in sites:
        whole.append(("attn", (layer,), source.heads[layer]))
    if "mlp" in sites:
        whole.append(("mlp", (layer,), base.heads[layer]))
    if "head" in sites:
        for head in range(model.n_heads):
            columns = slice(head * model.d_head, (head + 1) * model.d_head)
            heads = base.heads[layer].clone()
            heads[..., columns] = source.heads[layer][..., columns]
            whole.append(("head", (layer, head), heads))
    batch = len(base.ids)
    size = max(1, batch_size // batch)
    for first in range(0, len(whole), size):
        part = whole[first : first + size]
        behind = through_layer(
            model,
            base,
            layer,
            torch.arange(batch, device=model.device).repeat(len(part)),
            torch.cat([heads for _, _, heads in part]),
            source.mlps[layer].repeat(len(part), 1, 1),
            torch.tensor(
                [site == "mlp" for site, _, _ in part], device=model.device
            ).repeat_interleave(batch),
        )
        for (site, index, _), stream in zip(part, behind.chunk(len(part)), strict=True):
            found.append((site, index, stream))
    return found


@torch.no_grad()
def _measure(
    model: LoadedModel,
    group: TwoRuns,
    boundary: int,
    streams: Tensor,
    metric: str,
    by_position: bool,
    batch_size: int,
) -> Tensor:
    """Metric of every patch, float64 on the CPU, ``[n_patch, batch, n_pos]``.

    Args:
        model: a loaded model.
        group: the items.
        boundary: layer that the runs go on from.
        streams: its input if a patch is made at all positions, ``[n_patch, batch, pos, d_model]``.
        metric: name of the metric.
        by_position: one position at a time.
        batch_size: rows in one pass.
    """
    base, unembed = group.base, at(model.hf, model.anatomy.unembed)
    stream = base.inputs[boundary]
    matters = group.is_read if boundary == model.n_layers else group.reaches
    changed = (streams != stream).any(-1) & matters & group.wanted  # [n_patch, batch, pos]
    if not by_position:
        changed = changed.any(-1, keepdim=True)
    values = group.start.double().cpu()[None, :, None].expand(changed.shape).clone()
    if by_position:
        values[:, ~group.wanted.cpu()] = torch.nan
    found = changed.nonzero()

    def work(some: Sequence[int]) -> Tensor:
        patch, item, position = found[some[0] : some[-1] + 1].unbind(1)
        rows = stream[item]
        if by_position:
            rows[torch.arange(len(some), device=rows.device), position] = streams[
                patch, item, position
            ]
        else:
            rows = streams[patch, item]
        final = run_from(model, base.ids[item], boundary, rows)
        return item_metric(metric, final, unembed, group.reads.take(item)).double().cpu()

    for some, value in retrying_batches(
        range(len(found)), BatchSize(batch_size), work, within=True
    ):
        values[tuple(found[some[0] : some[-1] + 1].cpu().unbind(1))] = value
    return values
