"""Norms, written out: what a norm module puts out for inputs that never pass through the model."""

from __future__ import annotations

from torch import Tensor, nn

from mechshift_lib.models.anatomy import norm_parts
from mechshift_lib.models.loading import LoadedModel


def normed(model: LoadedModel, norm: nn.Module, x: Tensor) -> Tensor:
    """Output of a norm module for inputs ``[..., d_model]``, in the precision of ``x``."""
    gain, epsilon = norm_parts(model.anatomy, norm)
    if model.anatomy.norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    x = x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * gain.to(x.dtype)
    bias = getattr(norm, "bias", None)
    return x if bias is None else x + bias.to(x.dtype)
