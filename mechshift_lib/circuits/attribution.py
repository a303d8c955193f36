"""Attribution of edges: EAP (Syed et al. 2023) and EAP-IG, inputs variant (Hanna et al. 2024).

score(u→v) = Σ over positions and d_model of (a_u^clean − a_u^corrupted) · ∂M/∂(input of v), M being
the metric: **positive = corrupting this edge lowers the metric**. Gradients are taken at the clean
input (EAP) or averaged over points of the straight line from the corrupted to the clean embedding
output (EAP-IG); differences stay endpoint to endpoint. Readers take in the residual stream before
the norm, and gradients pass through norms. Everything is accumulated in float32, an item at a time,
so scores depend neither on the batch size nor on a short last batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from mechshift_lib.circuits.circuit import Circuit
from mechshift_lib.circuits.gradients import SiteGradients
from mechshift_lib.circuits.graph import Graph
from mechshift_lib.circuits.metrics import METRICS, Reads, item_metric
from mechshift_lib.circuits.products import edge_scores
from mechshift_lib.circuits.tracing import NodeOutputs, node_outputs, reader_sites
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at, gather_qkv, projection_rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item

METHODS = ("eap", "eap-ig")


@dataclass(frozen=True)
class Attribution:
    """Scores of all edges for every example.

    Attributes:
        graph: the graph whose edges are scored.
        examples: indices of the examples, ascending, ``[n_example]``.
        by_example: mean over an example's steps, weighted by their number of reads, float32,
            ``[n_example, n_edges]``.
        steps: denoising steps that occur, ascending, ``[n_step]``.
        by_step: mean over the examples with that step, float32, ``[n_step, n_edges]``.
        metric_clean: metric of each example on its clean input, ``[n_example]``.
        metric_corrupted: the same on its corrupted input.
    """

    graph: Graph
    examples: NDArray[np.int64]
    by_example: NDArray[np.float32]
    steps: NDArray[np.int64]
    by_step: NDArray[np.float32]
    metric_clean: NDArray[np.float64]
    metric_corrupted: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float32]:
        """Mean over examples, ``[n_edges]``."""
        return self.by_example.mean(0, dtype=np.float64).astype(np.float32)

    @property
    def circuit(self) -> Circuit:
        """The scores with their graph, for selection and files."""
        return Circuit(self.graph, self.scores)


def interpolation_points(method: str, steps: int, points: str = "left") -> list[float]:
    """Shares of the clean input at which gradients are taken.

    ``eap`` has one, the clean input; ``eap-ig`` has k/m with k = 0 … m−1 (``"left"``, as the
    reference implementation) or 1 … m (``"right"``, as the paper).

    Raises:
        CircuitError: unknown method or points, or fewer than one step.
    """
    if method not in METHODS:
        raise CircuitError(f"Unknown method {method!r}: choose one of {', '.join(METHODS)}.")
    if points not in ("left", "right"):
        raise CircuitError(f"Unknown points {points!r}: choose 'left' or 'right'.")
    if method == "eap":
        return [1.0]
    if steps < 1:
        raise CircuitError(f"EAP-IG needs at least one step, not {steps}.")
    shift = 0 if points == "left" else 1
    return [(k + shift) / steps for k in range(steps)]


def attribute(
    model: LoadedModel,
    items: Sequence[Item],
    *,
    metric: str = "logit-diff",
    method: str = "eap-ig",
    steps: int = 5,
    points: str = "left",
    batch_size: int = 32,
    progress: bool = False,
) -> Attribution:
    """Score every edge on every example.

    Args:
        model: a loaded model.
        items: questions made by a readout, of any lengths and in any order.
        metric: ``"logit-diff"`` or ``"prob-diff"``.
        method: ``"eap"`` or ``"eap-ig"`` (inputs variant).
        steps: interpolation points m of EAP-IG.
        points: ``"left"`` for k/m with k = 0 … m−1, ``"right"`` for 1 … m.
        batch_size: items per pass; makes no difference to the scores.
        progress: show a progress bar.

    Raises:
        CircuitError: an item is malformed or doesn't fit the model, an option is unknown, or the
            metric is NaN.
    """
    shares = interpolation_points(method, steps, points)
    if metric not in METRICS:
        raise CircuitError(f"Unknown metric {metric!r}: choose one of {', '.join(METRICS)}.")
    if batch_size < 1:
        raise CircuitError(f"The batch size must be at least 1, not {batch_size}.")
    check_items(items, model)
    graph = Graph.for_model(model)
    sums = _Sums(graph, items)
    with tqdm(total=len(items), desc=method, unit="item", disable=not progress) as bar:
        for batch in batches(items, batch_size):
            sums.add(batch, *_score_batch(model, graph, batch, metric, shares))
            bar.update(len(batch))
    return sums.attribution()


def check_items(items: Sequence[Item], model: LoadedModel) -> None:
    """Say in one sentence what is wrong with the first malformed item.

    Raises:
        CircuitError: no items, unequal lengths, a token id outside the vocabulary, a position out
            of range, or an answer that equals its distractor.
    """
    if not items:
        raise CircuitError("There is nothing to attribute: give at least one example.")
    longest = getattr(model.hf.config, "max_position_embeddings", None)
    for item in items:
        where, length = f"Example {item.example}", len(item.clean)
        if length != len(item.corrupted):
            raise CircuitError(
                f"{where} has {length} clean and {len(item.corrupted)} corrupted tokens: both "
                "must have the same length."
            )
        if not length or (longest is not None and length > longest):
            raise CircuitError(f"{where} has {length} tokens: the model takes 1 to {longest}.")
        if not len(item.reads) == len(item.answers) == len(item.distractors) > 0:
            raise CircuitError(f"{where} needs one answer and one distractor for each position.")
        sets = (*item.answers, *item.distractors)
        if not all(sets):
            raise CircuitError(f"{where} has a position without an answer or distractor.")
        for token in {*item.clean, *item.corrupted, *(t for ids in sets for t in ids)}:
            if not 0 <= token < model.vocab_size:
                raise CircuitError(
                    f"{where} has token id {token}: the model's ids are 0 to "
                    f"{model.vocab_size - 1}."
                )
        for read, answers, distractors in zip(
            item.reads, item.answers, item.distractors, strict=True
        ):
            if not 0 <= read < length:
                raise CircuitError(f"{where} reads position {read} of {length}: out of range.")
            if set(answers) == set(distractors):
                raise CircuitError(f"{where} has an answer equal to its distractor {distractors}.")


def batches(items: Sequence[Item], batch_size: int) -> Iterator[list[Item]]:
    """Items of equal length together, so that nothing is padded."""
    by_length: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_length[len(item.clean)].append(item)
    for _, bucket in sorted(by_length.items()):
        for start in range(0, len(bucket), batch_size):
            yield bucket[start : start + batch_size]


def active_positions(items: Sequence[Item], attention: str) -> slice:
    """Positions of a batch that can carry a score.

    Under causal attention nothing differs before the first corrupted token and nothing after the
    last read position has a gradient.
    """
    length = len(items[0].clean)
    if attention != "causal":
        return slice(0, length)
    first = min(
        next((p for p in range(length) if x.clean[p] != x.corrupted[p]), length) for x in items
    )
    last = max(max(x.reads) for x in items)
    return slice(min(first, last), last + 1)


def _score_batch(
    model: LoadedModel, graph: Graph, items: Sequence[Item], metric: str, shares: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores ``[batch, n_reader, n_source]`` and clean and corrupted metric ``[batch]``."""
    clean_ids = torch.tensor([item.clean for item in items], device=model.device)
    corrupted_ids = torch.tensor([item.corrupted for item in items], device=model.device)
    reads = Reads.of(items, model.device)
    unembed = at(model.hf, model.anatomy.unembed)
    positions = active_positions(items, model.attention)

    clean: NodeOutputs = node_outputs(model, clean_ids)
    corrupted: NodeOutputs = node_outputs(model, corrupted_ids)
    metric_clean, metric_corrupted = (
        item_metric(metric, run.final, unembed, reads) for run in (clean, corrupted)
    )
    sites = _sites(model, torch.promote_types(clean.embed.dtype, torch.float32))
    for share in shares:
        _add_point(
            model,
            sites,
            clean_ids,
            torch.lerp(corrupted.embed, clean.embed, share),
            metric,
            reads,
            positions,
            1 / len(shares),
        )
    scores = edge_scores(model, graph, clean, corrupted, sites, positions)
    return scores, metric_clean, metric_corrupted


