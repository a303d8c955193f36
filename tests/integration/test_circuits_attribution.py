"""The fast engine against a slow literal one, finite differences, and exact patching."""

import numpy as np
import pytest
import torch

from mechshift_lib.choices import GRADIENT_METHODS
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.tracing.layers import run_layers
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import (
    circuit_logits,
    embedding,
    exact_scores,
    literal_scores,
    patched_logits,
    run,
)
from tests.support.tiny import ARCHITECTURES, tiny_hf, tiny_items

ATTENTIONS = ("causal", "full")


def logit_diff(item):
    """The item's metric on logits ``[1, pos, vocab]``, written out."""

    def metric(logits):
        reads = zip(item.reads, item.answers, item.distractors, strict=True)
        return sum(logits[0, p, a[0]] - logits[0, p, d[0]] for p, a, d in reads) / len(item.reads)

    return metric


def prob_diff(item):
    """Probability mass of all answers minus all distractors."""

    def metric(logits):
        probabilities = logits[0].softmax(-1)
        reads = zip(item.reads, item.answers, item.distractors, strict=True)
        return sum(
            probabilities[p, list(a)].sum() - probabilities[p, list(d)].sum() for p, a, d in reads
        ) / len(item.reads)

    return metric


def ids(item):
    return torch.tensor([item.clean]), torch.tensor([item.corrupted])


def as_array(graph, scores):
    assert set(scores) == set(graph.names)
    return np.array([scores[name] for name in graph.names])


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_residual_stream_is_the_sum_of_node_outputs(architecture, attention):
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention)
    tokens = torch.tensor([item.clean for item in tiny_items(3)])
    traced = run_layers(model, tokens)
    expected, written = run(hf, embedding(hf, tokens), causal=attention == "causal")
    logits = model.logits(tokens)
    torch.testing.assert_close(expected, logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(hf.lm_head(traced.final), logits)
    # layer by layer against what Hugging Face itself reports as its hidden states
    config = {"input_ids": tokens, "output_hidden_states": True, "use_cache": False}
    hidden = hf(**config).hidden_states
    stream = traced.embed.clone()
    torch.testing.assert_close(stream, hidden[0])
    for layer in range(hf.config.num_hidden_layers - 1):
        heads = [written[f"a{layer}.h{head}"] for head in range(4)]
        bias = written.get(f"b{layer}", torch.zeros(()))
        stream = stream + torch.stack(heads).sum(0) + bias + traced.mlps[layer]
        torch.testing.assert_close(stream, hidden[layer + 1], atol=1e-5, rtol=1e-4)
    assert (hidden[1] - hidden[0]).abs().max() > 0.1  # the layers do write something


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["eap", "eap-ig"])
def test_equals_the_literal_implementation(architecture, attention, method):
    hf = tiny_hf(architecture)
    items = tiny_items(2, reads=2)
    model = wrap_model(hf, attention=attention)  # ungrouped in place: the literal one sees this
    result = attribute(model, items, method=method, steps=3)
    shares = [1.0] if method == "eap" else [0.0, 1 / 3, 2 / 3]
    for row, item in enumerate(items):
        expected = literal_scores(
            hf, *ids(item), logit_diff(item), causal=attention == "causal", shares=shares
        )
        expected = as_array(result.graph, expected)
        np.testing.assert_allclose(result.by_example[row], expected, atol=1e-5, rtol=1e-4)
        assert np.abs(expected).max() > 1e-2


