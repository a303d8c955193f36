"""Runs of a model of which only some edges are intact: what each reader then takes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechshift_lib.circuits.evaluation.ablation import Reference
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.sites import site_readers
from mechshift_lib.circuits.tracing.interventions import rewired_run
from mechshift_lib.models.anatomy import (
    at,
    norm_parts,
    projection_bias,
    projection_rows,
    rows,
    scatter_qkv,
    split_sizes,
)
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.norms import normed
from mechshift_lib.models.weights import tensor_of

#: Largest tensor of readers' inputs that is formed at once, in elements.
_CHUNK = 1 << 23


def keep_tables(
    graph: Graph,
    masks: NDArray[np.bool_],
    dtype: torch.dtype,
    device: torch.device,
    repeat: int = 1,
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


def masked_run(
    model: LoadedModel,
    graph: Graph,
    ids: Tensor,
    reference: Reference,
    streams: Sequence[Tensor],
    keep: Sequence[Tensor],
    *,
    positions: slice,
    mask: Tensor | None = None,
    before: Tensor | None = None,
    start: int = 0,
) -> Tensor:
    """Run with chosen edges intact; all others carry the reference.

    Every reader takes in Σ_u (kept ? this run's output of u : reference output of u) and the
    biases of the attention output projections; norms are recomputed. Gradients pass through to
    the reference where they are enabled.

    Args:
        model: a loaded model.
        graph: its graph.
        ids: input ids ``[batch, pos]``.
        reference: what cut edges carry, for the rows of ``ids``.
        streams: what the reference adds up to (:meth:`Reference.streams`).
        keep: 1 for intact and 0 for cut edges, ``[batch, n_reader, n_source seen]`` for each of
            ``streams`` (:func:`keep_tables`).
        positions: positions at which this run may differ from the reference.
        mask: padding (see :func:`mechshift_lib.models.inputs.arguments`).
        before: output of the sources before layer ``start``, this run minus reference, at
            ``positions``, ``[batch, n_source, pos, d_model]``; needed where ``start`` isn't 0.
        start: first layer that is run.

    Returns:
        Input of the final norm at ``positions``, ``[batch, pos, d_model]``, float32 at least;
        centred where the norm centres it anyway.
    """
    sums = _Sums.of(model, graph, reference, streams, keep, positions, before)
    rewired_run(model, ids, sums, mask=mask, start=start)
    return sums.taken(-1)[:, 0]


@dataclass(frozen=True)
class _Sums:
    """What every reader takes in, from what was written so far.

    LayerNorms don't see the mean, so it is taken from what they read once for all readers.

    Attributes:
        model: the model.
        graph: its graph.
        reference: what cut edges carry.
        streams: what it adds up to at each site, centred where the norm centres.
        keep: which edges are intact, by site.
        positions: where this run may differ from the reference.
        change: every source's output, this run minus reference, likewise centred,
            ``[batch, n_source, pos, d_model]``; filled as the run goes on.
    """

    model: LoadedModel
    graph: Graph
    reference: Reference
    streams: Sequence[Tensor]
    keep: Sequence[Tensor]
    positions: slice
    change: Tensor

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        graph: Graph,
        reference: Reference,
        streams: Sequence[Tensor],
        keep: Sequence[Tensor],
        positions: slice,
        before: Tensor | None,
    ) -> _Sums:
        """The sums before anything was written but what is known ``before``."""
        centred = model.anatomy.norm == "layer"
        streams = [_centred(x) for x in streams] if centred else streams
        batch, length, width = streams[0][:, positions].shape
        change = streams[0].new_empty(batch, graph.n_sources, length, width)
        if before is not None:
            change[:, : before.shape[1]] = _centred(before) if centred else before
        return cls(model, graph, reference, streams, keep, positions, change)

    def taken(self, site: int) -> Tensor:
        """What the readers at a site take in, ``[batch, n_reader, pos, d_model]``."""
        return _mixed(self.streams[site][:, self.positions], self.keep[site], self.change)

    def input_wrote(self, embed: Tensor) -> None:
        self._wrote(0, (embed - self.reference.embed)[:, self.positions])

    def projected(self, layer: int) -> list[Tensor]:
        anatomy, width, site = self.model.anatomy, self.model.d_head, 2 * layer
        qkv = _projected(
            self.model, layer, self.streams[site], self.keep[site], self.change, self.positions
        )
        sizes = split_sizes(self.model.n_heads, self.graph.kv_readers, width)
        return scatter_qkv(anatomy, qkv, sizes, width)

    def heads_wrote(self, layer: int, z: Tensor) -> None:
        first, heads = self.graph.sources_before(layer), self.model.n_heads
        output = at(self.model.anatomy.layer(self.model.hf, layer), self.model.anatomy.o)
        change = (z - self.reference.heads[layer])[:, self.positions]
        self._wrote(slice(first, first + heads), _written(change, rows(output), heads))

    def mlp_normed(self, layer: int) -> Tensor:
        anatomy = self.model.anatomy
        norm = at(anatomy.layer(self.model.hf, layer), anatomy.mlp_norm)
        return normed(self.model, norm, self.taken(2 * layer + 1)[:, 0])

    def mlp_wrote(self, layer: int, output: Tensor) -> None:
        source = self.graph.sources_before(layer) + self.model.n_heads
        self._wrote(source, output - self.reference.mlps[layer][:, self.positions])

    def _wrote(self, sources: int | slice, change: Tensor) -> None:
        centred = self.model.anatomy.norm == "layer"
        self.change[:, sources] = _centred(change) if centred else change


def _mixed(stream: Tensor, keep: Tensor, change: Tensor) -> Tensor:
    """Stream + Σ_u keep · change over the sources seen, ``[batch, n_reader, pos, d_model]``."""
    seen = change[:, : keep.shape[2]].flatten(2)
    base = stream.flatten(1)[:, None].expand(-1, keep.shape[1], -1)
    return torch.baddbmm(base, keep, seen).unflatten(2, stream.shape[1:])


def _written(z: Tensor, output_rows: Tensor, heads: int) -> Tensor:
    """Each head's output ``[batch, n_heads, pos, d_model]`` from ``[batch, pos, n_heads·d_head]``.

    The output projection's bias is left out: it belongs to no head.
    """
    per_head = output_rows.to(z.dtype).T.unflatten(0, (heads, -1))  # [head, d_head, d_model]
    return torch.einsum("bphe,hed->bhpd", z.unflatten(2, (heads, -1)), per_head)


def _projected(
    model: LoadedModel,
    index: int,
    stream: Tensor,
    keep: Tensor,
    change: Tensor,
    positions: slice,
) -> Tensor:
    """What q, k and v become when each reader takes in its own sum.

    Norm and projection are one product: the norm's gain goes into the projection's rows, and its
    scale, one number per reader and position, comes last.

    Args:
        model: a loaded model.
        index: the layer.
        stream: what the reference adds up to, ``[batch, pos, d_model]``, centred where the norm
            centres.
        keep: ``[batch, n_reader, n_source seen]``.
        change: outputs of the sources, this run minus reference, at ``positions``, likewise.
        positions: where readers take in anything else than ``stream``.

    Returns:
        ``[batch, pos, n_reader * d_head]`` in :func:`gather_qkv`'s order, at all positions.
    """
    hf, anatomy, width = model.hf, model.anatomy, model.d_head
    norm = at(anatomy.layer(hf, index), anatomy.attn_norm)
    gain, epsilon = norm_parts(anatomy, norm)
    weights = projection_rows(hf, anatomy, index, width).to(stream.dtype)
    shift = projection_bias(hf, anatomy, index, width)
    shift = stream.new_zeros(len(weights)) if shift is None else shift.to(stream.dtype)
    offset = tensor_of(norm, "bias")
    if offset is not None:
        shift = shift + weights @ offset.to(stream.dtype)
    weights = weights * gain.to(stream.dtype)
    by_reader = weights.unflatten(0, (-1, width))  # [n_reader, d_head, d_model]

    first, last, _ = positions.indices(stream.shape[1])
    out = stream.new_empty(*stream.shape[:2], *by_reader.shape[:2])
    for same in (slice(0, first), slice(last, None)):
        rest = stream[:, same]
        y = rest @ weights.T * _scale(rest, epsilon)[..., None]
        out[:, same] = y.unflatten(2, by_reader.shape[:2])
    chunk = max(1, _CHUNK // stream.numel())
    for start in range(0, keep.shape[1], chunk):
        readers = slice(start, start + chunk)
        taken = _mixed(stream[:, positions], keep[:, readers], change)
        y = torch.einsum("brpd,rhd->bprh", taken, by_reader[readers])
        scale = _scale(taken, epsilon).transpose(1, 2)
        out[:, positions, readers] = y * scale[..., None]
    return out.flatten(2) + shift


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _scale(x: Tensor, epsilon: float) -> Tensor:
    """What a norm multiplies inputs ``[..., d_model]`` by that need no centring, ``[...]``."""
    square = torch.linalg.vector_norm(x, dim=-1).square() / x.shape[-1]
    return (square + epsilon).rsqrt()
