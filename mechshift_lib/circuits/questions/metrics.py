"""Metrics: what a circuit is a circuit for. Larger means closer to the clean answer.

``"kl"`` compares a run with the clean run, so its :class:`Reads` carry the clean run's
log-probabilities: make them by :func:`reads_for`, which does that where a metric needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
        reference: log-probabilities of the clean run at the reads, ``[n_read, vocab]``, or
            ``None`` where the metric doesn't compare with the clean run.
    """

    rows: Tensor
    positions: Tensor
    answers: Tensor
    answers_kept: Tensor
    distractors: Tensor
    distractors_kept: Tensor
    weights: Tensor
    n_items: int
    reference: Tensor | None = None

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

    def take(self, chosen: Tensor) -> Reads:
        """The reads of a batch whose rows are chosen items of this one, repeated or reordered.

        Args:
            chosen: item of each row of the new batch, ``[n_row]``.
        """
        counts = torch.bincount(self.rows, minlength=self.n_items)
        first, kept = counts.cumsum(0) - counts, counts[chosen]
        rows = torch.arange(len(chosen), device=chosen.device).repeat_interleave(kept)
        within = torch.arange(len(rows), device=rows.device) - (kept.cumsum(0) - kept)[rows]
        index = first[chosen][rows] + within
        return Reads(
            rows=rows,
            positions=self.positions[index],
            answers=self.answers[index],
            answers_kept=self.answers_kept[index],
            distractors=self.distractors[index],
            distractors_kept=self.distractors_kept[index],
            weights=self.weights[index],
            n_items=len(chosen),
            reference=None if self.reference is None else self.reference[index],
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


def log_prob(logits: Tensor, reads: Reads) -> Tensor:
    """Natural logarithm of the total probability of the right ids, ``[n_read]``.

    Distractors make no difference.
    """
    right = logits.gather(1, reads.answers).masked_fill(~reads.answers_kept, -torch.inf)
    return right.logsumexp(1) - logits.logsumexp(1)


def kl(logits: Tensor, reads: Reads) -> Tensor:
    """−KL(clean run ‖ this run) over the vocabulary in nats, ``[n_read]``.

    0 for the clean run itself, where its gradient vanishes too. Answers and distractors make no
    difference.

    Raises:
        CircuitError: the reads carry no clean run (see :func:`reads_for`).
    """
    if reads.reference is None:
        raise CircuitError(
            "The metric 'kl' needs the clean run's log-probabilities: make the reads by reads_for."
        )
    return (reads.reference.exp() * (logits.log_softmax(1) - reads.reference)).sum(1)


METRICS: dict[str, Callable[[Tensor, Reads], Tensor]] = {
    "logit-diff": logit_diff,
    "prob-diff": prob_diff,
    "log-prob": log_prob,
    "kl": kl,
}

#: Metrics that compare a run with the clean run: largest, with no gradient, at the clean run.
COMPARES_WITH_CLEAN = frozenset({"kl"})


def check_metric(name: str) -> None:
    """Refuse a metric that there isn't.

    Raises:
        CircuitError: ``name`` is none of :data:`METRICS`.
    """
    if name not in METRICS:
        raise CircuitError(f"Unknown metric {name!r}: choose one of {', '.join(METRICS)}.")


def reads_for(
    name: str,
    items: Sequence[Item],
    device: torch.device,
    final: Tensor,
    unembed: Callable[[Tensor], Tensor],
) -> Reads:
    """The reads of a batch of items, with the clean run's log-probabilities if the metric needs it.

    Args:
        name: a metric.
        items: the batch.
        device: where the reads are put.
        final: output of the final norm in the clean run, ``[batch, pos, d_model]``.
        unembed: map from there to the logits.
    """
    check_metric(name)
    reads = Reads.of(items, device)
    if name not in COMPARES_WITH_CLEAN:
        return reads
    with torch.no_grad():
        return replace(reads, reference=_logits(final, unembed, reads).log_softmax(1))


def item_metric(
    name: str, final: Tensor, unembed: Callable[[Tensor], Tensor], reads: Reads
) -> Tensor:
    """Metric of each item, the mean over its reads, ``[batch]``.

    Args:
        name: one of :data:`METRICS`.
        final: output of the final norm, ``[batch, pos, d_model]``.
        unembed: map from there to the logits.
        reads: the batch's reads; for ``"kl"`` those of :func:`reads_for`.

    Raises:
        CircuitError: the metric is unknown, or NaN or infinite for an item.
    """
    check_metric(name)
    values = METRICS[name](_logits(final, unembed, reads), reads) * reads.weights
    metric = values.new_zeros(reads.n_items).index_add(0, reads.rows, values)
    if not torch.isfinite(metric).all():
        raise CircuitError(
            f"The metric {name!r} is NaN or infinite: check the model's weights, or load it in "
            "float32."
        )
    return metric


def _logits(final: Tensor, unembed: Callable[[Tensor], Tensor], reads: Reads) -> Tensor:
    """Logits at the reads in float32 at least, ``[n_read, vocab]``."""
    logits = unembed(final[reads.rows, reads.positions])
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _padded(sets: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Sets of ids as a matrix padded with 0, and which entries are no padding."""
    width = max(len(ids) for ids in sets)
    ids = torch.zeros((len(sets), width), dtype=torch.long)
    kept = torch.zeros((len(sets), width), dtype=torch.bool)
    for row, members in enumerate(sets):
        ids[row, : len(members)] = torch.tensor(members)
        kept[row, : len(members)] = True
    return ids.to(device), kept.to(device)
