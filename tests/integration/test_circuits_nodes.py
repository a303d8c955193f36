"""Nodes and neurons against plain autograd, sums of edges, and exact patching."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.choices import GRADIENT_METHODS
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.neurons import attribute_neurons
from mechshift_lib.circuits.attribution.nodes import attribute_nodes
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.anatomy import at
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import embedding, run
from tests.support.points import literal_method, literal_points
from tests.support.tiny import tiny_hf, tiny_items

STEPS = 3
CASES = [
    ("qwen2", "causal"),
    ("llama", "full"),
    ("gpt2", "causal"),
    ("pythia", "full"),
    ("llada", "full"),
]


def ids(item):
    return torch.tensor([item.clean]), torch.tensor([item.corrupted])


def logit_diff(item):
    def metric(logits):
        reads = zip(item.reads, item.answers, item.distractors, strict=True)
        return sum(logits[0, p, a[0]] - logits[0, p, d[0]] for p, a, d in reads) / len(item.reads)

    return metric


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_nodes_equal_plain_autograd(architecture, attention, method):
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention)
    (item,) = tiny_items(1, reads=2)
    result = attribute_nodes(model, [item], method=method, steps=STEPS, by_position=True)
    causal = attention == "causal"
    points = literal_points(hf, *ids(item), method, STEPS, causal=causal)
    nodes = literal_method(hf, *ids(item), logit_diff(item), points, causal=causal)[1]
    assert set(nodes) == set(result.names)
    expected = torch.stack([nodes[name] for name in result.names], 1).detach().numpy()
    largest = np.abs(expected).max()
    assert largest > 1e-2
    np.testing.assert_allclose(result.by_position, expected, atol=1e-5 * largest, rtol=1e-4)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("kv", ["ungrouped", "grouped"])
def test_a_node_is_the_sum_of_the_edges_that_leave_it(method, kv):
    """Not only at one point: differences are the same at all points, so sums stay sums."""
    model = wrap_model(tiny_hf(layers=3), kv=kv)
    items = [*tiny_items(3), dataclasses.replace(tiny_items(1)[0], step=2, reads=(5,))]
    edges = attribute(model, items, method=method, steps=4)
    nodes = attribute_nodes(model, items, method=method, steps=4)
    for found, parts in (
        (nodes.by_example, edges.by_example),
        (nodes.by_step, edges.by_step),
    ):
        summed = np.zeros_like(found)
        np.add.at(summed, (slice(None), edges.graph.source_index), parts)
        np.testing.assert_allclose(found, summed, atol=1e-5)
    np.testing.assert_array_equal(nodes.metric_clean, edges.metric_clean)
    np.testing.assert_array_equal(nodes.metric_corrupted, edges.metric_corrupted)


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_input_is_complete_as_points_grow(attention):
    """The score of ``input`` approaches M(clean) − M(corrupted): integrated gradients."""
    model = wrap_model(tiny_hf(), attention=attention)
    items = tiny_items(4)
    errors = []
    for steps in (4, 16, 64):
        result = attribute_nodes(model, items, steps=steps, points="right")
        change = result.metric_clean - result.metric_corrupted
        errors.append(np.abs(result.by_example[:, 0] - change).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_nodes_do_not_depend_on_batches_or_order():
    model = wrap_model(tiny_hf(), attention="full")
    items = tiny_items(5) + [
        dataclasses.replace(item, example=item.example + 5) for item in tiny_items(2, length=10)
    ]
    for method in ("eap-ig", "eap-ig-activations"):
        expected = attribute_nodes(model, items, method=method, steps=2, batch_size=1)
        for given, size in ((items, 3), (items[::-1], 100)):
            again = attribute_nodes(model, given, method=method, steps=2, batch_size=size)
            np.testing.assert_allclose(again.by_example, expected.by_example, atol=2e-6)
        neurons = attribute_neurons(model, items, method=method, steps=2, batch_size=1)
        again = attribute_neurons(model, items[::-1], method=method, steps=2, batch_size=3)
        np.testing.assert_allclose(again, neurons, atol=2e-6)


@pytest.mark.parametrize("method", ["eap", "eap-ig", "clean-corrupted"])
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_neurons_sum_to_their_mlp(architecture, attention, method):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    items = tiny_items(3, reads=2)
    items.append(dataclasses.replace(items[0], step=1, reads=(3, 4)))
    neurons = attribute_neurons(model, items, method=method, steps=STEPS)
    nodes = attribute_nodes(model, items, method=method, steps=STEPS)
    assert neurons.dtype == np.float32
    assert neurons.shape == (2, model.d_mlp)
    mlps = [nodes.names.index(name) for name in ("m0", "m1")]
    np.testing.assert_allclose(neurons.sum(1), nodes.scores[mlps], atol=1e-5)
    assert np.abs(neurons).max(1).min() > 1e-4
    if method == "eap-ig":
        assert np.abs(nodes.scores[mlps]).max() > 1e-2


@pytest.mark.parametrize("method", GRADIENT_METHODS)
@pytest.mark.parametrize("architecture", ["qwen2", "gpt2"])
def test_neurons_equal_plain_autograd(architecture, method):
    """Hidden activations caught by hooks in runs of the literal transformer."""
    hf = tiny_hf(architecture)
    model = wrap_model(hf)
    (item,) = tiny_items(1)
    found = attribute_neurons(model, [item], method=method, steps=STEPS)
    caught = {}
    handles = [
        at(model.anatomy.layer(hf, layer), model.anatomy.mlp_out).register_forward_pre_hook(
            lambda _, args, layer=layer: caught.__setitem__(layer, args[0])
        )
        for layer in range(2)
    ]
    changes = []
    for tokens in ids(item):
        run(hf, embedding(hf, tokens), causal=True)
        changes.append([caught[layer].detach() for layer in range(2)])
    points = literal_points(hf, *ids(item), method, STEPS, causal=True)
    expected = np.zeros_like(found)
    for embed, given in points:
        given = {n: x.detach().requires_grad_(True) for n, x in given.items()}

        def read(reader, written, given=given):
            return torch.stack([given.get(n, x) for n, x in written.items()]).sum(0)

        logits, _ = run(hf, embed.detach().requires_grad_(True), causal=True, read=read)
        gradients = torch.autograd.grad(
            logit_diff(item)(logits), [caught[0], caught[1]], allow_unused=True
        )
        for layer, gradient in enumerate(gradients):
            if gradient is not None:
                product = (changes[0][layer] - changes[1][layer]) * gradient
                expected[layer] += product.sum((0, 1)).numpy() / len(points)
    for handle in handles:
        handle.remove()
    largest = np.abs(expected).max()
    assert largest > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5 * largest, rtol=1e-4)


def test_frame_names_nodes_and_layers():
    result = attribute_nodes(wrap_model(tiny_hf()), tiny_items(2), steps=1)
    frame = result.frame().set_index("node")
    assert list(frame.index) == result.graph.sources
    assert frame.loc[["input", "a0.h3", "m1"], "layer"].tolist() == [-1, 0, 1]
    np.testing.assert_allclose(frame.score, result.by_example.mean(0), atol=1e-6)


@pytest.mark.parametrize("function", [attribute_nodes, attribute_neurons])
def test_bad_options_are_refused(function):
    model = wrap_model(tiny_hf())
    for options, message in (
        ({"method": "magic"}, "can't be attributed by 'magic'"),
        ({"metric": "loss"}, "Unknown metric"),
        ({"metric": "kl", "method": "eap"}, "no gradient at the clean run"),
        ({"batch_size": 0}, "batch size"),
        ({"steps": 0}, "at least one step"),
    ):
        with pytest.raises(CircuitError, match=message):
            function(model, tiny_items(1), **options)
    with pytest.raises(CircuitError, match="nothing to attribute"):
        function(model, [])


def test_neurons_are_not_resolved_by_position():
    with pytest.raises(CircuitError, match="by_position"):
        attribute_neurons(wrap_model(tiny_hf()), tiny_items(1), by_position=True)


@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_coordinates_of_the_stream_equal_plain_autograd(architecture, attention):
    """Differences times the mean of gradients at the ends of layers, taken by hooks."""
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention)
    [item] = tiny_items(1, reads=2)
    found = attribute_neurons(model, [item], site="stream", method="clean-corrupted")

    def ends_of(tokens):
        streams = {}
        for i in range(model.n_layers):
            layer = model.anatomy.layer(hf, i)

            def keep(_module, _inputs, output, i=i):
                streams[i] = output[0] if isinstance(output, tuple) else output

            hooks.append(layer.register_forward_hook(keep))
        start = at(hf, model.anatomy.embed).register_forward_hook(
            lambda _m, _i, output: output.requires_grad_(True)
        )
        hooks.append(start)
        logits = hf(**model.arguments(tokens)).logits
        gradients = torch.autograd.grad(logit_diff(item)(logits), list(streams.values()))
        for hook in hooks:
            hook.remove()
        return [x.detach() for x in streams.values()], gradients

    hooks = []
    clean, corrupted = (ends_of(tokens) for tokens in ids(item))
    for layer in range(model.n_layers):
        mean = (clean[1][layer] + corrupted[1][layer]) / 2
        expected = ((clean[0][layer] - corrupted[0][layer]) * mean).sum((0, 1))
        np.testing.assert_allclose(found[layer], expected, rtol=1e-4, atol=1e-6)


def test_unknown_neurons_are_refused():
    with pytest.raises(CircuitError, match="choose one of mlp, stream"):
        attribute_neurons(wrap_model(tiny_hf()), tiny_items(1), site="heads")
