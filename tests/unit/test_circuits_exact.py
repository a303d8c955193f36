"""Exact patching of single edges, many per pass, against one edge at a time."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.circuits.attribution import exact
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.circuits.evaluation.runs import run_circuits
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.questions.items import active_positions
from mechshift_lib.circuits.tracing.layers import STREAMS, run_layers
from mechshift_lib.circuits.tracing.written_out import written_out
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import embedding, plain_read, run
from tests.support.literal import exact_scores as literal_scores
from tests.support.tiny import CASES, GROUPED, tiny_hf, tiny_items

MODELS = [(*case, kv) for case in CASES for kv in ("ungrouped", "grouped")]
MODELS = [case for case in MODELS if case[2] == "ungrouped" or case[0] in GROUPED]


def ids(item):
    return torch.tensor([item.clean]), torch.tensor([item.corrupted])


def logit_diff(item):
    """The item's metric on logits ``[1, pos, vocab]``, written out."""

    def metric(logits):
        reads = zip(item.reads, item.answers, item.distractors, strict=True)
        return sum(logits[0, p, a[0]] - logits[0, p, d[0]] for p, a, d in reads) / len(item.reads)

    return metric


@pytest.fixture(scope="module", params=["causal", "full"])
def model(request):
    return wrap_model(tiny_hf(), attention=request.param)


@pytest.fixture(scope="module")
def items():
    """Two lengths and an early read, so that causal runs are cut short."""
    longer = [
        dataclasses.replace(item, example=item.example + 3)
        for item in tiny_items(2, length=10, seed=3, reads=2)
    ]
    return [*tiny_items(2), dataclasses.replace(tiny_items(3)[2], reads=(5,)), *longer]


@pytest.mark.parametrize(("architecture", "attention", "kv"), MODELS)
def test_equals_one_edge_at_a_time(architecture, attention, kv):
    hf = tiny_hf(architecture)
    model = wrap_model(hf, attention=attention, kv=kv)
    (item,) = tiny_items(1, reads=2)
    found = exact_scores(model, [item])
    names = found.graph.names
    expected = literal_scores(hf, *ids(item), logit_diff(item), names, causal=attention == "causal")
    expected = np.array([expected[name] for name in names])
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1
    assert (np.abs(expected) > 1e-4).mean() > 0.5


def test_is_a_circuit_that_lacks_one_edge(model, items):
    """The other engine, that of circuits, gives the same for every metric."""
    graph = Graph.for_model(model)
    edges = np.arange(graph.n_edges)[::7]
    masks = np.ones((len(edges), graph.n_edges), bool)
    masks[np.arange(len(edges)), edges] = False
    for metric in ("logit-diff", "prob-diff", "log-prob", "kl"):
        found = exact_scores(model, items, metric=metric, edges=edges.tolist())
        runs = run_circuits(model, items, masks, metric=metric)
        np.testing.assert_allclose(
            found.by_example[:, edges], (runs.clean - runs.values).T, atol=1e-5
        )
        np.testing.assert_allclose(found.metric_clean, runs.clean, atol=1e-6)
        np.testing.assert_allclose(found.metric_corrupted, runs.corrupted, atol=1e-6)
        rest = np.setdiff1d(np.arange(graph.n_edges), edges)
        assert not found.by_example[:, rest].any()
        assert np.abs(found.scores).max() > 1e-3


def test_scores_do_not_depend_on_batches_order_or_the_choice(model, items):
    whole = exact_scores(model, items)
    for size in (1, 7, 500):
        again = exact_scores(model, items[::-1], batch_size=size)
        np.testing.assert_allclose(again.by_example, whole.by_example, atol=2e-6)
    some = exact_scores(model, items, edges=[0, 50, 3])
    np.testing.assert_allclose(
        some.by_example[:, [0, 3, 50]], whole.by_example[:, [0, 3, 50]], atol=2e-6
    )


def test_steps_weigh_by_their_reads(model):
    (item,) = tiny_items(1, reads=3)
    parts = [
        dataclasses.replace(
            item,
            step=step,
            **{key: getattr(item, key)[chosen] for key in ("reads", "answers", "distractors")},
        )
        for step, chosen in ((0, slice(0, 2)), (4, slice(2, 3)))
    ]
    whole, split = exact_scores(model, [item]), exact_scores(model, parts)
    np.testing.assert_allclose(split.by_example, whole.by_example, atol=2e-6)
    assert split.steps.tolist() == [0, 4]
    combined = (2 * split.by_step[0] + split.by_step[1]) / 3
    np.testing.assert_allclose(combined, whole.scores, atol=2e-6)


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_by_position_patches_one_position_of_the_reader(attention):
    hf, causal = tiny_hf("gpt2"), attention == "causal"
    model = wrap_model(hf, attention=attention)
    (item,) = tiny_items(1)
    found = exact_scores(model, [item], by_position=True)
    clean, corrupted = (embedding(hf, x) for x in ids(item))
    metric = logit_diff(item)
    with torch.no_grad():
        logits, written = run(hf, clean, causal=causal)
        other = run(hf, corrupted, causal=causal)[1]
        for name in ("input->m0", "a0.h1->a1.h2<v>", "m0->a1.h0<q>", "a0.h2->logits"):
            source, _, reader = name.partition("->")
            edge = found.graph.index(name)
            for position in range(8):
                change = torch.zeros_like(clean)
                change[:, position] = (other[source] - written[source])[:, position]

                def read(at, so_far, reader=reader, change=change):
                    stream = plain_read(at, so_far)
                    return stream + change if at == reader else stream

                patched = run(hf, clean, causal=causal, read=read)[0]
                expected = float(metric(logits) - metric(patched))
                assert found.by_position[position, edge] == pytest.approx(expected, abs=1e-5)
    joint = exact_scores(model, [item])
    np.testing.assert_allclose(found.scores, joint.scores, atol=2e-6)
    assert np.abs(found.by_position.sum(0) - found.scores).max() > 1e-3  # not additive
    assert joint.by_position is None


