"""Gradients at the inputs of the readers, summed over interpolation points.

The gradient at the input of a reader is needed for every head and split, but no copy of the
residual stream per head is: by linearity it is the cotangent at the reader's slice of the
projection's output, times that slice's rows of the projection, through the norm's
vector-Jacobian product. For a norm with gain g that maps the (for LayerNorm centred) residual
stream x to g ⊙ x̂ with x̂ = x / σ, that product of a cotangent c is

    (1 / σ) (g ⊙ c − x̂ · mean(g ⊙ c ⊙ x̂)),

for LayerNorm minus its own mean, which centring the projection's rows takes care of. The first
term is linear in c / σ, so over the interpolation points only c / σ is summed, and it is
multiplied by the rows once; the second is of rank one per point and position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mechshift_lib.models.anatomy import norm_parts


@dataclass
class SiteGradients:
    """Gradients at the inputs of the readers that share a norm, averaged over points.

    Attributes:
        gain: gain of the norm, ``[d_model]``.
        epsilon: epsilon of the norm.
        centred: the norm subtracts the mean (LayerNorm).
        rows: rows of the projections that read the norm's output, ``[n_reader, d_head, d_model]``;
            ``None`` for the one reader (MLP, logits) that takes the output as it is.
    """

    gain: Tensor
    epsilon: float
    centred: bool
    rows: Tensor | None = None
    _cotangents: Tensor | None = None
    _directions: list[Tensor] = field(default_factory=list)
    _levels: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(
        cls, norm: Any, kind: str, weight: Tensor | None, d_head: int, dtype: torch.dtype
    ) -> SiteGradients:
        """Readers behind a norm module of the given kind, with the projections' rows."""
        gain, epsilon = norm_parts(norm)
        gain = gain.to(dtype)
        centred = kind == "layer"
        if weight is None:
            return cls(gain, epsilon, centred)
        scaled = weight.to(dtype) * gain
        if centred:
            scaled = scaled - scaled.mean(1, keepdim=True)
        return cls(gain, epsilon, centred, scaled.unflatten(0, (-1, d_head)))

    def add(self, stream: Tensor, cotangent: Tensor, weight: float) -> None:
        """Add one interpolation point.

        Args:
            stream: input of the norm, ``[batch, pos, d_model]``.
            cotangent: gradient of the metric at the projections' output,
                ``[batch, pos, n_reader * d_head]``, or at the norm's output.
            weight: weight of the point.
        """
        x = stream.to(self.gain.dtype)
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        scale = (x.square().mean(-1, keepdim=True) + self.epsilon).rsqrt()
        x = x * scale
        c = cotangent.to(x.dtype) * weight
        if self.rows is None:
            c = c * self.gain
            if self.centred:
                c = c - c.mean(-1, keepdim=True)
            level = (c * x).mean(-1, keepdim=True)
        else:
            read = x @ self.rows.flatten(0, 1).T
            level = (c * read).unflatten(-1, self.rows.shape[:2]).sum(-1) / x.shape[-1]
        self._cotangents = c * scale if self._cotangents is None else self._cotangents + c * scale
        self._levels.append(level)
        self._directions.append(x * scale)

    @property
    def empty(self) -> bool:
        """Whether no point was added."""
        return not self._levels

    def gradient(self, examples: slice = slice(None), part: slice = slice(None)) -> Tensor:
        """Gradient at each reader's input, ``[batch, pos, n_reader, d_model]``.

        Of some ``examples`` of the batch and ``part`` of the positions that were added.
        """
        assert self._cotangents is not None
        cotangents = self._cotangents[examples, part]
        if self.rows is None:
            first = cotangents[:, :, None]
        else:
            c = cotangents.unflatten(-1, self.rows.shape[:2])
            first = torch.einsum("bprh,rhd->bprd", c, self.rows)
        # [batch, pos, n_reader, point] and [batch, pos, point, d_model]
        levels = torch.stack([x[examples, part] for x in self._levels], -1)
        directions = torch.stack([x[examples, part] for x in self._directions], -2)
        return first - levels @ directions
