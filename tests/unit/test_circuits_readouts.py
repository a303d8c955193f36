"""Every method, evaluation and patching for every readout: from examples to literal runs.

An ARM is asked teacher-forced, an MDM at one denoising step or along all of them, whose reads are
averaged. What is expected is written out from the example itself: the canvas, the positions that
are read and their weights.
"""

import numpy as np
import pytest
import torch

from mechshift_lib.choices import DIRECTIONS, GRADIENT_METHODS, METHODS, THROUGH, Ablation
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.neurons import attribute_neurons
from mechshift_lib.circuits.attribution.nodes import attribute_nodes
from mechshift_lib.circuits.evaluation.runs import run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.activations import patch_nodes
from mechshift_lib.circuits.patching.paths import patch_paths
from mechshift_lib.circuits.questions.metrics import METRICS
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import make_readout
from mechshift_lib.tasks.base import Example
from tests.support.literal import circuit_logits, embedding, exact_scores, run
from tests.support.points import literal_method, literal_points
from tests.support.tiny import tiny_hf

M, STEPS = 39, 2

#: Prompts of 4 tokens. The first answer has 3 tokens, of which the middle one isn't scored, the
#: second has 2; a right answer may be one of several.
EXAMPLES = (
    Example(
        "by-hand",
        clean=(10, 11, 12, 13),
        corrupted=(10, 21, 12, 13),
        answer=(1, 2, 3),
        distractor=(4, 2, 6),
        answers=((1,), (2,), (3,)),
        distractors=((4,), (2,), (6,)),
    ),
    Example(
        "by-hand",
        clean=(14, 15, 16, 17),
        corrupted=(14, 25, 16, 17),
        answer=(7, 8),
        distractor=(9, 5),
        answers=((7,), (8,)),
        distractors=((9,), (5,)),
    ),
)
MODELS = {"next-token": "qwen2", "shifted-mask": "dream", "mask": "llada"}
#: Readouts, and of which steps: all, or the first alone.
READOUTS = [
    ("next-token", "all"),
    *((name, s) for name in ("shifted-mask", "mask") for s in ("all", "one")),
]


def canvases(name, steps):
    """For each example its questions by hand: clean and corrupted ids, reads, wanted, unwanted."""
    if name == "next-token":
        return [
            [((10, 11, 12, 13, 1, 2), (10, 21, 12, 13, 1, 2), (3, 5), (1, 3), (4, 6))],
            [((14, 15, 16, 17, 7), (14, 25, 16, 17, 7), (3, 4), (7, 8), (9, 5))],
        ]
    back = 1 if name == "shifted-mask" else 0
    found = [
        [
            ((10, 11, 12, 13, M, M, M), (10, 21, 12, 13, M, M, M), (4 - back,), (1,), (4,)),
            ((10, 11, 12, 13, 1, 2, M), (10, 21, 12, 13, 1, 2, M), (6 - back,), (3,), (6,)),
        ],
        [
            ((14, 15, 16, 17, M, M), (14, 25, 16, 17, M, M), (4 - back,), (7,), (9,)),
            ((14, 15, 16, 17, 7, M), (14, 25, 16, 17, 7, M), (5 - back,), (8,), (5,)),
        ],
    ]
    return found if steps == "all" else [own[:1] for own in found]


class Asked:
    """A model with what it is asked, and the same written out."""

    def __init__(self, name, steps):
        """Build the model, the items of the readout and the questions by hand."""
        self.hf = tiny_hf(MODELS[name])
        self.causal = name == "next-token"
        readout = make_readout(name, None if self.causal else M)
        self.model = wrap_model(self.hf, attention=readout.attention, readout=readout)
        self.items = [
            item
            for index, example in enumerate(EXAMPLES)
            for item in readout.items(example, index)
            if steps == "all" or item.step == 0
        ]
        self.questions = canvases(name, steps)
        self.graph = Graph.for_model(self.model)

    def mean(self, of_question):
        """Mean of a function of a question over each example's questions, ``[n_example]``.

        All questions of an example have equally many reads.
        """
        return np.array([np.mean([of_question(x) for x in own], 0) for own in self.questions])

    def literal(self, ids):
        """Logits ``[1, pos, vocab]``."""
        return run(self.hf, embedding(self.hf, torch.tensor([ids])), causal=self.causal)[0]


def logit_diff(question):
    _, _, reads, right, wrong = question

    def metric(logits):
        each = zip(reads, right, wrong, strict=True)
        return sum(logits[0, p, a] - logits[0, p, d] for p, a, d in each) / len(reads)

    return metric


def ids(question):
    return torch.tensor([question[0]]), torch.tensor([question[1]])


@pytest.fixture(scope="module", params=READOUTS, ids="-".join)
def asked(request):
    return Asked(*request.param)