def test_points_right_and_probability_difference_equal_the_literal_implementation():
    hf = tiny_hf()
    model = wrap_model(hf)
    (item,) = tiny_items(1)
    item = type(item)(**{**vars(item), "answers": ((3, 5, 8),), "distractors": ((4, 9),)})
    result = attribute(model, [item], metric="prob-diff", steps=4, points="right")
    expected = literal_scores(
        hf, *ids(item), prob_diff(item), causal=True, shares=[0.25, 0.5, 0.75, 1.0]
    )
    expected = as_array(result.graph, expected)
    np.testing.assert_allclose(result.scores, expected, atol=1e-6, rtol=1e-4)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_grouped_equals_literal_and_is_the_sum_over_the_group(architecture, attention):
    items = tiny_items(3)
    grouped_hf = tiny_hf(architecture)
    grouped = attribute(wrap_model(grouped_hf, attention=attention, kv="grouped"), items, steps=3)
    expected = literal_scores(
        grouped_hf,
        *ids(items[0]),
        logit_diff(items[0]),
        causal=attention == "causal",
        shares=[0.0, 1 / 3, 2 / 3],
    )
    expected = as_array(grouped.graph, expected)
    np.testing.assert_allclose(grouped.by_example[0], expected, atol=1e-5, rtol=1e-4)

    single = attribute(wrap_model(tiny_hf(architecture), attention=attention), items, steps=3)
    summed = dict.fromkeys(grouped.graph.names, 0.0)
    for name, score in zip(single.graph.names, single.scores, strict=True):
        source, _, reader = name.partition("->")
        if reader.endswith(("<k>", "<v>")):
            node, _, part = reader.partition("<")
            layer, _, head = node.partition(".h")
            reader = f"{layer}.h{int(head) // 2}<{part}"
        summed[f"{source}->{reader}"] += float(score)
    summed = as_array(grouped.graph, summed)
    np.testing.assert_allclose(grouped.scores, summed, atol=1e-5, rtol=1e-4)


def linear_gpt2():
    """GPT-2 that is a linear map: no q and k, linear MLP, norms that only centre."""
    hf = tiny_hf("gpt2").double()
    hf.config.activation_function = "linear"
    with torch.no_grad():
        for layer in hf.transformer.h:
            layer.mlp.act = torch.nn.Identity()
            layer.attn.c_attn.weight[:, :64] = 0
            layer.attn.c_attn.bias[:64] = 0
        for norm in hf.modules():
            if isinstance(norm, torch.nn.LayerNorm):
                norm.eps = 1e12
                norm.weight.mul_(3e6)
    return hf


class Ones(torch.nn.Module):
    """A gate that is always open."""

    def forward(self, x):
        return torch.ones_like(x)


def linear_qwen2():
    """Qwen2 that is a linear map: no q and k, open gates, norms that are the identity.

    Grouped k and v heads; the norms divide by the square root of an epsilon far above the mean
    square, and multiply by it.
    """
    hf = tiny_hf().double()
    for layer in hf.model.layers:
        layer.mlp.act_fn = Ones()
        for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            part.weight.data.zero_()
            part.bias.data.zero_()
    for module in hf.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 1e12
            module.weight.data.fill_(1e6)
    hf.model.embed_tokens.weight.data.mul_(10)  # nothing scales the stream up
    stream = torch.randn(1, 3, 32, dtype=torch.float64)
    torch.testing.assert_close(hf.model.norm(stream), stream)
    return hf


