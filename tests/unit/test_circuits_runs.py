"""Runs with only some edges intact, against the literal transformer and by hand."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.batch import whole_layers
from mechshift_lib.circuits.evaluation.runs import (
    circuit_logits,
    run_circuits,
)
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.metrics import METRICS
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import Item
from tests.support.literal import circuit_logits as literal_logits
from tests.support.literal import embedding, run
from tests.support.tiny import CASES, GROUPED, tiny_hf, tiny_items

#: Every architecture ungrouped, and grouped where that differs.
MODELS = [(*case, kv) for case in CASES for kv in ("ungrouped", "grouped")]
MODELS = [case for case in MODELS if case[2] == "ungrouped" or case[0] in GROUPED]


def random_masks(graph, n, seed=0, share=0.5):
    return np.random.default_rng(seed).random((n, graph.n_edges)) < share


def ids(item):
    return torch.tensor([item.clean]), torch.tensor([item.corrupted])


def kept(graph, mask):
    return {name for name, on in zip(graph.names, mask, strict=True) if on}


def logit_diff(logits, item):
    """The item's metric on logits ``[n_read, vocab]``, written out."""
    reads = zip(logits, item.answers, item.distractors, strict=True)
    return float(np.mean([float(row[a[0]] - row[d[0]]) for row, a, d in reads]))


@pytest.fixture(scope="module", params=["causal", "full"])
def model(request):
    return wrap_model(tiny_hf(), attention=request.param)


@pytest.fixture(scope="module")
def items():
    """Two lengths, and an example of two steps with different numbers of reads."""
    longer = [
        dataclasses.replace(item, example=item.example + 3)
        for item in tiny_items(2, length=10, seed=3, reads=2)
    ]
    return [*tiny_items(3), *longer, dataclasses.replace(longer[0], step=1, **one_read(longer[0]))]


def one_read(item):
    return {key: getattr(item, key)[:1] for key in ("reads", "answers", "distractors")}


@pytest.mark.parametrize(("architecture", "attention", "kv"), MODELS)
def test_equals_the_literal_transformer(architecture, attention, kv):
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention, kv=kv)
    graph = Graph.for_model(model)
    items = tiny_items(2, reads=2)
    masks = np.concatenate([random_masks(graph, 1), random_masks(graph, 1, 1, 0.9)])
    found = run_circuits(model, items, masks)
    for circuit, mask in enumerate(masks):
        logits = circuit_logits(model, items, mask)
        for row, item in enumerate(items):
            causal = attention == "causal"
            expected = literal_logits(hf, *ids(item), kept(graph, mask), causal=causal)
            expected = expected[0, list(item.reads)]
            torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)
            value = logit_diff(expected, item)
            assert found.values[circuit, row] == pytest.approx(value, abs=1e-5)
    assert np.abs(found.values[0] - found.clean).max() > 1e-2
    assert np.abs(found.values[0] - found.corrupted).max() > 1e-2


def test_all_edges_are_the_clean_run_and_none_the_corrupted(model, items):
    graph = Graph.for_model(model)
    masks = np.stack([np.ones(graph.n_edges, bool), np.zeros(graph.n_edges, bool)])
    for metric in METRICS:
        found = run_circuits(model, items, masks, metric=metric)
        np.testing.assert_allclose(found.values[0], found.clean, atol=1e-5)
        np.testing.assert_allclose(found.values[1], found.corrupted, atol=1e-5)
        assert np.abs(found.clean - found.corrupted).max() > 1e-2
    assert found.examples.tolist() == list(range(5))


