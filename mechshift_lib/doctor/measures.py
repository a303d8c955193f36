"""What the doctor measures on models instead of believing what is declared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from mechshift_lib.config import ModelSize
from mechshift_lib.costs.memory import working_bytes
from mechshift_lib.errors import ModelError
from mechshift_lib.models.attention import check_attention
from mechshift_lib.models.loading import DTYPES, LoadedModel
from mechshift_lib.models.weights import numbers_of
from mechshift_lib.tasks.base import Example

#: Tokens that are masks in published masked diffusion models, beside the tokenizer's own.
MASK_TOKENS = ("[MASK]", "<mask>", "<|mask|>", "<|mdm_mask|>")
#: Share of tokens that are masked when the readout is measured.
MASKED_SHARE = 0.3


def sees_back(model: PreTrainedModel) -> bool:
    """Whether the model as it was saved lets a token see later ones: measured, not believed."""
    try:
        check_attention(model, "full")
    except ModelError:
        return False
    return True


def guess_mask(tokenizer: Any) -> str | None:
    """The mask token of a tokenizer, or ``None``."""
    vocabulary = tokenizer.get_vocab()
    own = getattr(tokenizer, "mask_token", None)
    return next((t for t in (own, *MASK_TOKENS) if t is not None and t in vocabulary), None)


def vocabulary_fault(arm: Any, mdm: Any) -> str:
    """What keeps two tokenizers from meaning the same by an id; the empty text where nothing does.

    The MDM may have tokens of its own, such as its mask.
    """
    first, second = arm.get_vocab(), mdm.get_vocab()
    moved = [token for token, index in first.items() if second.get(token) != index]
    if not moved:
        return ""
    return (
        f"{len(moved)} of the ARM's {len(first)} tokens, such as {moved[0]!r}, are another id in "
        "the MDM's tokenizer"
    )


@dataclass(frozen=True)
class MaskLosses:
    """Loss of masked tokens read where they are and one position before.

    Attributes:
        in_place: mean loss at logits i of token i, in nats.
        shifted: mean loss at logits i − 1, in nats.
        n: masked tokens.
    """

    in_place: float
    shifted: float
    n: int

    @property
    def readout(self) -> str:
        """The readout with the lower loss."""
        return "shifted-mask" if self.shifted < self.in_place else "mask"


@torch.no_grad()
def mask_losses(model: LoadedModel, examples: Sequence[Example], seed: int = 0) -> MaskLosses:
    """Mask some tokens of prompts and answers; where does the model write what they were?

    Args:
        model: an MDM with a mask token.
        examples: examples of a task.
        seed: of the choice of tokens.
    """
    assert model.mask_id is not None
    draw = torch.Generator().manual_seed(seed)
    sums, n = torch.zeros(2, dtype=torch.float64), 0
    for example in examples:
        ids = torch.tensor([[*example.clean, *example.answer]])
        hidden = torch.rand(ids.shape, generator=draw) < MASKED_SHARE
        hidden[:, 0] = False  # nothing stands before the first token
        if not hidden.any():
            continue
        logits = model.logits(ids.masked_fill(hidden, model.mask_id))[0]
        where = hidden[0].nonzero()[:, 0]
        for row, shift in enumerate((0, 1)):  # of these positions alone: vocabularies are large
            said = logits[(where - shift).to(logits.device)].float().cpu()
            said[:, model.mask_id] = -torch.inf
            loss = torch.nn.functional.cross_entropy(said, ids[0, where], reduction="none")
            sums[row] += loss.double().sum()
        n += len(where)
    if not n:
        raise ModelError("No token could be masked: the examples are too short.")
    in_place, shifted = (sums / n).tolist()
    return MaskLosses(in_place, shifted, n)


def attribution_bytes(model: LoadedModel, length: int, batch: int) -> int:
    """About how many bytes attribution of a batch takes, the model's weights included.

    Weights on disk count, too: a backward pass holds on to all that the forward pass used.
    """
    parameters = list(model.hf.parameters())
    size = ModelSize(
        parameters=numbers_of(model.hf),
        layers=model.n_layers,
        heads=model.n_heads,
        kv_heads=model.n_kv_heads,
        width=model.d_model,
        head_width=model.d_head,
        hidden=model.d_mlp,
    )
    weights = sum(p.numel() * p.element_size() for p in parameters)
    dtype = next(name for name, kind in DTYPES.items() if kind == parameters[0].dtype)
    return weights + working_bytes(size, dtype, length, batch)


def devices() -> list[torch.device]:
    """Every device that a model may be spread over."""
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return [*gpus, torch.device("cpu")]


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free where models run, or ``None`` where the system doesn't say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
