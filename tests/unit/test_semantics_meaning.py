"""What components of two models write is compared as their logits are, without making them."""

from __future__ import annotations

import pytest
import torch

from mechshift_lib.errors import ModelError
from mechshift_lib.semantics.meaning import alike

N_READ, N_COMPONENT, VOCAB = 5, 3, 40


def drawn(width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(N_READ, N_COMPONENT, width, generator=generator)
    weight = torch.randn(VOCAB, width, generator=generator)
    return parts, weight - weight.mean(0)


def literal(own, own_weight, other, other_weight) -> torch.Tensor:
    """The logits of every component at every read in a row, and the cosine of two such rows."""
    a, b = (p @ w.T for p, w in ((own, own_weight), (other, other_weight)))
    found = torch.zeros(N_COMPONENT, N_COMPONENT)
    for i in range(N_COMPONENT):
        for j in range(N_COMPONENT):
            x, y = a[:, i].flatten(), b[:, j].flatten()
            found[i, j] = x @ y / (x.norm() * y.norm())
    return found


def test_it_is_the_cosine_of_the_logits_whatever_the_widths():
    found = alike(*drawn(6, 0), *drawn(9, 1))
    torch.testing.assert_close(
        found.float(), literal(*drawn(6, 0), *drawn(9, 1)), atol=1e-5, rtol=0
    )
    own = alike(*drawn(6, 0), *drawn(6, 0))
    torch.testing.assert_close(own.diagonal(), torch.ones(N_COMPONENT).double())
    assert own.triu(1).abs().max() < 0.9


def test_a_stream_that_is_turned_and_a_component_that_writes_more_mean_the_same():
    parts, weight = drawn(6, 0)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2)))
    found = alike(parts, weight, 3 * parts @ turn, weight @ turn)
    torch.testing.assert_close(found.diagonal(), torch.ones(N_COMPONENT).double())
    torch.testing.assert_close(alike(parts, weight, -parts, weight).diagonal(), -found.diagonal())


def test_what_writes_nothing_is_like_nothing():
    parts, weight = drawn(6, 0)
    silent = parts.clone()
    silent[:, 1] = 0
    found = alike(parts, weight, silent, weight)
    assert found[:, 1].tolist() == [0.0] * N_COMPONENT
    assert found[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("cut", ["reads", "components", "tokens"])
def test_other_questions_or_tokens_are_refused(cut):
    (own, weight), (other, same) = drawn(6, 0), drawn(6, 1)
    other = other[:-1] if cut == "reads" else other[:, :-1] if cut == "components" else other
    with pytest.raises(ModelError, match="compare models of one pair"):
        alike(own, weight, other, same[:-1] if cut == "tokens" else same)