@pytest.mark.parametrize(
    ("build", "kv", "attention"),
    [
        (linear_gpt2, "ungrouped", "causal"),
        (linear_gpt2, "ungrouped", "full"),
        (linear_qwen2, "ungrouped", "causal"),
        (linear_qwen2, "grouped", "full"),
    ],
)
@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_equals_exact_patching_on_a_linear_model(method, attention, build, kv):
    """At every point the gradient is the same, and the change that it predicts is the change.

    But for activations: while a sublayer is set, the paths through it are cut, so the mean of the
    gradients is smaller; only readers that see no later sublayer agree.
    """
    hf = build()
    model = wrap_model(hf, attention=attention, kv=kv)
    (item,) = tiny_items(1)
    result = attribute(model, [item], method=method, steps=2)
    exact = exact_scores(
        hf,
        *ids(item),
        logit_diff(item),
        result.graph.names,
        causal=attention == "causal",
    )
    exact = as_array(result.graph, exact)
    assert np.abs(exact).max() > 0.1
    same = np.ones(len(exact), dtype=bool)
    if method == "eap-ig-activations":
        same = result.graph.split == "logits"
        assert np.abs(result.scores - exact)[~same].max() > 0.01
    np.testing.assert_allclose(result.scores[same], exact[same], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gradients_equal_finite_differences(attention):
    hf = tiny_hf("gpt2").double()
    causal = attention == "causal"
    model = wrap_model(hf, attention=attention)
    (item,) = tiny_items(1)
    shares, step = [0.0, 0.5], 1e-5
    result = attribute(model, [item], steps=2)
    metric = logit_diff(item)
    clean, corrupted = (embedding(hf, x) for x in ids(item))
    with torch.no_grad():
        written, other = (run(hf, x, causal=causal)[1] for x in (clean, corrupted))
        names = result.graph.names
        for edge in names[:: len(names) // 40]:
            source, _, reader = edge.partition("->")
            change = written[source] - other[source]
            slope = 0.0
            for share in shares:
                embed = torch.lerp(corrupted, clean, share)
                up, down = (
                    metric(
                        patched_logits(
                            hf, embed, {reader: {source: sign * step * change}}, causal=causal
                        )
                    )
                    for sign in (1, -1)
                )
                slope += float(up - down) / (2 * step) / len(shares)
            assert result.scores[result.graph.index(edge)] == pytest.approx(
                slope, abs=1e-6, rel=1e-5
            )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_integrated_gradients_are_complete(attention):
    """Input edges together are the embedding's gradient: they add up to the metric's change."""
    model = wrap_model(tiny_hf(), attention=attention)
    items = tiny_items(4)
    errors = []
    for steps in (4, 64):
        result = attribute(model, items, steps=steps, points="right")
        total = result.by_example[:, result.graph.source_index == 0].sum(1)
        errors.append(np.abs(total - (result.metric_clean - result.metric_corrupted)).max())
    assert errors[1] < 0.05
    assert errors[1] < errors[0] / 4  # first order in 1/m


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_agrees_with_exact_patching_on_a_random_model(attention):
    """Integrated gradients find the strong edges of a random GQA model (0.85 in the literature)."""
    hf = tiny_hf()
    model = wrap_model(hf, attention=attention)
    items = tiny_items(4, seed=1)
    result = attribute(model, items, steps=5)
    exact = np.mean(
        [
            as_array(
                result.graph,
                exact_scores(
                    hf,
                    *ids(item),
                    logit_diff(item),
                    result.graph.names,
                    causal=attention == "causal",
                ),
            )
            for item in items
        ],
        axis=0,
    )
    assert np.corrcoef(result.scores, exact)[0, 1] > 0.7
    strongest = np.argsort(-np.abs(exact))[:10]
    assert (np.sign(exact[strongest]) == np.sign(result.scores[strongest])).mean() >= 0.8


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_edges_are_the_clean_run_and_no_edge_the_corrupted(architecture):
    """The graph covers the model: nothing reaches the logits but through its edges."""
    hf = tiny_hf(architecture)
    model = wrap_model(hf)
    names = set(attribute(model, tiny_items(1), method="eap").graph.names)
    clean, corrupted = ids(tiny_items(1)[0])
    whole = circuit_logits(hf, clean, corrupted, names, causal=True)
    torch.testing.assert_close(whole, model.logits(clean), atol=1e-5, rtol=1e-4)
    none = circuit_logits(hf, clean, corrupted, set(), causal=True)
    torch.testing.assert_close(none, model.logits(corrupted), atol=1e-5, rtol=1e-4)
    half = circuit_logits(hf, clean, corrupted, set(sorted(names)[::2]), causal=True)
    assert (half - whole).abs().max() > 1e-2
    assert (half - none).abs().max() > 1e-2
