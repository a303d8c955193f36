"""Optimal ablation: constants that lose least, against means, by hand and by their gradient."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from mechshift_lib.choices import Ablation
from mechshift_lib.circuits.evaluation.ablation import Means
from mechshift_lib.circuits.evaluation.optimal import fit_constants
from mechshift_lib.circuits.evaluation.runs import circuit_logits, run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import Item
from tests.support.literal import embedding, plain_read, run
from tests.support.tiny import tiny_hf, tiny_items


def random_masks(graph, n, share=0.5):
    return np.random.default_rng(0).random((n, graph.n_edges)) < share


@pytest.mark.parametrize(
    ("architecture", "attention", "kv"),
    [
        ("qwen2", "causal", "ungrouped"),
        ("llama", "full", "grouped"),
        ("gpt2", "full", "ungrouped"),
        ("pythia", "causal", "ungrouped"),
    ],
)
def test_never_worse_than_the_means_on_the_reference_set(architecture, attention, kv):
    model = wrap_model(tiny_hf(architecture), attention=attention, kv=kv)
    graph, items = Graph.for_model(model), tiny_items(4, reads=2)
    masks = np.concatenate([random_masks(graph, 2), np.zeros((1, graph.n_edges), bool)])
    fitted = fit_constants(model, graph, items, masks, steps=30)
    mean = run_circuits(model, items, masks, metric="kl", ablation="mean")
    np.testing.assert_allclose(fitted.before, -mean.values.mean(1), atol=1e-5)
    assert (fitted.after < 0.95 * fitted.before).all()
    for row, mask in enumerate(masks):  # what is said is what a run of the circuit gives
        constants = fitted.means[row].by_key[8, 0]
        found = literal_divergence(model, items, set(np.array(graph.names)[mask]), constants)
        assert found == pytest.approx(fitted.after[row], abs=1e-4)


@torch.no_grad()
def literal_divergence(model, items, kept, constants):
    """Mean divergence from the clean run with constants on cut edges, written out."""
    hf, causal = model.hf, model.attention == "causal"
    d_head, found = model.d_head, []
    for item in items:
        embed = embedding(hf, torch.tensor([item.clean]))

        def constant(name):
            if name == "input":
                return constants.embed
            layer, _, head = name[1:].partition(".h")
            if not head:
                return constants.mlps[int(layer)]
            columns = slice(int(head) * d_head, (int(head) + 1) * d_head)
            z = torch.zeros_like(constants.heads[int(layer)])
            z[..., columns] = constants.heads[int(layer)][..., columns]
            projection = model.anatomy.layer(hf, int(layer)).get_submodule(model.anatomy.o)
            return projection(z) - projection(torch.zeros_like(z))

        def read(reader, written, constant=constant):
            return torch.stack(
                [
                    value
                    if name[0] == "b" or on_grouped(model, name, reader, kept)
                    else constant(name)
                    for name, value in written.items()
                ]
            ).sum(0)

        clean, cut = (run(hf, embed, causal=causal, read=r)[0] for r in (plain_read, read))
        p, q = (x[0, list(item.reads)].log_softmax(-1) for x in (clean, cut))
        found.append(float((p.exp() * (p - q)).sum(-1).mean()))
    return np.mean(found)


def on_grouped(model, name, reader, kept):
    """Whether an edge is intact; the literal transformer reads keys and values once a group."""
    layer, _, rest = reader.partition(".h")
    head, _, part = rest.partition("<")
    if model.kv == "ungrouped" and part[:1] in ("k", "v") and model.n_kv_heads < model.n_heads:
        return f"{name}->{layer}.h{head}<{part}" in kept
    return f"{name}->{reader}" in kept


def by_hand():
    """A layer that writes nothing: the logits of tokens 5 and 6 are the normed stream's first two
    coordinates, all others 0."""
    hf = tiny_hf("llama", layers=1)
    with torch.no_grad():
        hf.model.layers[0].self_attn.o_proj.weight.zero_()
        hf.model.layers[0].mlp.down_proj.weight.zero_()
        hf.model.embed_tokens.weight.zero_()
        hf.model.embed_tokens.weight[1, [0, 2]] = torch.tensor([1.0, 2.0])
        hf.model.embed_tokens.weight[2, [1, 2]] = torch.tensor([1.0, 2.0])
        hf.model.norm.weight.fill_(1.0)
        hf.lm_head.weight.zero_()
        hf.lm_head.weight[5, 0] = 1.0
        hf.lm_head.weight[6, 1] = 1.0
    items = [
        Item(0, 0, (1,), (2,), (0,), ((5,),), ((6,),)),
        Item(1, 0, (2,), (1,), (0,), ((6,),), ((5,),)),
    ]
    return wrap_model(hf), items


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_the_optimum_of_a_model_calculated_by_hand():
    """With nothing intact the best single distribution is the mean of the clean ones, so what is
    lost is their Jensen-Shannon divergence."""
    model, items = by_hand()
    graph = Graph.for_model(model)
    none = np.zeros((1, graph.n_edges), bool)
    fitted = fit_constants(model, graph, items, none, steps=200)
    level = math.exp(math.sqrt(32 / 5))  # (1, 0, 2) normed over 32 dimensions
    one = [level / (level + 39), 1 / (level + 39), *[1 / (level + 39)] * 38]
    other = [one[1], one[0], *one[2:]]
    mean = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    best = (divergence(one, mean) + divergence(other, mean)) / 2
    assert fitted.after[0] == pytest.approx(best, abs=1e-5)
    assert fitted.before[0] > best + 0.01  # the mean embedding is another distribution
    logits = circuit_logits(model, items, none[0], ablation=Ablation.OPTIMAL)
    expected = torch.tensor([mean[-1], mean[0]]).log()  # logits but for a constant
    found = logits[:, 0].log_softmax(1)[:, [0, 5]]
    torch.testing.assert_close(found, expected.expand(2, 2), atol=2e-2, rtol=0)


def test_at_the_optimum_nothing_near_is_better():
    """The divergence of a run, by differences: its gradient vanishes at the constants."""
    model, items = by_hand()
    graph = Graph.for_model(model)
    none = np.zeros((1, graph.n_edges), bool)
    fitted = fit_constants(model, graph, items, none, steps=200)
    start = Means.of(model, items, 2)

    def moved(means, shift):
        (key, constants), *_ = means.by_key.items()
        there = dataclasses.replace(constants, embed=constants.embed + shift)
        # no step: what is measured is where it starts
        again = fit_constants(model, graph, items, none, start=Means({key: there}), steps=0)
        return float(again.before[0])

    draw = torch.Generator().manual_seed(0)
    slopes = {"fitted": [], "mean": []}
    for _ in range(8):
        shift = 1e-2 * torch.nn.functional.normalize(torch.randn(32, generator=draw), dim=0)
        for name, means in (("fitted", fitted.means[0]), ("mean", start)):
            slopes[name].append((moved(means, shift) - moved(means, -shift)) / 2e-2)
    assert np.abs(slopes["fitted"]).max() < 2e-3
    assert np.abs(slopes["mean"]).max() > 1e-2


def test_each_circuit_has_its_own_constants_whatever_runs_beside_it():
    model = wrap_model(tiny_hf(layers=1), attention="full")
    graph = Graph.for_model(model)
    items = [*tiny_items(2), *tiny_items(1, length=9, seed=4)]
    reference = [*tiny_items(2, seed=7), *tiny_items(2, length=9, seed=8)]
    masks = random_masks(graph, 2)
    masks[1] = True
    options = {"ablation": "optimal", "reference": reference}
    found = run_circuits(model, items, masks, **options)
    alone = run_circuits(model, items, masks[:1], **options)
    np.testing.assert_allclose(alone.values[0], found.values[0], atol=1e-3)
    np.testing.assert_allclose(found.values[1], found.clean, atol=1e-4)  # nothing is cut
    mean = run_circuits(model, items, masks, ablation="mean", reference=reference)
    assert np.abs(found.values[0] - mean.values[0]).max() > 1e-2
    np.testing.assert_allclose(found.clean, mean.clean, atol=1e-6)
    np.testing.assert_allclose(found.corrupted, mean.corrupted, atol=1e-6)


def test_bfloat16():
    model = wrap_model(tiny_hf().to(torch.bfloat16))
    graph, items = Graph.for_model(model), tiny_items(3)
    fitted = fit_constants(model, graph, items, random_masks(graph, 1), steps=20)
    assert fitted.after[0] < 0.9 * fitted.before[0]
    assert fitted.means[0].by_key[8, 0].embed.dtype == torch.float32


def test_what_is_refused():
    model = wrap_model(tiny_hf())
    mask = np.ones(Graph.for_model(model).n_edges, bool)
    later = dataclasses.replace(tiny_items(1)[0], step=1)
    with pytest.raises(CircuitError, match="no reference item of 8 tokens at step 1"):
        run_circuits(model, [later], mask[None], ablation="optimal", reference=tiny_items(1))
    with pytest.raises(CircuitError, match="Optimal ablation goes by position"):
        circuit_logits(model, tiny_items(1), mask, ablation="optimal", padding="left")