def _sites(model: LoadedModel, dtype: torch.dtype) -> list[SiteGradients]:
    """All reader sites in the order of products.site_readers."""
    anatomy, hf = model.anatomy, model.hf
    sites = []
    for index in range(model.n_layers):
        layer = anatomy.layer(hf, index)
        for path, weight in (
            (anatomy.attn_norm, projection_rows(hf, anatomy, index, model.d_head)),
            (anatomy.mlp_norm, None),
        ):
            norm = at(layer, path)
            sites.append(SiteGradients.of(norm, anatomy.norm, weight, model.d_head, dtype))
    final = at(hf, anatomy.final_norm)
    return [*sites, SiteGradients.of(final, anatomy.norm, None, model.d_head, dtype)]


def _add_point(
    model: LoadedModel,
    sites: Sequence[SiteGradients],
    ids: Tensor,
    embed: Tensor,
    metric: str,
    reads: Reads,
    positions: slice,
    weight: float,
) -> None:
    """Run forward and backward at one interpolation point and add it to every site."""
    run = reader_sites(model, ids, embed)
    unembed = at(model.hf, model.anatomy.unembed)
    total = item_metric(metric, run.final, unembed, reads).sum()
    outputs: list[list[Tensor]] = []
    for qkv, normed in zip(run.qkv, run.mlp_normed, strict=True):
        outputs += [qkv, [normed]]
    outputs.append([run.final])
    flat = [tensor for group in outputs for tensor in group]
    gradients = iter(torch.autograd.grad(total, flat))
    streams = [x for pair in zip(run.attn_in, run.mlp_in, strict=True) for x in pair]
    for site, stream, group in zip(sites, [*streams, run.final_in], outputs, strict=True):
        parts = [next(gradients)[:, positions] for _ in group]
        one = site.rows is None
        cotangent = parts[0] if one else gather_qkv(model.anatomy, parts, model.d_head)
        site.add(stream.detach()[:, positions], cotangent, weight)


