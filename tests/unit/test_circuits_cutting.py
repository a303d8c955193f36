"""Cut attention: what nobody sees changes nothing, and no cut is the clean run."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.patching.cutting import attention_mask, cut_attention
from mechshift_lib.circuits.questions.metrics import item_metric, reads_for
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import CASES, tiny_hf, tiny_items

HEEDING = [case for case in CASES if case[0] not in ("llada", "dream")]


def clean_metric(model, items):
    found = []
    for item in items:
        ids = torch.tensor([item.clean])
        unembed = at(model.hf, model.anatomy.unembed)
        final = run_layers(model, ids).final
        reads = reads_for("logit-diff", [item], model.device, final, unembed)
        found.append(float(item_metric("logit-diff", final, unembed, reads)))
    return found


@pytest.mark.parametrize(("architecture", "attention"), HEEDING)
def test_no_cut_is_the_clean_run_and_a_cut_off_token_does_not_count(architecture, attention):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    items = tiny_items(3)  # read at position 7
    off = [2, 5]
    found = cut_attention(model, items, [[[]] * 3, [off] * 3])
    np.testing.assert_allclose(found.values[0], clean_metric(model, items), atol=1e-5)
    assert np.abs(found.values[1] - found.values[0]).min() > 1e-5
    other = [
        dataclasses.replace(
            item,
            clean=tuple((t + 1) % 30 if p in off else t for p, t in enumerate(item.clean)),
        )
        for item in items
    ]
    changed = cut_attention(model, other, [[[]] * 3, [off] * 3])
    np.testing.assert_allclose(changed.values[1], found.values[1], atol=1e-6)
    assert np.abs(changed.values[0] - found.values[0]).min() > 1e-5


def test_only_the_cut_off_token_sees_itself_by_hand():
    model = wrap_model(tiny_hf(), attention="full")
    mask = attention_mask(model, torch.zeros(1, 3, dtype=torch.long), [[1]])[0, 0] == 0
    assert mask.tolist() == [[True, False, True], [True, True, True], [True, False, True]]
    causal = wrap_model(tiny_hf(), attention="causal")
    mask = attention_mask(causal, torch.zeros(1, 3, dtype=torch.long), [[1]])[0, 0] == 0
    assert mask.tolist() == [[True, False, False], [True, True, False], [True, False, True]]


def test_batch_size_order_and_lengths_make_no_difference():
    model = wrap_model(tiny_hf(), attention="full")
    items = [*tiny_items(3), *tiny_items(2, length=10, seed=3)]
    items = [dataclasses.replace(item, example=i) for i, item in enumerate(items)]
    cuts = [[[1], [2, 3], [], [9], [0]]]
    expected = cut_attention(model, items, cuts, batch_size=1)
    again = cut_attention(model, items[::-1], [cuts[0][::-1]], batch_size=50)
    np.testing.assert_allclose(again.values, expected.values, atol=3e-6)
    np.testing.assert_array_equal(again.correct, expected.correct)


def test_what_cannot_be_cut_is_refused():
    model = wrap_model(tiny_hf())
    with pytest.raises(CircuitError, match="has 8 positions"):
        cut_attention(model, tiny_items(1), [[[8]]])
    with pytest.raises(CircuitError, match="A cut of 2 items"):
        cut_attention(model, tiny_items(1), [[[1], [2]]])
    deaf = wrap_model(tiny_hf("llada"), attention="full")
    with pytest.raises(CircuitError, match="doesn't heed an attention mask"):
        cut_attention(deaf, tiny_items(1), [[[1]]])
