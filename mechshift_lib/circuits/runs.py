"""Circuit evaluation: run a model with only some edges intact.

A reader takes in Σ_u (kept ? this run's output of u : reference output of u); the reference is what
an :class:`mechshift_lib.circuits.ablation.Ablation` says. Norms are recomputed, and nothing but the
edges into ``logits`` reaches the logits. All edges intact is the clean run, and none, when
resampling, the corrupted run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.circuits.ablation import Ablation, Means, Reference, node_reference
from mechshift_lib.circuits.attribution import active_positions, batches, check_items
from mechshift_lib.circuits.graph import Graph
from mechshift_lib.circuits.masked import masked_run
from mechshift_lib.circuits.metrics import check_metric, item_metric, reads_for
from mechshift_lib.circuits.products import site_readers
from mechshift_lib.circuits.readout import read_out, unembedded
from mechshift_lib.circuits.tracing import NodeOutputs, node_outputs
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

Masks = NDArray[np.bool_]

#: Memory that a pass may take for the sources' outputs unless a budget is given, in bytes.
DEFAULT_BUDGET = 1 << 30


@dataclass(frozen=True)
class CircuitRuns:
    """What each circuit achieves on every example.

    An example's value is the mean over its items, weighted by their number of reads.

    Attributes:
        graph: the graph whose edges were cut.
        examples: indices of the examples, ascending, ``[n_example]``.
        values: metric, ``[n_circuit, n_example]``.
        correct: share of the reads whose likeliest token is an answer, ``[n_circuit, n_example]``.
        clean: metric of the clean run, ``[n_example]``.
        corrupted: metric of the corrupted run, ``[n_example]``.
    """

    graph: Graph
    examples: NDArray[np.int64]
    values: NDArray[np.float64]
    correct: NDArray[np.float64]
    clean: NDArray[np.float64]
    corrupted: NDArray[np.float64]


def run_circuits(
    model: LoadedModel,
    items: Sequence[Item],
    masks: Masks,
    *,
    metric: str = "logit-diff",
    ablation: Ablation | str = Ablation.RESAMPLE,
    reference: Sequence[Item] | None = None,
    batch_size: int = 32,
    memory_budget: int | None = None,
    progress: bool = False,
) -> CircuitRuns:
    """Run every circuit on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        masks: intact edges, ``[n_circuit, n_edges]`` in the order of ``graph.names``.
        metric: one of :data:`mechshift_lib.circuits.metrics.METRICS`.
        ablation: what cut edges carry.
        reference: the set that mean ablation averages over; the items themselves without one.
        batch_size: rows (circuits × items) per pass; makes no difference to the values.
        memory_budget: bytes that the sources' outputs of a pass may take (1 GiB by default);
            passes get fewer rows to keep to it, at least one.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed, the masks have another shape, an option is unknown, the
            reference set lacks a length or step, or the metric is NaN.
    """
    check_items(items, model)
    check_metric(metric)
    graph = Graph.for_model(model)
    masks = check_masks(masks, graph)
    if batch_size < 1:
        raise CircuitError(f"The batch size must be at least 1, not {batch_size}.")
    ablated = _Ablated.of(model, items, ablation, reference, batch_size)
    sums = _Sums(items, len(masks))
    total = len(masks) * len(items)
    with tqdm(total=total, desc="circuits", unit="run", disable=not progress) as bar:
        for batch in batches(items, batch_size):
            rows = _rows(model, graph, batch, batch_size, memory_budget)
            for part in range(0, len(batch), rows):
                some = batch[part : part + rows]
                for circuits, values, correct in _run_batch(
                    model, graph, some, masks, metric, ablated, sums, max(1, rows // len(some))
                ):
                    sums.add(some, circuits, values, correct)
                    bar.update(len(values) * len(some))
    return sums.runs(graph)


def ablate_nodes(
    model: LoadedModel,
    items: Sequence[Item],
    node_sets: Sequence[Collection[str]],
    *,
    metric: str = "logit-diff",
    ablation: Ablation | str = Ablation.RESAMPLE,
    reference: Sequence[Item] | None = None,
    batch_size: int = 32,
    memory_budget: int | None = None,
    progress: bool = False,
) -> CircuitRuns:
    """Ablate sets of nodes: :func:`run_circuits` with all edges that leave them cut.

    Args:
        model: a loaded model.
        items: questions made by a readout.
        node_sets: names of sources, such as ``["a0.h1", "m2"]``, one set per circuit.
        metric: as in :func:`run_circuits`, like all that follow.
        ablation: see there.
        reference: see there.
        batch_size: see there.
        memory_budget: see there.
        progress: see there.

    Raises:
        CircuitError: a node is unknown or writes nothing (``logits``), or as in
            :func:`run_circuits`.
    """
    graph = Graph.for_model(model)
    known = {name: index for index, name in enumerate(graph.sources)}
    masks = np.ones((len(node_sets), graph.n_edges), dtype=bool)
    for mask, names in zip(masks, node_sets, strict=True):
        for name in names:
            if name not in known:
                raise CircuitError(
                    f"Unknown node {name!r}: nodes that can be ablated are 'input', heads such as "
                    f"'a0.h0' and MLPs such as 'm0', up to {graph.sources[-1]!r}."
                )
            mask[graph.source_index == known[name]] = False
    return run_circuits(
        model,
        items,
        masks,
        metric=metric,
        ablation=ablation,
        reference=reference,
        batch_size=batch_size,
        memory_budget=memory_budget,
        progress=progress,
    )


def circuit_logits(
    model: LoadedModel,
    items: Sequence[Item],
    mask: NDArray[np.bool_],
    *,
    ablation: Ablation | str = Ablation.RESAMPLE,
    reference: Sequence[Item] | None = None,
    padding: Literal["left", "right"] | None = None,
) -> Tensor:
    """Logits at the reads when only a circuit is intact, ``[batch, n_read, vocab]``, in one pass.

    Args:
        model: a loaded model.
        items: questions with the same number of reads, of one length unless padded.
        mask: intact edges, ``[n_edges]``.
        ablation: what cut edges carry.
        reference: see :func:`run_circuits`.
        padding: pad shorter items on this side.

    Raises:
        CircuitError: lengths or numbers of reads differ, mean ablation with padding, or as in
            :func:`run_circuits`.
    """
    check_items(items, model)
    graph = Graph.for_model(model)
    masks = check_masks(np.asarray(mask)[None], graph)
    if len({len(item.reads) for item in items}) > 1:
        raise CircuitError("Logits need items with the same number of reads: ask one at a time.")
    longest = max(len(item.clean) for item in items)
    if padding is None and any(len(item.clean) < longest for item in items):
        raise CircuitError("The items have several lengths: say on which side to pad them.")
    if padding is not None and Ablation(ablation) is Ablation.MEAN:
        raise CircuitError("Mean ablation goes by position, so it can't be padded: leave it out.")
    ablated = _Ablated.of(model, items, ablation, reference, len(items))
    left = padding == "left"
    clean, corrupted, kept = (
        torch.tensor([_padded(part, longest, left) for part in parts], device=model.device)
        for parts in (
            [item.clean for item in items],
            [item.corrupted for item in items],
            [(1,) * len(item.clean) for item in items],
        )
    )
    attention_mask = None if padding is None else kept
    cut = ablated.reference(items, node_outputs(model, corrupted, attention_mask))
    final = masked_run(
        model,
        graph,
        clean,
        cut,
        list(cut.streams(model)),
        keep_tables(graph, masks, cut.embed.dtype, model.device, len(items)),
        positions=slice(0, longest),
        mask=attention_mask,
    )
    reads = torch.tensor(
        [
            [read + (longest - len(item.clean) if left else 0) for read in item.reads]
            for item in items
        ],
        device=model.device,
    )
    taken = final.gather(1, reads[..., None].expand(-1, -1, final.shape[2]))
    return unembedded(model, taken)


def check_masks(masks: Masks, graph: Graph) -> Masks:
    """Circuits as an array of booleans.

    Raises:
        CircuitError: another shape or type.
    """
    masks = np.asarray(masks)
    if masks.ndim != 2 or masks.shape[1] != graph.n_edges or masks.dtype != np.bool_:
        raise CircuitError(
            f"Circuits must be an array of booleans [n_circuit, {graph.n_edges}], not "
            f"{masks.dtype} {list(masks.shape)}."
        )
    return masks


def keep_tables(
    graph: Graph, masks: Masks, dtype: torch.dtype, device: torch.device, repeat: int = 1
) -> list[Tensor]:
    """Masks ``[n_circuit, n_edges]`` by reader and source, as :func:`masked_run` takes them.

    For the attention and the MLP of each layer, then the logits:
    ``[n_circuit * repeat, n_reader, n_source seen]``, each circuit ``repeat`` times in a row.
    """
    tables = []
    for readers in site_readers(graph):
        shape = (len(masks), readers.stop - readers.start, int(graph.visible[readers.start]))
        table = torch.from_numpy(masks[:, graph.edges_of(readers)].reshape(shape))
        tables.append(table.to(device).to(dtype).repeat_interleave(repeat, dim=0))
    return tables


@dataclass(frozen=True)
class _Ablated:
    """An ablation with what it needs beyond a batch."""

    kind: Ablation
    means: Means | None

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        items: Sequence[Item],
        ablation: Ablation | str,
        reference: Sequence[Item] | None,
        batch_size: int,
    ) -> _Ablated:
        try:
            kind = Ablation(ablation)
        except ValueError:
            raise CircuitError(
                f"Unknown ablation {ablation!r}: choose one of {', '.join(Ablation)}."
            ) from None
        if kind is not Ablation.MEAN:
            return cls(kind, None)
        if reference is not None:
            check_items(reference, model)
        return cls(kind, Means(model, items if reference is None else reference, batch_size))

    def reference(self, items: Sequence[Item], corrupted: NodeOutputs) -> Reference:
        return node_reference(self.kind, items, corrupted, self.means)


def _rows(
    model: LoadedModel,
    graph: Graph,
    batch: Sequence[Item],
    batch_size: int,
    memory_budget: int | None,
) -> int:
    """Rows per pass that keep the sources' outputs within the budget."""
    budget = DEFAULT_BUDGET if memory_budget is None else memory_budget
    row = 4 * graph.n_sources * len(batch[0].clean) * model.d_model
    return max(1, min(batch_size, budget // row))


def _run_batch(
    model: LoadedModel,
    graph: Graph,
    items: Sequence[Item],
    masks: Masks,
    metric: str,
    ablated: _Ablated,
    sums: _Sums,
    circuits: int,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Metric and share of right reads of some circuits after the other, ``[n_circuit, batch]``."""
    last = max(max(item.reads) for item in items) + 1
    stop = last if model.attention == "causal" else len(items[0].clean)
    positions = slice(0, stop)
    if ablated.kind is Ablation.RESAMPLE:
        positions = active_positions(items, model.attention)
    clean_ids, corrupted_ids = (
        torch.tensor([ids[:stop] for ids in parts], device=model.device)
        for parts in ([item.clean for item in items], [item.corrupted for item in items])
    )
    unembed = at(model.hf, model.anatomy.unembed)
    clean, corrupted = node_outputs(model, clean_ids), node_outputs(model, corrupted_ids)
    reads = reads_for(metric, items, model.device, clean.final, unembed)
    sums.add_ends(
        items, *(item_metric(metric, run.final, unembed, reads) for run in (clean, corrupted))
    )
    del clean
    cut = ablated.reference(items, corrupted)
    streams = list(cut.streams(model))
    for start in range(0, len(masks), circuits):
        some = slice(start, min(start + circuits, len(masks)))
        times = some.stop - some.start
        final = masked_run(
            model,
            graph,
            clean_ids.repeat(times, 1),
            cut.repeated(times),
            [x.repeat(times, 1, 1) for x in streams],
            keep_tables(graph, masks[some], cut.embed.dtype, model.device, len(items)),
            positions=positions,
        )
        rows = torch.arange(len(items), device=model.device).repeat(times)
        values, correct = read_out(model, metric, final, reads.take(rows), positions.start)
        yield some, values.unflatten(0, (times, -1)), correct.unflatten(0, (times, -1))


class _Sums:
    """Means over an example's items, weighted by their number of reads."""

    def __init__(self, items: Sequence[Item], n_circuits: int) -> None:
        self.examples = np.array(sorted({item.example for item in items}), dtype=np.int64)
        self.reads = np.zeros(len(self.examples))
        np.add.at(self.reads, self._columns(items), [len(item.reads) for item in items])
        self.ends = np.zeros((2, len(self.examples)))
        self.values, self.correct = np.zeros((2, n_circuits, len(self.examples)))

    def add_ends(self, items: Sequence[Item], clean: Tensor, corrupted: Tensor) -> None:
        """Add the metrics ``[batch]`` of the clean and the corrupted run."""
        self._add(self.ends, items, torch.stack([clean, corrupted]))

    def add(self, items: Sequence[Item], circuits: slice, values: Tensor, correct: Tensor) -> None:
        """Add metric and share of right reads of some circuits, ``[n_circuit, batch]``."""
        self._add(self.values[circuits], items, values)
        self._add(self.correct[circuits], items, correct)

    def runs(self, graph: Graph) -> CircuitRuns:
        """The finished means."""
        return CircuitRuns(graph, self.examples, self.values, self.correct, *self.ends)

    def _columns(self, items: Sequence[Item]) -> NDArray[np.int64]:
        return np.searchsorted(self.examples, [item.example for item in items]).astype(np.int64)

    def _add(self, sums: NDArray[np.float64], items: Sequence[Item], values: Tensor) -> None:
        columns = self._columns(items)
        weights = np.array([len(item.reads) for item in items]) / self.reads[columns]
        for column, value in zip(columns, (values.double().cpu().numpy() * weights).T, strict=True):
            sums[:, column] += value


def _padded(ids: Sequence[int], length: int, left: bool) -> list[int]:
    """Ids padded with 0."""
    padding = [0] * (length - len(ids))
    return [*padding, *ids] if left else [*ids, *padding]
