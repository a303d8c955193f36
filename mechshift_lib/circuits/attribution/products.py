"""Scores from differences and gradients, a chunk of examples and positions at a time.

Every head's contribution to the residual stream is needed only here, once, as a difference, and
every reader's gradient only here, once, as a mean over the points. Both are formed for as many
tokens as the memory budget allows, multiplied, and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mechshift_lib.circuits.attribution.gradients import SiteGradients
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.graph.sites import site_readers
from mechshift_lib.circuits.tracing.layers import Written
from mechshift_lib.models.anatomy import at, rows
from mechshift_lib.models.loading import LoadedModel

#: Bytes of differences and gradients held at once where no budget is given: large enough for
#: efficient matrix products, small beside what a backward pass keeps.
DEFAULT_BUDGET = 64 * 2**20


def edge_scores(
    model: LoadedModel,
    graph: Graph,
    clean: Written,
    corrupted: Written,
    sites: Sequence[SiteGradients],
    positions: slice,
    *,
    by_position: bool = False,
    memory_budget: int | None = None,
) -> Tensor:
    """Scores Σ (a_u^clean − a_u^corrupted) · gradient at v, of every source u and reader v.

    Args:
        model: the model of the runs.
        graph: its graph.
        clean: what every node writes on the clean input.
        corrupted: the same on the corrupted input.
        sites: gradients at the readers, in the order of
            :func:`~mechshift_lib.circuits.graph.sites.site_readers`, of the active positions;
            a site without points counts as zero.
        positions: active positions, those that can carry a score.
        by_position: keep the reader's position instead of summing over positions.
        memory_budget: bytes that differences and gradients may take at once (the result comes on
            top); at least one token is always done.

    Returns:
        ``[batch, n_reader, n_source]`` in float32 at least, or
        ``[batch, n_active, n_reader, n_source]`` with ``by_position``; zero where the graph has no
        edge.
    """
    dtype = torch.promote_types(clean.embed.dtype, torch.float32)
    batch, length = clean.embed[:, positions].shape[:2]
    shape = (batch, length, graph.n_readers, graph.n_sources)
    scores = clean.embed.new_zeros(shape if by_position else (batch, *shape[2:]), dtype=dtype)
    budget = DEFAULT_BUDGET if memory_budget is None else memory_budget
    for examples, part in chunks(batch, length, budget // token_bytes(model, graph, dtype)):
        differences = source_differences(model, clean, corrupted, positions, examples, part)
        target = scores[examples, part].flatten(0, 1) if by_position else scores[examples]
        _add_chunk(target, graph, sites, differences.permute(2, 0, 1, 3), examples, part)
    return scores


def _add_chunk(
    target: Tensor,
    graph: Graph,
    sites: Sequence[SiteGradients],
    differences: Tensor,
    examples: slice,
    part: slice,
) -> None:
    """Add a chunk's products to ``[unit, n_reader, n_source]``, a unit being what is summed.

    That is an example, or where positions are kept apart a token. Gradients and differences are
    ``[reader or source, batch, pos, d_model]``, so that each unit is one matrix product.

    Args:
        target: scores of the chunk.
        graph: the graph.
        sites: gradients at the readers.
        differences: of the sources, ``[n_source, batch, pos, d_model]``.
        examples: rows of the batch in the chunk.
        part: positions in the chunk.
    """
    units = len(target)
    tokens = differences.flatten(1, 2)
    differing = _by_unit(differences, units)  # [unit, n_source, ·]
    directed = _Directed(graph, sites, tokens, examples, part)
    for index, (site, readers) in enumerate(zip(sites, site_readers(graph), strict=True)):
        if site.empty:
            continue
        seen = int(graph.visible[readers.start])
        # 1. The gradients that are linear in the cotangents: [unit, n_reader, ·]
        gradients = _by_unit(site.linear(examples, part), units)
        # 2. Difference × gradient, summed over the unit's tokens and d_model
        found = gradients @ differing[:, :seen].transpose(1, 2)
        # 3. Less what the norm takes away again: the terms of rank one, per point and token
        if site.rows is not None:
            found -= directed.products(index, seen, units)
        # 4. All points and chunks of a unit add up
        target[:, readers, :seen] += found


def _by_unit(x: Tensor, units: int) -> Tensor:
    """``[row, batch, pos, d_model]`` as a matrix a unit, ``[unit, row, token · d_model]``."""
    return x.flatten(1, 2).unflatten(1, (units, -1)).flatten(2).transpose(0, 1)


class _Directed:
    """Products of the terms of rank one, for a few layers at a time.

    A site's directions are few, and every one of its products reads all differences below: several
    sites' directions together read them once.
    """

    #: Sites (attention and MLP) that go together: a multiple of two, so that no layer is split.
    GROUP = 8

    def __init__(
        self,
        graph: Graph,
        sites: Sequence[SiteGradients],
        tokens: Tensor,
        examples: slice,
        part: slice,
    ) -> None:
        self.sites, self.tokens, self.examples, self.part = sites, tokens, examples, part
        self.seen = [int(graph.visible[readers.start]) for readers in site_readers(graph)]
        self._group: dict[int, Tensor] = {}

    def products(self, index: int, seen: int, units: int) -> Tensor:
        """Σ over a unit's tokens and points of level · (direction · difference).

        Of an attention site; ``[unit, n_reader, n_source]`` of the first ``seen`` sources.
        """
        if index not in self._group:
            self._group = self._directed(index)
        directed = self._group.pop(index)[..., :seen]  # [token, point, source]
        levels = self.sites[index].levels(self.examples, self.part).flatten(0, 1)
        levels = levels.unflatten(0, (units, -1)).permute(0, 2, 1, 3).flatten(2)
        return levels @ directed.unflatten(0, (units, -1)).flatten(1, 2)

    def _directed(self, index: int) -> dict[int, Tensor]:
        """Direction · difference, ``[token, point, source]``, of the sites from ``index`` on."""
        group = [
            i
            for i in range(index, min(index + self.GROUP, len(self.sites)))
            if self.sites[i].rows is not None and not self.sites[i].empty
        ]
        parts = [self.sites[i].directions(self.examples, self.part) for i in group]
        stacked = torch.stack([x.flatten(0, 1) for part in parts for x in part], 1)
        seen = self.seen[group[-1]]
        products = stacked @ self.tokens[:seen].permute(1, 2, 0)
        sizes = [len(part) for part in parts]
        return dict(zip(group, products.split(sizes, 1), strict=True))


def token_bytes(model: LoadedModel, graph: Graph, dtype: torch.dtype) -> int:
    """Bytes that one token's differences and one site's gradients take."""
    readers = max(x.stop - x.start for x in site_readers(graph))
    return (graph.n_sources + 2 * readers) * model.d_model * dtype.itemsize


def chunks(batch: int, length: int, tokens: int) -> Iterator[tuple[slice, slice]]:
    """Examples and positions of each chunk of at most ``tokens`` (at least one).

    Whole examples as long as one fits, else parts of one example.
    """
    examples = max(1, min(batch, tokens // max(1, length)))
    part = length if tokens >= length else max(1, tokens)
    for first in range(0, batch, examples):
        for start in range(0, length, max(1, part)):
            yield (
                slice(first, min(first + examples, batch)),
                slice(start, min(start + part, length)),
            )


def source_differences(
    model: LoadedModel,
    clean: Written,
    corrupted: Written,
    positions: slice,
    examples: slice = slice(None),
    part: slice = slice(None),
) -> Tensor:
    """Output of every source, clean minus corrupted, ``[batch, pos, n_source, d_model]``.

    In float32 at least, in memory source by source. ``positions`` selects active positions,
    ``part`` some of those and ``examples`` rows of the batch.
    """
    dtype = torch.promote_types(clean.embed.dtype, torch.float32)

    def difference(a: Tensor, b: Tensor) -> Tensor:
        a, b = (x[examples, positions][:, part] for x in (a, b))
        return a.to(dtype) - b.to(dtype)

    embed = difference(clean.embed, corrupted.embed)
    heads = model.n_heads
    out = embed.new_empty(1 + model.n_layers * (heads + 1), *embed.shape)
    out[0] = embed
    for layer in range(model.n_layers):
        start = 1 + layer * (heads + 1)
        output = rows(at(model.anatomy.layer(model.hf, layer), model.anatomy.o)).to(dtype)
        z = difference(clean.heads[layer], corrupted.heads[layer])
        z = z.flatten(0, 1).unflatten(1, (heads, -1)).transpose(0, 1)  # [head, token, d_head]
        per_head = output.T.unflatten(0, (heads, -1))  # [head, d_head, d_model]
        torch.bmm(z, per_head, out=out[start : start + heads].flatten(1, 2))
        out[start + heads] = difference(clean.mlps[layer], corrupted.mlps[layer])
    return out.permute(1, 2, 0, 3)
