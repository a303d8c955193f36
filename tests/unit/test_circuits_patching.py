"""Activation patching against hooks, one patch at a time, and by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from mechshift_lib.choices import DIRECTIONS
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.record import SITES, Patching
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import CASES, tiny_hf, tiny_items

LAYERS, HEADS = 2, 4


def logit_diff(logits, item):
    reads = zip(item.reads, item.answers, item.distractors, strict=True)
    return float(sum(logits[p, a[0]] - logits[p, d[0]] for p, a, d in reads)) / len(item.reads)


def module_of(model, site, layer):
    """The module whose input or output is the activation, and which of the two."""
    if site == "resid" and layer == LAYERS:
        return at(model.hf, model.anatomy.final_norm), "input"
    block = model.anatomy.layer(model.hf, layer)
    return {
        "resid": (block, "input"),
        "attn": (at(block, model.anatomy.o), "output"),
        "mlp": (at(block, model.anatomy.mlp), "output"),
        "head": (at(block, model.anatomy.o), "input"),
    }[site]


def hooked(model, ids, site, layer, change):
    """Logits of a run in which ``change`` maps an activation ``[1, pos, width]`` to another."""
    module, end = module_of(model, site, layer)

    def before(_, args, kwargs):
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def after(_, __, output):
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    if end == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        return model.logits(torch.tensor([ids]))[0]
    finally:
        handle.remove()


def literal(model, item, site, direction, positions, metric=logit_diff):
    """The metric of every patch, ``[n_layer(, n_head), n_pos]``, one run after the other."""
    base, source = item.clean, item.corrupted
    if direction == "denoise":
        base, source = source, base
    heads = HEADS if site == "head" else 1
    values = np.zeros((LAYERS + (site == "resid"), heads, len(positions)))
    for layer in range(len(values)):
        kept = []
        hooked(model, source, site, layer, lambda x, kept=kept: kept.append(x.clone()) or x)
        for head in range(heads):
            width = model.d_head
            columns = slice(head * width, (head + 1) * width) if site == "head" else slice(None)
            for column, position in enumerate(positions):

                def change(x, kept=kept, position=position, columns=columns):
                    x = x.clone()
                    x[:, position, columns] = kept[0][:, position, columns]
                    return x

                values[layer, head, column] = metric(hooked(model, base, site, layer, change), item)
    return values if site == "head" else values[:, 0]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_equals_one_hook_at_a_time(architecture, attention, direction):
    model = wrap_model(tiny_hf(architecture, layers=LAYERS), attention=attention)
    items = tiny_items(2, reads=2)
    result = patch_nodes(model, items, direction=direction, batch_size=100)
    for site in SITES:
        for row, item in enumerate(items):
            expected = literal(model, item, site, direction, range(8))
            np.testing.assert_allclose(result.patched[site][row], expected, atol=1e-5, rtol=1e-4)
            assert np.ptp(expected) > 1e-2


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_all_positions_at_once_equals_hooks_and_grouped_heads_too(direction):
    model = wrap_model(tiny_hf(), attention="full", kv="grouped")
    items = tiny_items(2)
    result = patch_nodes(model, items, direction=direction, by_position=False)
    for site in SITES:
        for row, item in enumerate(items):
            expected = literal(model, item, site, direction, [slice(None)])
            assert result.patched[site].shape[1:] == expected.shape
            np.testing.assert_allclose(result.patched[site][row], expected, atol=1e-5, rtol=1e-4)


def test_another_metric_and_a_run_compared_with_the_clean_run():
    model = wrap_model(tiny_hf(), attention="full")
    (item,) = tiny_items(1)
    clean = model.logits(torch.tensor([item.clean]))[0].log_softmax(-1)

    def divergence(logits, item):
        other = logits.log_softmax(-1)[item.reads[0]]
        own = clean[item.reads[0]]
        return -float((own.exp() * (own - other)).sum())

    result = patch_nodes(model, [item], sites=["head"], metric="kl", direction="noise")
    expected = literal(model, item, "head", "noise", range(8), divergence)
    np.testing.assert_allclose(result.patched["head"][0], expected, atol=1e-5, rtol=1e-4)
    assert result.clean == pytest.approx(0, abs=1e-6)
    assert expected.min() < -1e-3


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_values_do_not_depend_on_batch_size_order_or_company(attention):
    model = wrap_model(tiny_hf(layers=3), attention=attention)
    longer = [
        dataclasses.replace(item, example=item.example + 3)
        for item in tiny_items(2, length=10, seed=3)
    ]
    items = tiny_items(3) + longer
    reference = patch_nodes(model, items, batch_size=1)
    for size in (7, 64, 1000):
        again = patch_nodes(model, items, batch_size=size)
        for site in SITES:
            np.testing.assert_allclose(again.patched[site], reference.patched[site], atol=3e-6)
    back = patch_nodes(model, items[::-1])
    assert back.examples.tolist() == [4, 3, 2, 1, 0]
    alone = patch_nodes(model, items[3:4])
    for site in SITES:
        np.testing.assert_allclose(back.patched[site][::-1], reference.patched[site], atol=3e-6)
        np.testing.assert_allclose(alone.patched[site][0], reference.patched[site][3], atol=3e-6)
        assert np.isnan(reference.patched[site][:3, ..., 8:]).all()
        assert np.isfinite(reference.patched[site][3:]).all()


def test_ends_of_the_residual_stream_are_the_two_runs():
    """All of the input patched is the other run; under causal attention nothing before differs."""
    model = wrap_model(tiny_hf())
    items = tiny_items(3)
    whole = patch_nodes(model, items, sites=["resid"], by_position=False)
    np.testing.assert_allclose(
        whole.patched["resid"], np.broadcast_to(whole.clean[:, None, None], (3, 3, 1)), atol=1e-5
    )
    np.testing.assert_allclose(whole.normalised("resid"), 1, atol=1e-5)
    single = patch_nodes(model, items, sites=["resid"], direction="noise")
    np.testing.assert_array_equal(  # positions 0 and 1 are the same in both runs
        single.patched["resid"][:, :, :2], np.broadcast_to(single.clean[:, None, None], (3, 3, 2))
    )
    np.testing.assert_allclose(single.patched["resid"][:, -1, 7], single.corrupted, atol=1e-5)
    np.testing.assert_array_equal(single.patched["resid"][:, -1, 6], single.clean)
    assert np.abs(single.patched["resid"][:, 0, 2] - single.clean).max() > 1e-2


def by_hand():
    """Two examples, the first with two steps of 3 and 1 reads, the second one position shorter."""
    return Patching(
        direction="denoise",
        metric="logit-diff",
        by_position=True,
        examples=np.array([0, 0, 7]),
        steps=np.array([0, 2, 0]),
        reads=np.array([3, 1, 2]),
        lengths=np.array([2, 2, 1]),
        clean=np.array([4.0, 8.0, 1.0]),
        corrupted=np.array([0.0, 4.0, -1.0]),
        patched={"attn": np.array([[[1.0, 2.0]], [[5.0, 8.0]], [[0.0, np.nan]]])},
    )


def test_shares_are_ratios_of_means_by_hand():
    """Example 0: weights 3/4 and 1/4. Position 0: (0.75·1 + 0.25·1 + 1) / (0.75·4 + 0.25·4 + 2)."""
    result = by_hand()
    np.testing.assert_allclose(result.normalised("attn"), [[2 / 6, (1.5 + 1) / 4]])
    np.testing.assert_allclose(result.normalised("attn", 0), [[(1 + 1) / (4 + 2), 2 / 4]])
    np.testing.assert_allclose(result.normalised("attn", 2), [[1 / 4, 1]])
    noise = dataclasses.replace(
        result, direction="noise", clean=result.corrupted, corrupted=result.clean
    )
    np.testing.assert_allclose(noise.normalised("attn"), result.normalised("attn"))
    nothing = dataclasses.replace(result, clean=result.corrupted)
    assert np.isnan(nothing.normalised("attn")).all()


def test_frame_is_tidy_and_counts_examples():
    frame = by_hand().frame()
    assert list(frame) == ["site", "layer", "head", "position", "step", "value", "n"]
    rows = frame[["position", "step", "n"]].to_numpy(dtype=int).tolist()
    assert rows == [[0, 0, 2], [1, 0, 1], [0, 2, 1], [1, 2, 1]]
    assert frame["head"].isna().all()
    assert frame["value"].tolist() == pytest.approx([2 / 6, 1 / 2, 1 / 4, 1])
    together = by_hand().frame(by_step=False)
    assert together["n"].tolist() == [2, 1]
    assert together["step"].isna().all()
    assert isinstance(together["layer"].dtype, pd.Int64Dtype)


def test_frame_of_a_model_has_every_patch_once():
    model = wrap_model(tiny_hf(layers=LAYERS))
    items = [dataclasses.replace(item, step=item.example) for item in tiny_items(2)]
    result = patch_nodes(model, items)
    frame = result.frame()
    per_step = 8 * (LAYERS + 1 + 2 * LAYERS + LAYERS * HEADS)
    assert len(frame) == 2 * per_step
    assert not frame.duplicated(["site", "layer", "head", "position", "step"]).any()
    row = frame.query("site == 'head' and layer == 1 and head == 2 and position == 7 and step == 1")
    whole = result.clean[1] - result.corrupted[1]
    expected = (result.patched["head"][1, 1, 2, 7] - result.corrupted[1]) / whole
    assert row["value"].item() == pytest.approx(expected)
    assert len(patch_nodes(model, items, by_position=False).frame(by_step=False)) == per_step / 8


def test_bfloat16_patches_like_float32():
    items = tiny_items(4)
    exact = patch_nodes(wrap_model(tiny_hf(), attention="full"), items, sites=["head"])
    rounded = patch_nodes(
        wrap_model(tiny_hf().to(torch.bfloat16), attention="full"), items, sites=["head"]
    )
    change = [(r.patched["head"] - r.base[:, None, None, None]).ravel() for r in (exact, rounded)]
    assert np.corrcoef(*change)[0, 1] > 0.98  # only the model's own rounding is left
    assert not np.array_equal(*change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sites": ["stream"]}, "Unknown site 'stream'"),
        ({"sites": []}, "no site"),
        ({"direction": "up"}, "Unknown direction 'up'"),
        ({"metric": "loss"}, "Unknown metric 'loss'"),
        ({"batch_size": 0}, "batch size"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(CircuitError, match=message):
        patch_nodes(wrap_model(tiny_hf()), tiny_items(1), **options)


def test_malformed_items_and_questions_are_refused():
    model = wrap_model(tiny_hf())
    (item,) = tiny_items(1)
    with pytest.raises(CircuitError, match="8 clean and 3 corrupted"):
        patch_nodes(model, [dataclasses.replace(item, corrupted=(1, 2, 3))])
    with pytest.raises(CircuitError, match="at least one example"):
        patch_nodes(model, [])
    with pytest.raises(CircuitError, match="No item has step 4"):
        by_hand().normalised("attn", 4)
    with pytest.raises(CircuitError, match="'mlp' wasn't patched"):
        by_hand().normalised("mlp")
    model.hf.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(CircuitError, match="NaN"):
        patch_nodes(model, [item])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_one_position_of_each_item_is_patched_as_among_all(direction):
    model = wrap_model(tiny_hf(layers=LAYERS), attention="full")
    items = [*tiny_items(3), *tiny_items(2, length=11, seed=1)]
    only = [len(item.clean) - 1 - row % 2 for row, item in enumerate(items)]
    whole = patch_nodes(model, items, direction=direction)
    found = patch_nodes(model, items, direction=direction, only=only)
    for site in SITES:
        for row, position in enumerate(only):
            one, other = found.patched[site][row], whole.patched[site][row]
            np.testing.assert_allclose(
                one[..., position], other[..., position], rtol=1e-5, atol=1e-6
            )
            assert np.isnan(np.delete(one, position, axis=-1)).all()
    for wrong, sentence in (
        ({"only": only[:-1]}, f"positions for {len(items)} items"),
        ({"only": [99] * len(items)}, "no position 99"),
        ({"only": only, "by_position": False}, "takes by_position=True"),
    ):
        with pytest.raises(CircuitError, match=sentence):
            patch_nodes(model, items, **wrong)