@pytest.mark.parametrize("kv", ["ungrouped", "grouped"])
def test_traced_and_written_out_passes_agree(monkeypatch, items, kv):
    for attention in ("causal", "full"):
        model = wrap_model(tiny_hf("qwen2"), attention=attention, kv=kv)
        options = {"by_position": True, "metric": "kl"}
        written = exact_scores(model, items[:2], **options)
        with monkeypatch.context() as patch:
            patch.setattr(exact, "written_out", lambda *_: None)
            traced = exact_scores(model, items[:2], **options)
        np.testing.assert_allclose(written.by_example, traced.by_example, atol=1e-5)
        np.testing.assert_allclose(written.by_position, traced.by_position, atol=1e-5)
        assert np.abs(traced.scores).max() > 1e-3


#: Norms of single heads, and layers without modules for their parts.
TRACED = {"qwen3", "dream", "llada"}


def written(model, items):
    """The layers written out around the items' runs, or ``None``."""
    positions = active_positions(items, model.attention)
    inputs = ([x[: positions.stop] for x in y] for y in zip(*map(ids_of, items), strict=True))
    clean, corrupted = (
        run_layers(model, torch.tensor(x), exact.PATCHED if i == 0 else STREAMS)
        for i, x in enumerate(inputs)
    )
    columns = torch.tensor(sorted({read for item in items for read in item.reads}))
    return written_out(model, clean, corrupted, positions, columns)


def ids_of(item):
    return item.clean, item.corrupted


@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_which_architectures_are_written_out(architecture, attention):
    model = wrap_model(tiny_hf(architecture), attention=attention)
    found = written(model, tiny_items(2, reads=2))
    assert (found is None) == (architecture in TRACED)


def test_layers_that_would_not_make_the_runs_anew_are_not_written_out(model):
    assert written(model, tiny_items(2)) is not None
    wrong = dataclasses.replace(model, anatomy=dataclasses.replace(model.anatomy, rotary=""))
    assert written(wrong, tiny_items(2)) is None


def test_items_that_differ_in_their_reads_share_a_run(model, monkeypatch):
    (item,) = tiny_items(1, reads=3)
    parts = [
        dataclasses.replace(
            item, example=i, reads=(read,), answers=item.answers[i : i + 1],
            distractors=item.distractors[i : i + 1],
        )
        for i, read in enumerate(item.reads)
    ]  # fmt: skip
    alone = np.concatenate([exact_scores(model, [part]).by_example for part in parts])
    rows, true = [], exact._Setting._final_in
    monkeypatch.setattr(
        exact._Setting, "_final_in", lambda *given: rows.append(len(given[1])) or true(*given)
    )
    together = exact_scores(model, parts)
    np.testing.assert_allclose(together.by_example, alone, atol=2e-6)
    assert sum(rows) <= together.graph.n_edges
    assert np.abs(alone[0] - alone[2]).max() > 1e-3


def test_no_difference_scores_nothing(model):
    (item,) = tiny_items(1)
    assert not exact_scores(model, [dataclasses.replace(item, corrupted=item.clean)]).scores.any()


def test_bfloat16_ranks_edges_like_float32():
    items = tiny_items(4)
    exact, rounded = (
        exact_scores(wrap_model(hf), items).scores
        for hf in (tiny_hf(), tiny_hf().to(torch.bfloat16))
    )
    assert np.corrcoef(exact, rounded)[0, 1] > 0.98
    assert not np.array_equal(exact, rounded)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "loss"}, "Unknown metric"),
        ({"batch_size": 0}, "batch size"),
        ({"edges": [-1]}, "out of range"),
        ({"edges": [10**6]}, "out of range"),
    ],
)
def test_what_is_refused(model, options, message):
    with pytest.raises(CircuitError, match=message):
        exact_scores(model, tiny_items(1), **options)


def test_positions_need_one_length(model, items):
    with pytest.raises(CircuitError, match="one length"):
        exact_scores(model, items, by_position=True)
