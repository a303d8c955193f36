"""Losses and weights by hand; the attention mask on its way from causal to full."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mechshift_lib.diffusion.objective import (
    annealed_attention,
    cart_weights,
    inverse_time_weights,
    token_losses,
)

MIN = torch.finfo(torch.float32).min


def test_token_losses_read_each_token_one_position_earlier() -> None:
    # The hidden state is the logits: a model that copies would put token i's logit at i - 1.
    ids = torch.tensor([[3, 1, 2, 0]])
    hidden = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0, 3]]), 4).float() * 50
    where = torch.tensor([[False, True, True, True]])
    assert token_losses(hidden, torch.nn.Identity(), ids, where).abs().max() < 1e-6
    # Reading at the token's own position instead would be wrong everywhere.
    unshifted = torch.nn.functional.one_hot(ids, 4).float() * 50
    assert token_losses(unshifted, torch.nn.Identity(), ids, where).min() > 10


def test_token_losses_are_cross_entropies_of_the_chosen_tokens_only() -> None:
    hidden = torch.tensor([[[0.0, math.log(3.0)], [9.0, 0.0], [0.0, 0.0]]])
    ids = torch.tensor([[0, 1, 0]])
    where = torch.tensor([[False, True, False]])
    losses = token_losses(hidden, torch.nn.Identity(), ids, where)
    assert losses.shape == (1,)
    assert losses[0].item() == pytest.approx(-math.log(3 / 4))


def test_token_losses_refuse_the_first_token() -> None:
    with pytest.raises(ValueError, match="first token"):
        token_losses(torch.zeros(1, 2, 3), torch.nn.Identity(), torch.zeros(1, 2).long(),
                     torch.tensor([[True, False]]))  # fmt: skip


def test_inverse_time_weights_by_hand() -> None:
    masked = torch.tensor([[False, True, True], [False, False, True]])
    weights = inverse_time_weights(torch.tensor([0.5, 0.2]), masked)
    assert torch.allclose(weights, torch.tensor([[0.0, 2.0, 2.0], [0.0, 0.0, 5.0]]))


def test_cart_weights_by_hand() -> None:
    masked = torch.tensor([[False, True, True, False]])
    present = torch.ones(1, 4, dtype=torch.bool)
    weights = cart_weights(masked, present, p=0.3)
    # Position 1: known at distance 1 (0.3) and 2 (0.3 * 0.7); halved. Position 2 mirrors it.
    expected = 0.5 * (0.3 + 0.3 * 0.7)
    assert torch.allclose(weights, torch.tensor([[0.0, expected, expected, 0.0]]))


def test_cart_weights_ignore_padding() -> None:
    masked = torch.tensor([[False, True, False]])
    padded = torch.tensor([[True, True, False]])
    assert cart_weights(masked, padded, p=0.5)[0, 1].item() == pytest.approx(0.25)
    full = torch.ones(1, 3, dtype=torch.bool)
    assert cart_weights(masked, full, p=0.5)[0, 1].item() == pytest.approx(0.5)


def test_annealed_attention_is_causal_at_0_and_full_at_1() -> None:
    present = torch.ones(2, 5, dtype=torch.bool)
    causal = annealed_attention(present, 0.0)
    assert causal.shape == (2, 1, 5, 5)
    seen = causal[1, 0] == 0
    assert torch.equal(seen, torch.ones(5, 5, dtype=torch.bool).tril())
    assert (annealed_attention(present, 1.0) == 0).all()


def test_annealed_attention_between_opens_the_stated_share_of_later_keys() -> None:
    present = torch.ones(64, 16, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    seen = (annealed_attention(present, 0.25, generator) == 0)[:, 0]
    later = torch.ones(16, 16, dtype=torch.bool).triu(1)
    assert seen[:, ~later].all()
    assert seen[:, later].float().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_annealed_attention_never_shows_padding(rate: float) -> None:
    present = torch.tensor([[True, True, True, False, False]])
    mask = annealed_attention(present, rate, torch.Generator().manual_seed(1))[0, 0]
    assert (mask[:3, 3:] == MIN).all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_padding_moves_no_logit_of_a_real_model(attention: str, rate: float) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, attn_implementation=attention,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    ids = torch.tensor([[1, 2, 3, 4, 0, 0]])
    present = torch.tensor([[True] * 4 + [False] * 2])
    mask = annealed_attention(present, rate)
    other = torch.tensor([[1, 2, 3, 4, 7, 9]])
    last = torch.tensor([[1, 2, 3, 5, 0, 0]])
    with torch.no_grad():
        logits, padded, changed = (
            model(input_ids=x, attention_mask=mask).logits for x in (ids, other, last)
        )
        alone = model(input_ids=ids[:, :4], attention_mask=mask[..., :4, :4]).logits
    assert torch.equal(logits[:, :4], padded[:, :4])
    assert torch.allclose(logits[:, :4], alone, atol=1e-6)
    # The first token sees the last one if attention is full, and only then.
    moved = (logits[:, 0] - changed[:, 0]).abs().max().item()
    assert moved == 0.0 if rate == 0.0 else moved > 1e-4
