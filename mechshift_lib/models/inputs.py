"""What a model is called with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import Anatomy


def arguments(anatomy: Anatomy, ids: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
    """Keyword arguments of one pass.

    Args:
        anatomy: the model's anatomy.
        ids: input ids, ``[batch, pos]``.
        mask: 1 for tokens and 0 for padding on either side, ``[batch, pos]``; positions count
            tokens only, so padding changes no result. Without one, nothing is padding.

    Raises:
        ModelError: inputs are padded, but the architecture's code ignores masks.
    """
    if mask is None or (anatomy.padding == "none" and bool(mask.all())):
        return {"input_ids": ids, "use_cache": False}
    if anatomy.padding == "none":
        raise ModelError(
            f"The code of {anatomy.model_type} models ignores padding masks: give inputs of one "
            "length at a time."
        )
    return {
        "input_ids": ids,
        "attention_mask": mask if anatomy.padding == "2d" else mask.bool()[:, None, None],
        "position_ids": (mask.long().cumsum(-1) - 1).clamp(min=0),
        "use_cache": False,
    }
