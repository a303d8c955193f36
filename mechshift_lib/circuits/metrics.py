"""Metrics: what a circuit is a circuit for. Larger means closer to the clean answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mechshift_lib.errors import CircuitError
from mechshift_lib.models.readout import Item


@dataclass(frozen=True)
class Reads:
    """The logits that a batch of items reads, flattened.

    Attributes:
        rows: item of each read in the batch, ``[n_read]``.
        positions: position of each read, ``[n_read]``.
        answers: ids that count as right, padded, ``[n_read, n_answer]``.
        answers_kept: which of them are no padding.
        distractors: ids that count as wrong, padded.
        distractors_kept: which of them are no padding.
        weights: 1 / number of reads of the item, ``[n_read]``.
        n_items: number of items in the batch.
    """

    rows: Tensor
    positions: Tensor
    answers: Tensor
    answers_kept: Tensor
    distractors: Tensor
    distractors_kept: Tensor
    weights: Tensor
    n_items: int

    @classmethod
    def of(cls, items: Sequence[Item], device: torch.device) -> Reads:
        """Flatten the reads of a batch of items."""
        flat = [(row, read) for row, item in enumerate(items) for read in range(len(item.reads))]
        answers, answers_kept = _padded([items[i].answers[j] for i, j in flat], device)
        distractors, distractors_kept = _padded([items[i].distractors[j] for i, j in flat], device)
        return cls(
            rows=torch.tensor([i for i, _ in flat], device=device),
            positions=torch.tensor([items[i].reads[j] for i, j in flat], device=device),
            answers=answers,
            answers_kept=answers_kept,
            distractors=distractors,
            distractors_kept=distractors_kept,
            weights=torch.tensor([1.0 / len(items[i].reads) for i, _ in flat], device=device),
            n_items=len(items),
        )


def logit_diff(logits: Tensor, reads: Reads) -> Tensor:
    """Logit of the answer minus logit of the distractor (log-sum-exp over sets), ``[n_read]``."""

    def level(ids: Tensor, kept: Tensor) -> Tensor:
        return logits.gather(1, ids).masked_fill(~kept, -torch.inf).logsumexp(1)

    right = level(reads.answers, reads.answers_kept)
    return right - level(reads.distractors, reads.distractors_kept)


def prob_diff(logits: Tensor, reads: Reads) -> Tensor:
    """Probability of all right ids minus that of all wrong ids, ``[n_read]``."""
    probabilities = logits.softmax(1)

    def mass(ids: Tensor, kept: Tensor) -> Tensor:
        return (probabilities.gather(1, ids) * kept).sum(1)

    right = mass(reads.answers, reads.answers_kept)
    return right - mass(reads.distractors, reads.distractors_kept)


METRICS: dict[str, Callable[[Tensor, Reads], Tensor]] = {
    "logit-diff": logit_diff,
    "prob-diff": prob_diff,
}


def item_metric(
    name: str, final: Tensor, unembed: Callable[[Tensor], Tensor], reads: Reads
) -> Tensor:
    """Metric of each item, the mean over its reads, ``[batch]``.

    Args:
        name: ``"logit-diff"`` or ``"prob-diff"``.
        final: output of the final norm, ``[batch, pos, d_model]``.
        unembed: map from there to the logits.
        reads: the batch's reads.

    Raises:
        CircuitError: the metric is unknown, or NaN or infinite for an item.
    """
    if name not in METRICS:
        raise CircuitError(f"Unknown metric {name!r}: choose one of {', '.join(METRICS)}.")
    logits = unembed(final[reads.rows, reads.positions])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    values = METRICS[name](logits, reads) * reads.weights
    metric = values.new_zeros(reads.n_items).index_add(0, reads.rows, values)
    if not torch.isfinite(metric).all():
        raise CircuitError(
            f"The metric {name!r} is NaN or infinite: check the model's weights, or load it in "
            "float32."
        )
    return metric


def _padded(sets: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Sets of ids as a matrix padded with 0, and which entries are no padding."""
    width = max(len(ids) for ids in sets)
    ids = torch.zeros((len(sets), width), dtype=torch.long)
    kept = torch.zeros((len(sets), width), dtype=torch.bool)
    for row, members in enumerate(sets):
        ids[row, : len(members)] = torch.tensor(members)
        kept[row, : len(members)] = True
    return ids.to(device), kept.to(device)