class _Sums:
    """Weighted sums over items, by example and by step."""

    def __init__(self, graph: Graph, items: Sequence[Item]) -> None:
        self.graph = graph
        self.examples = np.array(sorted({item.example for item in items}), dtype=np.int64)
        self.steps = np.array(sorted({item.step for item in items}), dtype=np.int64)
        shape = (len(self.examples), graph.n_edges)
        self.by_example = np.zeros(shape, dtype=np.float32)
        self.by_step = np.zeros((len(self.steps), graph.n_edges), dtype=np.float64)
        self.metrics = np.zeros((2, len(self.examples)))
        self.reads = np.zeros(len(self.examples))
        self.step_items = np.zeros(len(self.steps))
        for item in items:
            self.reads[self._row(item)] += len(item.reads)
            self.step_items[self._step(item)] += 1

    def _row(self, item: Item) -> int:
        return int(np.searchsorted(self.examples, item.example))

    def _step(self, item: Item) -> int:
        return int(np.searchsorted(self.steps, item.step))

    def add(self, items: Sequence[Item], scores: Tensor, clean: Tensor, corrupted: Tensor) -> None:
        """Add the scores ``[batch, n_reader, n_source]`` and metrics of a batch."""
        edges = scores.cpu().numpy()[:, self.graph.reader_index, self.graph.source_index]
        if not np.isfinite(edges).all():
            raise CircuitError("A gradient is NaN or infinite: load the model in float32.")
        metrics = torch.stack([clean, corrupted]).double().cpu().numpy()
        for i, item in enumerate(items):
            row, step = self._row(item), self._step(item)
            weight = len(item.reads) / self.reads[row]
            self.by_example[row] += edges[i] * np.float32(weight)
            self.by_step[step] += edges[i] / self.step_items[step]
            self.metrics[:, row] += metrics[:, i] * weight

    def attribution(self) -> Attribution:
        """The finished means."""
        return Attribution(
            graph=self.graph,
            examples=self.examples,
            by_example=self.by_example,
            steps=self.steps,
            by_step=self.by_step.astype(np.float32),
            metric_clean=self.metrics[0],
            metric_corrupted=self.metrics[1],
        )
