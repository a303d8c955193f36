"""Path patching (Wang et al. 2023, appendix B; Goldowsky-Dill et al. 2023).

What does a sender tell a reader, and does it matter? First the senders' outputs are replaced by
those of the corrupted run while all other heads keep their clean outputs, and what the readers then
take in is noted. Then the clean run is made with exactly that in place of what these readers read;
everything behind them is computed again.

Through ``"direct"`` only the residual stream leads from a sender to a reader: MLPs keep their clean
outputs too, so a reader takes in the clean residual stream plus the senders' change. Through
``"mlps"`` the MLPs between them are recomputed, as Wang et al. do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.choices import THROUGH, Through
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.record import PathPatching
from mechshift_lib.circuits.questions.items import batches, check_batch_size, check_items
from mechshift_lib.circuits.questions.means import ItemMeans
from mechshift_lib.circuits.questions.metrics import Reads, check_metric, item_metric, reads_for
from mechshift_lib.circuits.tracing.layers import STREAMS, LayerRun, run_layers
from mechshift_lib.circuits.tracing.received import Received, receive, run_received
from mechshift_lib.circuits.tracing.resuming import run_from
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at, scatter_qkv, split_sizes
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


def patch_paths(
    model: LoadedModel,
    items: Sequence[Item],
    senders: Sequence[str],
    readers: Sequence[str],
    *,
    through: Through = "direct",
    together: bool = False,
    metric: str = "logit-diff",
    batch_size: int = 256,
    progress: bool = False,
) -> PathPatching:
    """Patch the paths from senders to readers.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        senders: names of nodes, such as ``input``, ``a3.h1`` and ``m2``.
        readers: names of readers, such as ``a5.h0<q>``, ``m4`` and ``logits``, which are patched
            at once; ``logits`` stands alone, for nothing comes after it.
        through: ``"direct"``: the residual stream alone; ``"mlps"``: the MLPs between sender and
            reader are recomputed.
        together: patch all senders at once; else one after the other, a row for each.
        metric: one of :data:`mechshift_lib.circuits.questions.metrics.METRICS`.
        batch_size: patched runs in one pass; makes no difference to the values.
        progress: show a progress bar.

    Raises:
        CircuitError: a name or option is unknown, no sender writes before a reader, an item is
            malformed or doesn't fit the model, or the metric is NaN.
    """
    graph = Graph.for_model(model)
    target = _Target.of(graph, model, readers)
    groups = [tuple(senders)] if together else [(name,) for name in senders]
    sent = _sent(graph, groups, target)
    check_through(through)
    check_metric(metric)
    check_batch_size(batch_size)
    check_items(items, model)
    sums = ItemMeans(items, (len(groups) + 2,), np.float64)
    with tqdm(total=len(items), desc="path patching", unit="item", disable=not progress) as bar:
        for batch in batches(items, batch_size):
            runs = _Runs.of(model, batch, metric)
            values = torch.empty(len(groups), len(batch), dtype=torch.float64)
            for chosen in _passes(graph, sent, max(1, batch_size // len(batch))):
                values[chosen] = _patch(model, graph, runs, target, sent[chosen], through, metric)
            found = torch.cat([values, runs.clean_metric, runs.corrupted_metric])
            sums.add(batch, found.T.numpy())
            bar.update(len(batch))
    return PathPatching(
        senders=tuple(groups),
        readers=tuple(target.names),
        through=through,
        metric=metric,
        examples=sums.examples,
        patched=sums.by_example.T[:-2],
        clean=sums.by_example[:, -2],
        corrupted=sums.by_example[:, -1],
    )


def check_through(through: str) -> None:
    """Refuse a kind of path that there isn't.

    Raises:
        CircuitError: ``through`` is none of :data:`THROUGH`.
    """
    if through not in THROUGH:
        raise CircuitError(f"Unknown paths {through!r}: choose 'direct' or 'mlps'.")


@dataclass(frozen=True)
class _Target:
    """The readers, as the traces need them.

    Attributes:
        names: their names.
        indices: their indices.
        columns: for each layer with q, k or v readers their columns of each projection's output.
        mlps: layers whose MLP is a reader.
    """

    names: tuple[str, ...]
    indices: list[int]
    columns: dict[int, list[Tensor]]
    mlps: frozenset[int]

    @classmethod
    def of(cls, graph: Graph, model: LoadedModel, readers: Sequence[str]) -> _Target:
        known = {name: index for index, name in enumerate(graph.readers)}
        names = tuple(dict.fromkeys(readers))
        for name in names:
            if name not in known:
                raise CircuitError(
                    f"Unknown reader {name!r}: this model has {graph.n_layers} layers of "
                    f"{graph.n_heads} heads, and readers such as {graph.readers[0]!r}, 'm0' and "
                    "'logits'."
                )
        if not names:
            raise CircuitError("There is no reader: name at least one, such as 'logits'.")
        if "logits" in names and len(names) > 1:
            raise CircuitError(
                "The logits come after all other readers and would hide them: ask for 'logits' "
                "alone or leave it out."
            )
        width = model.d_head
        sizes = split_sizes(graph.n_heads, graph.kv_readers, width)
        columns: dict[int, Tensor] = {}
        mlps = set()
        for name in names:
            layer = int(graph.layer_of_reader[known[name]])
            if name == f"m{layer}":
                mlps.add(layer)
            elif name != "logits":
                within = known[name] - graph.readers_of(layer, "q").start
                mine = columns.setdefault(layer, torch.zeros(sum(sizes), dtype=torch.bool))
                mine[within * width : (within + 1) * width] = True
        return cls(
            names,
            [known[name] for name in names],
            {
                layer: scatter_qkv(model.anatomy, mine.to(model.device), sizes, width)
                for layer, mine in columns.items()
            },
            frozenset(mlps),
        )

    def first_layer(self, start: int) -> int | None:
        """The first layer with a reader, not before ``start``; ``None``: only the logits."""
        return min((x for x in {*self.columns, *self.mlps} if x >= start), default=None)


def _sent(graph: Graph, groups: Sequence[Sequence[str]], target: _Target) -> Tensor:
    """Which nodes each group of senders holds, ``[n_group, n_source]``, bool."""
    known = {name: index for index, name in enumerate(graph.sources)}
    sent = torch.zeros(len(groups), graph.n_sources, dtype=torch.bool)
    for row, names in enumerate(groups):
        for name in names:
            if name not in known:
                raise CircuitError(
                    f"Unknown sender {name!r}: this model has {graph.n_layers} layers of "
                    f"{graph.n_heads} heads, and senders such as 'input', 'a0.h0' and 'm0'."
                )
            sent[row, known[name]] = True
    seen = max(int(graph.visible[index]) for index in target.indices)
    if not sent[:, :seen].any():
        raise CircuitError(
            "None of the senders writes before one of the readers: choose senders of earlier "
            "layers."
        )
    return sent


def _passes(graph: Graph, sent: Tensor, size: int) -> Iterator[Tensor]:
    """Rows of ``sent`` in passes of ``size``, early layers apart from late ones."""
    first = graph.layer_of_source[sent.int().argmax(1).numpy()]
    yield from torch.from_numpy(np.argsort(first, kind="stable")).split(size)


@dataclass(frozen=True)
class _Runs:
    """The clean and the corrupted run of a batch; metrics are ``[1, batch]``, float64."""

    clean: LayerRun
    corrupted: LayerRun
    reads: Reads
    clean_metric: Tensor
    corrupted_metric: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: LoadedModel, items: Sequence[Item], metric: str) -> _Runs:
        runs = [
            run_layers(model, torch.tensor(ids, device=model.device), STREAMS)
            for ids in ([item.clean for item in items], [item.corrupted for item in items])
        ]
        unembed = at(model.hf, model.anatomy.unembed)
        finals = [run_from(model, run.ids, model.n_layers, run.inputs[-1]) for run in runs]
        reads = reads_for(metric, items, model.device, finals[0], unembed)
        clean, corrupted = (
            item_metric(metric, final, unembed, reads).double().cpu()[None] for final in finals
        )
        return cls(runs[0], runs[1], reads, clean, corrupted)


@torch.no_grad()
def _patch(
    model: LoadedModel,
    graph: Graph,
    runs: _Runs,
    target: _Target,
    sent: Tensor,
    through: Through,
    metric: str,
) -> Tensor:
    """Metric of every group of senders and item, float64 on the CPU, ``[n_group, batch]``."""
    batch = len(runs.clean.ids)
    first = int(graph.layer_of_source[sent.any(0).int().argmax()])
    start = max(first, 0)
    rows = torch.arange(batch, device=model.device).repeat(len(sent))
    received: Received = receive(
        model,
        runs.clean,
        runs.corrupted,
        rows,
        sent.to(model.device).repeat_interleave(batch, 0),
        start,
        frozen_mlps=through == "direct",
    )
    if target.names == ("logits",):
        final = received.final
    else:
        reader_layer = target.first_layer(start)
        if reader_layer is None:  # these senders write behind all readers
            return runs.clean_metric.expand(len(sent), batch)
        final = run_received(
            model, runs.clean, rows, received, target.columns, target.mlps, reader_layer
        )
    unembed = at(model.hf, model.anatomy.unembed)
    value = item_metric(metric, final, unembed, runs.reads.take(rows))
    return value.double().cpu().unflatten(0, (len(sent), batch))
