"""From the residual stream before the final norm to logits, metric and right answers."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mechshift_lib.circuits.questions.metrics import Reads, item_metric
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.norms import normed


def unembedded(model: LoadedModel, final_in: Tensor) -> Tensor:
    """Logits for inputs of the final norm ``[..., d_model]``, float32 at least."""
    unembed = at(model.hf, model.anatomy.unembed)
    x = normed(model, at(model.hf, model.anatomy.final_norm), final_in)
    logits: Tensor = unembed(x.to(unembed.weight.dtype))
    return logits.to(final_in.dtype)


def read_out(
    model: LoadedModel, metric: str, final_in: Tensor, reads: Reads, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Metric of each row, and the share of its reads whose likeliest token is an answer.

    Args:
        model: a loaded model.
        metric: name of the metric.
        final_in: input of the final norm from position ``first`` on, ``[batch, pos, d_model]``.
        reads: reads of the rows.
        first: position of the first column.
    """
    seen: list[Tensor] = []

    def unembed(x: Tensor) -> Tensor:
        seen.append(unembedded(model, x))
        return seen[-1]

    shifted = replace(reads, positions=reads.positions - first)
    values = item_metric(metric, final_in, unembed, shifted)
    right = (seen[0].argmax(1, keepdim=True) == reads.answers) & reads.answers_kept
    share = right.any(1).to(values.dtype) * reads.weights
    return values, values.new_zeros(reads.n_items).index_add(0, reads.rows, share)