def test_values_do_not_depend_on_batches_order_or_budget(model, items):
    graph = Graph.for_model(model)
    masks = random_masks(graph, 5)
    reference = run_circuits(model, items, masks, batch_size=1)
    for options in ({"batch_size": 4}, {"batch_size": 100}, {"memory_budget": 1}):
        again = run_circuits(model, items, masks, **options)
        for field in ("values", "correct", "clean", "corrupted"):
            expected = getattr(reference, field)
            np.testing.assert_allclose(getattr(again, field), expected, atol=2e-6)
    back = run_circuits(model, items[::-1], masks[::-1], batch_size=3)
    np.testing.assert_allclose(back.values[::-1], reference.values, atol=2e-6)
    assert np.ptp(reference.values, axis=0).min() > 1e-3  # circuits differ


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "pythia", "dream"])
def test_whole_layers_are_skipped(architecture):
    """Circuits that leave the first layers whole start behind them, with the same values."""
    full = architecture == "dream"
    model = wrap_model(tiny_hf(architecture, layers=3), attention="full" if full else "causal")
    graph = Graph.for_model(model)
    masks = random_masks(graph, 5)
    for layer, mask in enumerate(masks[:4]):
        mask[graph.reader_layer < layer] = True
    assert whole_layers(graph, masks).tolist() == [0, 1, 2, 3, 0]
    items = tiny_items(2)
    for ablation in ("resample", "zero", "mean"):
        found = run_circuits(model, items, masks, ablation=ablation)
        for mask, values in zip(masks, found.values, strict=True):
            logits = circuit_logits(model, items, mask, ablation=ablation)  # skips nothing
            expected = [logit_diff(*pair) for pair in zip(logits, items, strict=True)]
            np.testing.assert_allclose(values, expected, atol=1e-5)


def test_examples_weigh_their_items_by_reads(model, items):
    graph = Graph.for_model(model)
    masks = random_masks(graph, 2)
    whole = run_circuits(model, items, masks)
    two = run_circuits(model, [items[3]], masks).values[:, 0]
    one = run_circuits(model, [items[5]], masks).values[:, 0]
    np.testing.assert_allclose(whole.values[:, 3], (2 * two + one) / 3, atol=2e-6)


def test_correct_is_the_share_of_reads_with_an_answer_on_top(model):
    (item,) = tiny_items(1, reads=3)
    top = model.logits(torch.tensor([item.clean]))[0, list(item.reads)].argmax(1).tolist()
    wrong = [(token + 1) % 40 for token in top]
    answers = ((top[0],), (wrong[1], top[1]), (wrong[2],))
    distractors = tuple(((token + 2) % 40,) for token in top)
    item = dataclasses.replace(item, answers=answers, distractors=distractors)
    mask = np.ones((1, Graph.for_model(model).n_edges), bool)
    assert run_circuits(model, [item], mask).correct[0, 0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("architecture", ["qwen2", "gpt2", "pythia"])
def test_padding_makes_no_difference(architecture, padding):
    model = wrap_model(tiny_hf(architecture), attention="full")
    short, long = tiny_items(1)[0], tiny_items(1, length=11, seed=5)[0]
    mask = random_masks(Graph.for_model(model), 1)[0]
    both = circuit_logits(model, [short, long], mask, padding=padding)
    for row, item in enumerate((short, long)):
        alone = circuit_logits(model, [item], mask)[0]
        torch.testing.assert_close(both[row], alone, atol=2e-5, rtol=1e-5)


def literal_ablated(hf, item, mask_names, constants):
    """Logits with constants instead of the corrupted run's outputs on cut edges."""

    def read(reader, so_far):
        parts = [
            value if name[0] == "b" or f"{name}->{reader}" in mask_names else constants(name, value)
            for name, value in so_far.items()
        ]
        return torch.stack(parts).sum(0)

    embed = embedding(hf, torch.tensor([item.clean]))
    return run(hf, embed, causal=True, read=read)[0][0, list(item.reads)]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "pythia"])
def test_zero_ablation_keeps_only_biases(architecture):
    hf = tiny_hf(architecture)
    model = wrap_model(hf)
    graph = Graph.for_model(model)
    (item,) = tiny_items(1)
    mask = random_masks(graph, 1)[0]
    found = circuit_logits(model, [item], mask, ablation=Ablation.ZERO)[0]
    expected = literal_ablated(hf, item, kept(graph, mask), lambda name, x: torch.zeros_like(x))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    resampled = circuit_logits(model, [item], mask)[0]
    assert (found - resampled).abs().max() > 1e-2


