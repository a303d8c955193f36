"""Attention patterns are the model's own, in every architecture, and heads are made of them."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama import modeling_llama

from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.circuits.tracing.patterns import attention_patterns
from mechshift_lib.errors import ModelError
from mechshift_lib.models.anatomy import gather_qkv
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import CASES, FULL_ONLY, tiny_hf

#: More tokens than a head of the tiny models is wide: marks take two rows.
IDS = torch.tensor([[3, 7, 1, 7, 9, 30, 2, 7, 1, 5, 11], [8, 8, 2, 4, 6, 1, 0, 39, 39, 3, 4]])


@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_a_heads_output_is_its_pattern_times_its_values(architecture: str, attention: str) -> None:
    """Rotary and learnt positions, norms of queries, GQA, fused projections, remote code."""
    model = wrap_model(tiny_hf(architecture), attention=attention)
    patterns = attention_patterns(model, IDS)
    assert patterns.shape == (2, 2, model.n_heads, 11, 11)
    torch.testing.assert_close(patterns.sum(-1), torch.ones(2, 2, model.n_heads, 11))
    right = patterns.triu(1)
    assert bool((right > 0).any()) == (attention == "full")
    run = run_layers(model, IDS, frozenset({"qkv", "heads"}))
    for layer in range(2):
        made = gather_qkv(model.anatomy, run.qkv[layer], model.d_head)
        made = made.unflatten(-1, (-1, model.d_head))
        n_kv = (made.shape[2] - model.n_heads) // 2
        values = made[:, :, -n_kv:].repeat_interleave(model.n_heads // n_kv, 2)
        again = torch.einsum("bhqk,bkhd->bqhd", patterns[:, layer], values).flatten(2)
        torch.testing.assert_close(again, run.heads[layer], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "attention"), [case for case in CASES if case[0] not in FULL_ONLY]
)
def test_patterns_are_those_of_eager_attention(architecture: str, attention: str) -> None:
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention)
    found = attention_patterns(model, IDS)
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        own = hf(IDS, output_attentions=True).attentions
    torch.testing.assert_close(found, torch.stack(own, 1), rtol=1e-4, atol=1e-5)
    assert found.std() > 0.05, "a pattern that is nearly uniform would prove nothing"


def test_batches_grouping_and_what_ran_before_make_no_difference() -> None:
    models = [
        wrap_model(tiny_hf("qwen2"), attention="full", kv=kv) for kv in ("grouped", "ungrouped")
    ]
    together, apart = (attention_patterns(model, IDS) for model in models)
    torch.testing.assert_close(together, apart)
    single = torch.cat([attention_patterns(models[0], row[None]) for row in IDS])
    torch.testing.assert_close(together, single)
    before = models[0].logits(IDS)
    attention_patterns(models[0], IDS)
    torch.testing.assert_close(models[0].logits(IDS), before, rtol=0, atol=0)


def test_heads_that_are_no_mean_of_their_values_are_refused(monkeypatch) -> None:
    """Where half of the attention goes to a sink that is no token, say."""
    eager = modeling_llama.eager_attention_forward

    def leaking(*args, **kwargs):
        z, weights = eager(*args, **kwargs)
        return z / 2, weights

    hf = tiny_hf("llama")
    model = wrap_model(hf)
    hf.set_attn_implementation("eager")
    monkeypatch.setattr(modeling_llama, "eager_attention_forward", leaking)
    with pytest.raises(ModelError, match=r"sum to 1 ± 0\.5"):
        attention_patterns(model, IDS)