def test_clean_and_corrupted_runs_read_what_is_written_out(asked):
    found = run_circuits(asked.model, asked.items, np.ones((1, asked.graph.n_edges), bool))
    with torch.no_grad():
        clean = asked.mean(lambda x: float(logit_diff(x)(asked.literal(x[0]))))
        corrupted = asked.mean(lambda x: float(logit_diff(x)(asked.literal(x[1]))))
    np.testing.assert_allclose(found.clean, clean, atol=1e-5)
    np.testing.assert_allclose(found.corrupted, corrupted, atol=1e-5)
    assert np.abs(clean - corrupted).min() > 1e-2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_attribution(asked, method):
    names = asked.graph.names
    if method == "exact":
        names = names[:: len(names) // 12]

    def scores(question):
        metric = logit_diff(question)
        if method == "exact":
            named = exact_scores(asked.hf, *ids(question), metric, names, causal=asked.causal)
            return [named[name] for name in names]
        points = literal_points(asked.hf, *ids(question), method, STEPS, causal=asked.causal)
        edges = literal_method(asked.hf, *ids(question), metric, points, causal=asked.causal)[0]
        return [float(edges[name].sum()) for name in names]

    found = attribute(asked.model, asked.items, method=method, steps=STEPS)
    chosen = [asked.graph.index(name) for name in names]
    expected = asked.mean(scores)
    np.testing.assert_allclose(found.by_example[:, chosen], expected, atol=2e-5, rtol=1e-4)
    assert np.abs(expected).max() > 1e-3
    if method in GRADIENT_METHODS:  # nodes are the sums of the edges that leave them
        nodes = attribute_nodes(asked.model, asked.items, method=method, steps=STEPS)
        source = asked.graph.source_index
        sums = np.stack([np.bincount(source, weights=row) for row in found.by_example])
        np.testing.assert_allclose(nodes.by_example, sums, atol=2e-5, rtol=1e-4)
        if method != "eap-ig-activations":  # where an MLP's output is set, its neurons do nothing
            neurons = attribute_neurons(asked.model, asked.items, method=method, steps=STEPS)
            mlps = [asked.graph.sources.index(f"m{layer}") for layer in range(len(neurons))]
            expected = sums[:, mlps].mean(0)
            np.testing.assert_allclose(neurons.sum(1), expected, atol=2e-5, rtol=1e-4)


def test_evaluation_of_circuits(asked):
    masks = np.random.default_rng(0).random((2, asked.graph.n_edges)) < 0.7

    def values(question):
        found = []
        for mask in masks:
            kept = {name for name, on in zip(asked.graph.names, mask, strict=True) if on}
            logits = circuit_logits(asked.hf, *ids(question), kept, causal=asked.causal)
            found.append(float(logit_diff(question)(logits)))
        return found

    found = run_circuits(asked.model, asked.items, masks)
    np.testing.assert_allclose(found.values.T, asked.mean(values), atol=2e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_and_ablation(asked, metric):
    """All edges intact is the clean run whatever is ablated; no edge isn't."""
    masks = np.stack([np.full(asked.graph.n_edges, on) for on in (True, False)])
    for ablation in (Ablation.RESAMPLE, Ablation.ZERO, Ablation.MEAN):
        found = run_circuits(asked.model, asked.items, masks, metric=metric, ablation=ablation)
        np.testing.assert_allclose(found.values[0], found.clean, atol=1e-5)
        if ablation is not Ablation.MEAN:  # the mean over a single item is the item
            assert np.abs(found.values[1] - found.clean).max() > 1e-3


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_patching_of_activations(asked, direction):
    """The whole input at once is the other run; one position is what a mixed input gives."""
    whole = patch_nodes(
        asked.model, asked.items, sites=("resid",), direction=direction, by_position=False
    )
    np.testing.assert_allclose(whole.patched["resid"][:, 0, 0], whole.other, atol=1e-5)
    np.testing.assert_allclose(whole.normalised("resid")[0], [1], atol=1e-4)
    found = patch_nodes(asked.model, asked.items, sites=("resid",), direction=direction)
    row = 0
    for own in asked.questions:
        for question in own:
            base, source = question[:2] if direction == "noise" else question[1::-1]
            for position in range(len(base)):
                mixed = [*base[:position], source[position], *base[position + 1 :]]
                with torch.no_grad():
                    expected = float(logit_diff(question)(asked.literal(mixed)))
                value = found.patched["resid"][row, 0, position]
                assert value == pytest.approx(expected, abs=1e-5)
            row += 1


@pytest.mark.parametrize("through", THROUGH)
def test_patching_of_paths(asked, through):
    """All nodes to the logits are the corrupted run; one direct path is one edge."""
    options = {"through": through}
    every = patch_paths(
        asked.model, asked.items, asked.graph.sources, ["logits"], together=True, **options
    )
    np.testing.assert_allclose(every.patched[0], every.corrupted, atol=1e-5)
    last = f"a{asked.model.n_layers - 1}.h0"  # nothing but the last MLP reads it
    found = patch_paths(asked.model, asked.items, [last], ["logits"], **options)
    if through == "direct":
        edge = f"{last}->logits"
        expected = asked.mean(
            lambda x: exact_scores(asked.hf, *ids(x), logit_diff(x), [edge], causal=asked.causal)[
                edge
            ]
        )
        np.testing.assert_allclose(found.effect[0], expected, atol=1e-5)
    else:
        direct = patch_paths(asked.model, asked.items, [last], ["logits"])
        assert np.abs(found.effect - direct.effect).max() > 1e-6