def test_mean_ablation_is_by_position_length_and_step():
    hf = tiny_hf()
    model = wrap_model(hf)
    graph = Graph.for_model(model)
    (item,) = tiny_items(1)
    others = tiny_items(3, seed=9)
    odd = dataclasses.replace(tiny_items(1, seed=4)[0], step=1)
    reference = [*others, odd, *tiny_items(1, length=9)]
    written = [run(hf, embedding(hf, torch.tensor([x.clean])), causal=True)[1] for x in others]
    mask = random_masks(graph, 1)
    found = run_circuits(model, [item], mask, ablation="mean", reference=reference)
    expected = literal_ablated(
        hf,
        item,
        kept(graph, mask[0]),
        lambda name, x: torch.stack([w[name] for w in written]).mean(0),
    )
    assert found.values[0, 0] == pytest.approx(logit_diff(expected, item), abs=1e-5)
    alone = run_circuits(model, [item, odd], ~mask, ablation="mean")
    np.testing.assert_allclose(alone.values[0], alone.clean, atol=1e-5)  # each its own mean
    early = dataclasses.replace(item, reads=(5,))  # a causal run stops there
    cut = run_circuits(model, [early], mask, ablation="mean", reference=others)
    logits = circuit_logits(model, [early], mask[0], ablation="mean", reference=others)[0]
    assert cut.values[0, 0] == pytest.approx(logit_diff(logits, early), abs=1e-5)
    assert abs(cut.values - found.values).max() > 1e-2
    with pytest.raises(CircuitError, match="no reference item of 8 tokens at step 1"):
        run_circuits(model, [odd], mask, ablation="mean", reference=others)


def test_a_model_calculated_by_hand():
    """One layer that writes nothing: the logits are the normed embedding times the unembedding."""
    hf = tiny_hf("llama", layers=1)
    with torch.no_grad():
        hf.model.layers[0].self_attn.o_proj.weight.zero_()
        hf.model.layers[0].mlp.down_proj.weight.zero_()
        hf.model.embed_tokens.weight.zero_()
        hf.model.embed_tokens.weight[1, 0] = 2.0
        hf.model.embed_tokens.weight[2, 1] = 3.0
        hf.model.norm.weight.fill_(1.0)
        hf.lm_head.weight.zero_()
        hf.lm_head.weight[5, 0] = 1.0
        hf.lm_head.weight[6, 1] = 1.0
    model = wrap_model(hf)
    item = Item(0, 0, (1,), (2,), (0,), ((5,),), ((6,),))
    graph = Graph.for_model(model)
    mask = np.zeros((3, graph.n_edges), bool)
    mask[0, graph.index("input->logits")] = True
    mask[1] = ~mask[0]
    found = run_circuits(model, [item], mask[:2])
    level = 32**0.5  # a one-hot vector of any height, normed over 32 dimensions
    np.testing.assert_allclose(found.values[:, 0], [level, -level], rtol=1e-4)
    assert found.correct[:, 0].tolist() == [1.0, 0.0]
    zero = run_circuits(model, [item], mask[2:], ablation=Ablation.ZERO)
    assert zero.values[0, 0] == 0.0


def test_bfloat16_is_close_to_float32():
    items = tiny_items(4)
    exact, rounded = wrap_model(tiny_hf()), wrap_model(tiny_hf().to(torch.bfloat16))
    masks = random_masks(Graph.for_model(exact), 6, share=0.8)
    a, b = (run_circuits(m, items, masks).values for m in (exact, rounded))
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.99  # bfloat16 keeps 8 bits
    assert not np.array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.ones((1, 3), bool)}, "array of booleans"),
        ({"masks": "floats"}, "array of booleans"),
        ({"ablation": "noise"}, "Unknown ablation 'noise': choose one of resample, zero, mean"),
        ({"metric": "loss"}, "Unknown metric"),
        ({"batch_size": 0}, "batch size"),
        ({"items": []}, "at least one example"),
    ],
)
def test_what_is_refused(model, change, message):
    n = Graph.for_model(model).n_edges
    if isinstance(change.get("masks"), str):
        change = {"masks": np.ones((1, n))}
    options = {"items": tiny_items(1), "masks": np.ones((1, n), bool)} | change
    with pytest.raises(CircuitError, match=message):
        run_circuits(model, **options)


def test_logits_that_cannot_be_stacked_are_refused(model):
    mask = np.ones(Graph.for_model(model).n_edges, bool)
    with pytest.raises(CircuitError, match="several lengths"):
        circuit_logits(model, [*tiny_items(1), *tiny_items(1, length=9)], mask)
    with pytest.raises(CircuitError, match="same number of reads"):
        circuit_logits(model, [*tiny_items(1), *tiny_items(1, reads=2)], mask)
    with pytest.raises(CircuitError, match="can't be padded"):
        circuit_logits(model, tiny_items(1), mask, ablation="mean", padding="left")
