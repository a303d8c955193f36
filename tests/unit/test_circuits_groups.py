"""Patching groups of positions against hooks, against single patches, and by what can't change."""

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.groups import patch_groups
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import tiny_hf, tiny_items

LAYERS = 2


def literal(model, item, positions, layer):
    """Logit difference of the clean run with the corrupted stream at some positions, by a hook."""
    module = (
        at(model.hf, model.anatomy.final_norm)
        if layer == LAYERS
        else model.anatomy.layer(model.hf, layer)
    )
    seen = {}

    def keep(_, args, kwargs):
        seen["stream"] = (args[0] if args else kwargs["hidden_states"]).clone()

    def put(_, args, kwargs):
        stream = (args[0] if args else kwargs["hidden_states"]).clone()
        stream[:, positions] = seen["stream"][:, positions]
        return ((stream, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": stream})

    for ids, hook in ((item.corrupted, keep), (item.clean, put)):
        handle = module.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            with torch.no_grad():
                logits = model.logits(torch.tensor([ids]))[0]
        finally:
            handle.remove()
    reads = zip(item.reads, item.answers, item.distractors, strict=True)
    return float(sum(logits[p, a[0]] - logits[p, d[0]] for p, a, d in reads)) / len(item.reads)


@pytest.mark.parametrize("attention", ["causal", "full"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_groups_are_what_a_hook_puts_in(architecture, attention):
    model = wrap_model(tiny_hf(architecture, layers=LAYERS), attention=attention)
    items = [*tiny_items(2, reads=2), *tiny_items(1, length=10, seed=3)]
    groups = [[[2], [4], [2, 4]], [[2, 3, 4], [5, 7], [8, 9]], [list(range(8))] * 3]
    found = patch_groups(model, items, groups, batch_size=3)
    assert found.patched.shape == (3, 3, LAYERS + 1)
    for row, item in enumerate(items):
        for group in range(3):
            for layer in range(LAYERS + 1):
                value = literal(model, item, groups[group][row], layer)
                assert found.patched[row, group, layer] == pytest.approx(value, abs=1e-4)


def test_a_group_of_one_is_a_patch_of_one_and_no_position_changes_nothing():
    model = wrap_model(tiny_hf(), attention="full")
    items = tiny_items(3)
    single = patch_nodes(model, items, sites=["resid"], direction="noise")
    groups = [[[p]] * 3 for p in range(8)]
    found = patch_groups(model, items, [*groups, [[]] * 3])
    np.testing.assert_allclose(
        found.patched[:, :8], single.patched["resid"].transpose(0, 2, 1), atol=1e-5
    )
    np.testing.assert_array_equal(found.patched[:, 8], found.clean[:, None].repeat(3, axis=1))
    np.testing.assert_allclose(found.corrupted, single.corrupted)
    late = patch_groups(model, items, groups, first=1, batch_size=2)
    assert late.layers.tolist() == [1, 2]
    np.testing.assert_allclose(late.patched, found.patched[:, :8, 1:], atol=1e-5)


def test_groups_that_do_not_fit_are_refused():
    model, items = wrap_model(tiny_hf()), tiny_items(2)
    with pytest.raises(CircuitError, match="each of the 2 items"):
        patch_groups(model, items, [[[1]]])
    with pytest.raises(CircuitError, match="outside of example"):
        patch_groups(model, items, [[[1], [8]]])
