"""Gradients at the inputs of the readers, summed over interpolation points.

The gradient at the input of a reader is needed for every head and split, but no copy of the
residual stream per head is: by linearity it is the cotangent at the reader's slice of the
projection's output, times that slice's rows of the projection, through the norm's
vector-Jacobian product. For a norm with gain g that maps the (for LayerNorm centred) residual
stream x to g ⊙ x̂ with x̂ = x / σ, that product of a cotangent c at g ⊙ x̂ is

    (1 / σ) (g ⊙ c − x̂ · mean(g ⊙ c ⊙ x̂)),

for LayerNorm minus its own mean, which centring the projection's rows takes care of. With
cotangents c = Wᵀ y at the projection's output W (g ⊙ x̂) the first term is linear in y / σ, so over
the points only y / σ is summed, and it is multiplied by the rows once. The second is of rank one
per point and token, *level* · *direction*, with level y · W (g ⊙ x̂) / d_model: what the projection
put out in the run, without its bias. So no point costs a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mechshift_lib.models.anatomy import at, norm_parts, projection_bias, projection_rows
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.weights import tensor_of


@dataclass
class SiteGradients:
    """Gradients at the inputs of the readers that share a norm, averaged over points.

    Attributes:
        gain: gain of the norm, ``[d_model]``.
        epsilon: epsilon of the norm.
        centred: the norm subtracts the mean (LayerNorm).
        d_head: width of a reader's slice of the projection's output.
        rows: gives the rows of the projections that read the norm's output,
            ``[n_reader * d_head, d_model]`` (a copy of them is too large to keep for all layers);
            ``None`` for the one reader (MLP, logits) that takes the output as it is.
        offset: what the projections put out for x̂ = 0, ``[n_reader * d_head]``, if not zero.
    """

    gain: Tensor
    epsilon: float
    centred: bool
    d_head: int
    rows: Callable[[], Tensor] | None = None
    offset: Tensor | None = None
    _sum: Tensor | None = None
    _levels: list[Tensor] = field(default_factory=list)
    _directions: list[Tensor] = field(default_factory=list)

    @classmethod
    def of_attention(cls, model: LoadedModel, layer: int, dtype: torch.dtype) -> SiteGradients:
        """Readers q, k and v of all heads of a layer; sums are kept in ``dtype``."""
        hf, anatomy, width = model.hf, model.anatomy, model.d_head
        norm = at(anatomy.layer(hf, layer), anatomy.attn_norm)
        offset = projection_bias(hf, anatomy, layer, width)
        offset = None if offset is None else offset.to(dtype)
        shift = tensor_of(norm, "bias")
        if shift is not None:
            shifted = projection_rows(hf, anatomy, layer, width).to(dtype) @ shift.to(dtype)
            offset = shifted if offset is None else offset + shifted
        site = cls.of_norm(model, norm, dtype)
        site.rows = lambda: projection_rows(hf, anatomy, layer, width)
        site.offset = offset
        return site

    @classmethod
    def of_norm(cls, model: LoadedModel, norm: Any, dtype: torch.dtype) -> SiteGradients:
        """The one reader (MLP, logits) that takes a norm's output as it is."""
        gain, epsilon = norm_parts(model.anatomy, norm)
        return cls(gain.to(dtype), epsilon, model.anatomy.norm == "layer", model.d_head)

    @property
    def empty(self) -> bool:
        """Whether no point was added."""
        return self._sum is None

    def add(
        self, stream: Tensor, cotangent: Tensor, weight: float, projected: Tensor | None = None
    ) -> None:
        """Add one interpolation point.

        Args:
            stream: input of the norm, ``[batch, pos, d_model]``.
            cotangent: gradient of the metric at the projections' output,
                ``[batch, pos, n_reader * d_head]``, or at the norm's output.
            weight: weight of the point.
            projected: the projections' output, of the shape of ``cotangent``.
        """
        x = stream.to(self.gain.dtype, copy=True)
        if self.centred:
            x -= x.mean(-1, keepdim=True)
        scale = (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()
        x *= scale
        c = cotangent.to(x.dtype) * weight
        if self.rows is None:
            c *= self.gain
            if self.centred:
                c -= c.mean(-1, keepdim=True)
            c = c.sub_(x * (c * x).mean(-1, keepdim=True)).mul_(scale)
        else:
            read = self._read(x, projected)
            self._levels.append((c * read).unflatten(-1, (-1, self.d_head)).sum(-1) / x.shape[-1])
            self._directions.append(x.mul_(scale))
            c *= scale
        self._sum = c if self._sum is None else self._sum.add_(c)

    def _read(self, x: Tensor, projected: Tensor | None) -> Tensor:
        """What the projections read from x̂, without bias.

        A bias is taken off again only where the run was precise enough: in bfloat16, a large one
        leaves little of what it was added to.
        """
        assert self.rows is not None
        if projected is not None:
            if self.offset is None:
                return projected.to(x.dtype)
            if projected.dtype.itemsize >= 4:
                return projected.to(x.dtype) - self.offset
        rows = self.rows()
        return ((x * self.gain).to(rows.dtype) @ rows.T).to(x.dtype)

    def linear(self, examples: slice = slice(None), part: slice = slice(None)) -> Tensor:
        """The gradients without their terms of rank one, ``[n_reader, batch, pos, d_model]``.

        Of some ``examples`` of the batch and ``part`` of the positions that were added.
        """
        assert self._sum is not None
        c = self._sum[examples, part]
        if self.rows is None:
            return c[None]
        rows = self.rows().to(c.dtype) * self.gain
        if self.centred:
            rows -= rows.mean(1, keepdim=True)
        by_reader = c.flatten(0, 1).unflatten(-1, (-1, self.d_head)).transpose(0, 1)
        return (by_reader @ rows.unflatten(0, (-1, self.d_head))).unflatten(1, c.shape[:2])

    def levels(self, examples: slice = slice(None), part: slice = slice(None)) -> Tensor:
        """Sizes of the terms of rank one, ``[batch, pos, n_reader, point]``."""
        return torch.stack([x[examples, part] for x in self._levels], -1)

    def directions(self, examples: slice = slice(None), part: slice = slice(None)) -> list[Tensor]:
        """Their directions, ``[batch, pos, d_model]`` for each point.

        The gradient is :meth:`linear` − Σ over points of level · direction. A site that takes the
        norm's output as it is has no such terms: its sum holds them.
        """
        return [x[examples, part] for x in self._directions]


def reader_gradients(model: LoadedModel, dtype: torch.dtype) -> list[SiteGradients]:
    """All sites, in the order of :func:`~mechshift_lib.circuits.graph.sites.site_readers`."""
    anatomy, hf = model.anatomy, model.hf
    sites = []
    for index in range(model.n_layers):
        mlp_norm = at(anatomy.layer(hf, index), anatomy.mlp_norm)
        sites.append(SiteGradients.of_attention(model, index, dtype))
        sites.append(SiteGradients.of_norm(model, mlp_norm, dtype))
    return [*sites, SiteGradients.of_norm(model, at(hf, anatomy.final_norm), dtype)]
