"""Probes on activations whose contents are known, and runs with directions taken out."""

import numpy as np
import pytest
import torch

from mechshift_lib.errors import MechshiftError
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.semantics.activations import predictions_without, stream_at
from mechshift_lib.semantics.probes import (
    RIDGES,
    control_labels,
    directions,
    fit_probes,
    shuffled_labels,
    split_examples,
    word_features,
)
from tests.support.tiny import VOCABULARY, tiny_hf


def planted(n=400, d=24, classes=4, noise=0.3, seed=0):
    """Activations that hold a label along ``classes`` directions, and noise elsewhere."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    code = np.linalg.qr(rng.standard_normal((d, classes)))[0].T
    return 2 * code[labels] + noise * rng.standard_normal((n, d)) + 5, labels, code


def test_a_planted_label_is_found_and_a_shuffled_one_is_at_chance():
    x, y, _ = planted()
    split = split_examples(len(x), 1)
    real, shuffled = fit_probes(x, [y, shuffled_labels(y, 3)], split)
    assert real.accuracy > 0.97
    chance, error = 1 / 4, np.sqrt(0.25 * 0.75 / len(split.test))
    assert abs(shuffled.accuracy - chance) < 3 * error
    assert real.validation > 0.95


def test_the_three_parts_are_disjoint_and_the_same_every_time():
    split = split_examples(50, 2)
    parts = np.concatenate([split.train, split.validation, split.test])
    assert sorted(parts.tolist()) == list(range(50))
    np.testing.assert_array_equal(split.test, split_examples(50, 2).test)
    assert len(split.test) == 15


def test_weights_are_those_of_the_normal_equations():
    x, y, _ = planted(n=100, d=5)
    split = split_examples(len(x), 0)
    (probe,) = fit_probes(x, [y], split)
    own = x[split.fitted]
    scaled = (own - own.mean(0)) / own.std(0)
    targets = (y[split.fitted, None] == np.arange(4)).astype(float)
    gram = scaled.T @ scaled
    assert probe.ridge in RIDGES
    penalty = probe.ridge * np.linalg.eigvalsh(gram).mean() * np.eye(5)
    inner = np.linalg.solve(gram + penalty, scaled.T @ (targets - targets.mean(0)))
    np.testing.assert_allclose(probe.weights, (inner / own.std(0)[:, None]).T, atol=1e-10)
    expected = np.arange(4)[((x[split.test] - own.mean(0)) @ probe.weights.T
                             + targets.mean(0)).argmax(1)]  # fmt: skip
    np.testing.assert_array_equal(probe.correct, expected == y[split.test])
    np.testing.assert_array_equal(probe.guess(x[split.test]), expected)


def test_a_control_task_is_a_function_of_the_word_and_only_a_memory_solves_it():
    rng = np.random.default_rng(0)
    words, labels = rng.integers(0, 6, 300), rng.integers(0, 3, 300)
    control = control_labels(words, labels, 5)
    for word in range(6):
        assert len(np.unique(control[words == word])) == 1
    assert len(np.unique(control)) > 1
    assert set(control) <= set(labels)
    split = split_examples(300, 0)
    memory, blind = np.eye(6)[words], rng.standard_normal((300, 6))
    assert fit_probes(memory, [control], split)[0].accuracy == 1
    assert fit_probes(blind, [control], split)[0].accuracy < 0.75


def test_taking_out_a_labels_directions_leaves_nothing_for_a_probe():
    x, y, code = planted(noise=0.05)
    split = split_examples(len(x), 1)
    own = split.fitted
    basis = directions(x[own], y[own])
    assert len(basis) == 3  # four classes differ along three directions
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose((code[1:] - code[0]) @ basis.T @ basis, code[1:] - code[0], atol=0.1)
    left = x - (x - x[own].mean(0)) @ basis.T @ basis
    means = [left[own][y[own] == kind].mean(0) for kind in range(4)]
    np.testing.assert_allclose(means, np.tile(means[0], (4, 1)), atol=1e-10)
    assert fit_probes(x, [y], split)[0].accuracy == 1
    assert fit_probes(left, [y], split)[0].accuracy < 0.45
    other = directions(x[own], shuffled_labels(y[own], 0))
    assert len(other) == 3


def test_the_input_as_features_is_one_column_a_token_that_varies():
    ids = np.array([[1, 2, 7], [1, 3, 7], [1, 2, 8]])
    np.testing.assert_array_equal(word_features(ids), [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]])
    assert word_features(ids[:, :1]).shape == (3, 1)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: split_examples(2, 0), "at least 7 examples"),
        (
            lambda: fit_probes(np.ones((9, 2)), [np.zeros(9, int)], split_examples(9, 0)),
            "at least two classes",
        ),
        (
            lambda: fit_probes(np.ones((9, 2)), [np.zeros(8, int)], split_examples(9, 0)),
            "9 activations have 8 labels",
        ),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(MechshiftError, match=sentence):
        call()


@pytest.fixture(scope="module")
def model():
    return wrap_model(tiny_hf("qwen2", seed=3))


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    return [tuple(rng.integers(0, VOCABULARY, n).tolist()) for n in (6, 8, 6, 8, 8)]


def test_the_stream_is_the_models_own_hidden_states(model, inputs):
    positions = [(len(ids) - 1, 2) for ids in inputs]
    found = stream_at(model, inputs, positions, batch_size=2)
    assert found.shape == (3, 5, 2, 32)
    for row, (ids, places) in enumerate(zip(inputs, positions, strict=True)):
        with torch.no_grad():
            out = model.hf(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
        for layer in range(model.n_layers):  # the last one is normed already
            expected = out.hidden_states[layer][0, list(places)].numpy()
            np.testing.assert_allclose(found[layer, row], expected, atol=1e-5)


def test_taking_directions_out_is_a_hook_at_the_layers_input(model, inputs):
    positions = [len(ids) - 2 for ids in inputs]
    basis, centre = np.eye(32)[:20], np.full(32, 0.1)
    found = predictions_without(model, inputs, positions, [(1, basis)], [centre], batch_size=3)
    assert found.shape == (2, 5)
    for row, (ids, place) in enumerate(zip(inputs, positions, strict=True)):
        assert found[0, row] == int(model.logits(torch.tensor([ids]))[0, place].argmax())

        def change(module, args, kwargs, place=place):
            stream = args[0].clone()
            off = stream[0, place].double().numpy() - centre
            stream[0, place] -= torch.tensor(off @ basis.T @ basis).float()
            return (stream, *args[1:]), kwargs

        layer = model.hf.model.layers[1]
        hook = layer.register_forward_pre_hook(change, with_kwargs=True)
        changed = int(model.logits(torch.tensor([ids]))[0, place].argmax())
        hook.remove()
        assert found[1, row] == changed
    assert (found[0] != found[1]).any()


def test_unknown_layers_and_widths_are_refused_in_one_sentence(model, inputs):
    basis = np.eye(32)[:1]
    with pytest.raises(MechshiftError, match="There is no layer 9"):
        predictions_without(model, inputs, [0] * 5, [(9, basis)], [np.zeros(32)], 2)
    with pytest.raises(MechshiftError, match="width 3 don't fit a model of width 32"):
        predictions_without(model, inputs, [0] * 5, [(1, basis[:, :3])], [np.zeros(32)], 2)
