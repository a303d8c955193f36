"""How large a model is, whatever its configuration calls its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import Anatomy


@dataclass(frozen=True)
class Shape:
    """Numbers of a transformer.

    Attributes:
        n_layers: number of layers.
        n_heads: query heads per layer.
        n_kv_heads: key/value heads per layer (``n_heads`` where nothing is grouped).
        d_model: width of the residual stream.
        d_head: width of one head.
        max_positions: longest input in tokens, or ``None`` where there is no limit.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    max_positions: int | None


def shape_of(config: PretrainedConfig, anatomy: Anatomy) -> Shape:
    """Read a configuration by the names that its architecture uses.

    Raises:
        ModelError: the configuration lacks a number that it must have, or it isn't positive.
    """
    names = anatomy.config

    def number(name: str) -> Any:
        try:
            value = int(getattr(config, name))
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError(
                f"The configuration of this {anatomy.model_type} model has no number {name!r}: "
                "correct the anatomy in mechshift_lib/models/architectures.py."
            ) from error
        if value < 1:
            raise ModelError(f"config.json says {name} = {value}: fetch it again, or correct it.")
        return value

    n_heads, d_model = number(names.n_heads), number(names.d_model)
    return Shape(
        n_layers=number(names.n_layers),
        n_heads=n_heads,
        n_kv_heads=int(getattr(config, names.n_kv_heads, None) or n_heads),
        d_model=d_model,
        d_head=int(getattr(config, names.d_head, None) or d_model // n_heads),
        max_positions=getattr(config, names.max_positions, None),
    )
