"""Generation: greedy for ARMs, iterative unmasking for MDMs.

Orders of unmasking follow Dream's names: ``maskgit_plus`` reveals where the likeliest token is
most probable, ``topk_margin`` where it leads the second likeliest most, ``entropy`` where the
distribution has least entropy. Revealed tokens are the likeliest ones (temperature 0).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from mechshift_lib.errors import ConfigError

OrderName = Literal["left-to-right", "random", "maskgit_plus", "topk_margin", "entropy"]
ORDERS: tuple[OrderName, ...] = get_args(OrderName)


class Reading(Protocol):
    """Where a token is read."""

    def read_position(self, token_index: int) -> int:
        """Position of the logits that predict token ``token_index``."""


class Asked(Protocol):
    """The part of a loaded model that generation needs."""

    @property
    def readout(self) -> Reading:
        """Says where a token is read (shifted or not)."""

    @property
    def mask_id(self) -> int | None:
        """Id of the mask token; None for an ARM."""

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits ``[batch, pos, vocabulary]`` without gradients."""


@dataclass(frozen=True)
class Denoised:
    """What an MDM made of a canvas.

    Attributes:
        tokens: the answer, ``[n_answer]``.
        order: answer indices revealed at each step.
    """

    tokens: tuple[int, ...]
    order: tuple[tuple[int, ...], ...]


def _buckets(
    prompts: Sequence[Sequence[int]],
    n_answer: Sequence[int],
    batch_size: int,
    after: Sequence[Sequence[int]] | None = None,
) -> Iterator[tuple[list[int], int]]:
    """Indices of prompts of the same lengths (prompt, answer, what follows), and the answer's."""
    if len(prompts) != len(n_answer):
        raise ConfigError(f"{len(prompts)} prompts have {len(n_answer)} answer lengths.")
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, (prompt, n) in enumerate(zip(prompts, n_answer, strict=True)):
        groups[len(prompt), n, len(after[index]) if after else 0].append(index)
    for (_, n, _), indices in groups.items():
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size], n


def generate_arm(
    model: Asked,
    prompts: Sequence[Sequence[int]],
    n_answer: Sequence[int],
    batch_size: int = 64,
) -> list[tuple[int, ...]]:
    """Greedy continuation of each prompt by ``n_answer`` tokens."""
    answers: list[tuple[int, ...]] = [()] * len(prompts)
    for indices, n in _buckets(prompts, n_answer, batch_size):
        ids = torch.tensor([list(prompts[i]) for i in indices])
        for _ in range(n):
            at = model.readout.read_position(ids.shape[1])
            following = model.logits(ids)[:, at].argmax(-1).cpu()
            ids = torch.cat([ids, following[:, None]], dim=1)
        for i, row in zip(indices, ids[:, ids.shape[1] - n :].tolist(), strict=True):
            answers[i] = tuple(row)
    return answers


def reveal_counts(n_answer: int, steps: int | None) -> list[int]:
    """How many tokens each step reveals: as even as can be, the first steps one more.

    Raises:
        ConfigError: more steps than tokens, or none.
    """
    steps = n_answer if steps is None else min(steps, n_answer)
    if steps < 1:
        raise ConfigError("Denoising needs at least 1 step.")
    return [n_answer // steps + (i < n_answer % steps) for i in range(steps)]


def confidence(order: OrderName, probabilities: Tensor) -> Tensor:
    """How sure the model is of each position, ``[..., vocabulary]`` -> ``[...]``.

    Raises:
        ConfigError: the order isn't one by confidence.
    """
    if order == "maskgit_plus":
        return probabilities.amax(-1)
    if order == "topk_margin":
        first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
        return first - second
    if order == "entropy":
        return torch.special.xlogy(probabilities, probabilities).sum(-1)
    raise ConfigError(f"Unknown order {order!r}: choose one of {', '.join(ORDERS)}.")


def denoise(
    model: Asked,
    prompts: Sequence[Sequence[int]],
    n_answer: Sequence[int],
    *,
    after: Sequence[Sequence[int]] | None = None,
    order: OrderName = "left-to-right",
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Denoised]:
    """Fill a canvas of each prompt and ``n_answer`` MASKs, step by step.

    The mask token itself is never chosen and revealed tokens stay (SUBS parametrisation of MDLM).

    Args:
        model: an MDM; its readout says where a token is read.
        prompts: token ids, of any lengths (they are batched by length).
        n_answer: number of tokens to fill for each prompt.
        after: token ids that follow each answer; none by default.
        order: which positions are revealed first.
        steps: number of denoising steps, at most and by default one a token.
        seed: for ``random``; every prompt has its own stream, so batching changes nothing.
        batch_size: canvases a forward pass.

    Raises:
        ConfigError: the model has no mask token, the order is unknown, or there are not as many
            texts after as prompts.
    """
    if after is not None and len(after) != len(prompts):
        raise ConfigError(f"{len(prompts)} prompts have {len(after)} texts after them.")
    if model.mask_id is None:
        raise ConfigError("This model has no mask token: generate with an ARM's greedy decoding.")
    if order not in ORDERS:
        raise ConfigError(f"Unknown order {order!r}: choose one of {', '.join(ORDERS)}.")
    results: list[Denoised] = [Denoised((), ())] * len(prompts)
    for indices, n in _buckets(prompts, n_answer, batch_size, after):
        start = len(prompts[indices[0]])
        blank, rest = [model.mask_id] * n, after or [()] * len(prompts)
        ids = torch.tensor([[*prompts[i], *blank, *rest[i]] for i in indices])
        answer = slice(start, start + n)
        reads = [model.readout.read_position(start + j) for j in range(n)]
        fixed = _fixed_priority(order, indices, n, seed)
        hidden = torch.ones(len(indices), n, dtype=torch.bool)
        revealed: list[list[tuple[int, ...]]] = [[] for _ in indices]
        for count in reveal_counts(n, steps) if n else []:
            logits = model.logits(ids)[:, reads].float().cpu()
            logits[..., model.mask_id] = -torch.inf
            priority = confidence(order, logits.softmax(-1)) if fixed is None else fixed
            # A stable sort, so that ties go to the left.
            ranked = priority.masked_fill(~hidden, -torch.inf).argsort(
                dim=1, descending=True, stable=True
            )
            chosen = torch.zeros_like(hidden).scatter(1, ranked[:, :count], True)
            ids[:, answer] = torch.where(chosen, logits.argmax(-1), ids[:, answer])
            hidden &= ~chosen
            for row, flags in zip(revealed, chosen, strict=True):
                row.append(tuple(flags.nonzero().flatten().tolist()))
        for i, row, answer_ids in zip(indices, revealed, ids[:, answer].tolist(), strict=True):
            results[i] = Denoised(tuple(answer_ids), tuple(row))
    return results


def _fixed_priority(order: OrderName, indices: Sequence[int], n: int, seed: int) -> Tensor | None:
    """Priorities ``[batch, n]`` that don't depend on the model, or None."""
    if order == "left-to-right":
        return -torch.arange(n, dtype=torch.float64).expand(len(indices), n)
    if order == "random":
        draws = [np.random.default_rng([seed, i]).permutation(n) for i in indices]
        return torch.tensor(np.array(draws), dtype=torch.float64)
    return None
