"""Samplers on hand-made logits."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from mechshift_lib.diffusion.samplers import (
    ORDERS,
    Denoised,
    confidence,
    denoise,
    generate_arm,
    reveal_counts,
)
from mechshift_lib.errors import ConfigError

MASK = 9
VOCABULARY = 10


@dataclass(frozen=True)
class Shift:
    by: int

    def read_position(self, token_index: int) -> int:
        return token_index - self.by


@dataclass(frozen=True)
class Counting:
    """An ARM that counts: after token ``k`` comes ``k + 1``."""

    readout: Shift = Shift(1)
    mask_id: int | None = None
    batches: list[tuple[int, ...]] = field(default_factory=list)

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.batches.append(tuple(ids.shape))
        return torch.nn.functional.one_hot((ids + 1) % VOCABULARY, VOCABULARY).float()


@dataclass(frozen=True)
class Scripted:
    """An MDM whose probabilities at each answer token are written down.

    ``table`` is ``[n_answer, vocabulary]``; it stands at the positions where the readout reads
    the answer. The mask token itself always has the largest logit.
    """

    table: Tensor
    n_prompt: int
    readout: Shift = Shift(1)
    mask_id: int | None = MASK
    inputs: list[list[list[int]]] = field(default_factory=list)

    def logits(self, ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        self.inputs.append(ids.tolist())
        out = torch.zeros(*ids.shape, VOCABULARY)
        start = self.n_prompt - self.readout.by
        out[:, start : start + len(self.table)] = self.table.clamp(min=1e-9).log()
        out[..., MASK] = 100.0
        return out


def table(*rows: tuple[float, ...]) -> Tensor:
    out = torch.zeros(len(rows), VOCABULARY)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row)
    return out


# Token 0, 1 and 2 win at position 0, 1 and 2; each measure of confidence ranks them differently.
THREE = table((0.5, 0.45, 0.05), (0.1, 0.45, 0.15, 0.15, 0.15), (0.005, 0.195, 0.4, 0.4 - 1e-4))


def test_generate_arm_is_greedy_for_prompts_of_any_length() -> None:
    model = Counting()
    answers = generate_arm(model, [[1, 2], [5], [3, 4]], [3, 2, 3], batch_size=8)
    assert answers == [(3, 4, 5), (6, 7), (5, 6, 7)]
    # Equal shapes share a batch; nothing is padded.
    assert model.batches == [(2, 2), (2, 3), (2, 4), (1, 1), (1, 2)]


@pytest.mark.parametrize("by", [0, 1])
def test_denoise_reads_where_the_readout_says_and_never_chooses_the_mask(by: int) -> None:
    model = Scripted(THREE, n_prompt=2, readout=Shift(by))
    (found,) = denoise(model, [[7, 8]], [3])
    assert found == Denoised((0, 1, 2), ((0,), (1,), (2,)))
    assert model.inputs == [[[7, 8, 9, 9, 9]], [[7, 8, 0, 9, 9]], [[7, 8, 0, 1, 9]]]


def test_orders_by_confidence_by_hand() -> None:
    def order(name: str) -> tuple[tuple[int, ...], ...]:
        return denoise(Scripted(THREE, 1), [[7]], [3], order=name)[0].order  # type: ignore[arg-type]

    # Largest probability: .5, .45, .4. Lead over the second: .05, .30, .0001.
    # Entropy: .86, 1.43, 1.08 nats.
    assert order("maskgit_plus") == ((0,), (1,), (2,))
    assert order("topk_margin") == ((1,), (0,), (2,))
    assert order("entropy") == ((0,), (2,), (1,))


def test_confidence_values_by_hand() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.25])
    assert confidence("maskgit_plus", probabilities).item() == 0.5
    assert confidence("topk_margin", probabilities).item() == 0.25
    assert confidence("entropy", probabilities).item() == pytest.approx(-1.0397, abs=1e-4)
    with pytest.raises(ConfigError, match="Unknown order"):
        confidence("left-to-right", probabilities)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_every_order_reveals_each_token_once_in_so_many_steps(order: str, steps: int) -> None:
    model = Scripted(THREE, 1)
    (found,) = denoise(model, [[7]], [3], order=order, steps=steps)  # type: ignore[arg-type]
    assert sorted(i for step in found.order for i in step) == [0, 1, 2]
    assert len(found.order) == len(model.inputs) == min(steps, 3)
    assert found.tokens == (0, 1, 2)


def test_random_order_depends_on_the_seed_but_not_on_the_batch() -> None:
    prompts = [[i % 7] for i in range(20)]

    def orders(seed: int, batch_size: int) -> list[tuple[tuple[int, ...], ...]]:
        model = Scripted(THREE, 1)
        found = denoise(model, prompts, [3] * 20, order="random", seed=seed, batch_size=batch_size)
        return [one.order for one in found]

    assert orders(0, 20) == orders(0, 3)
    assert orders(0, 20) != orders(1, 20)
    assert len(set(orders(0, 20))) > 3


def test_reveal_counts_are_as_even_as_can_be() -> None:
    assert reveal_counts(5, None) == [1] * 5
    assert reveal_counts(5, 2) == [3, 2]
    assert reveal_counts(3, 9) == [1, 1, 1]
    with pytest.raises(ConfigError, match="at least 1 step"):
        reveal_counts(3, 0)


def test_wrong_requests_are_told_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="no mask token"):
        denoise(Counting(), [[1]], [1])
    with pytest.raises(ConfigError, match="Unknown order"):
        denoise(Scripted(THREE, 1), [[7]], [3], order="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="answer lengths"):
        generate_arm(Counting(), [[1], [2]], [1])


def test_a_blank_in_the_middle_is_filled_in_place_and_what_follows_stays() -> None:
    table = torch.eye(VOCABULARY)[[4, 6]]
    model = Scripted(table, n_prompt=3)
    found = denoise(model, [[1, 2, 3], [3, 2, 1]], [2, 2], after=[[7, 8], [8]])
    assert [one.tokens for one in found] == [(4, 6), (4, 6)]
    seen = [row for batch in model.inputs for row in batch]
    assert [1, 2, 3, MASK, MASK, 7, 8] in seen
    assert [1, 2, 3, 4, MASK, 7, 8] in seen
    assert [3, 2, 1, MASK, MASK, 8] in seen
    with pytest.raises(ConfigError, match="1 texts after"):
        denoise(model, [[1], [2]], [1, 1], after=[[3]])
