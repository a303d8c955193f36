"""Path patching against a literal version: a copy of the residual stream for every reader."""

import dataclasses

import numpy as np
import pytest
import torch

from mechshift_lib.choices import THROUGH
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.paths import patch_paths
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.loading import wrap_model
from tests.support.literal import embedding, exact_scores, plain_read, run
from tests.support.tiny import CASES, tiny_hf, tiny_items


def logit_diff(item):
    def metric(logits):
        reads = zip(item.reads, item.answers, item.distractors, strict=True)
        return sum(logits[0, p, a[0]] - logits[0, p, d[0]] for p, a, d in reads) / len(item.reads)

    return metric


def ids(item):
    return torch.tensor([item.clean]), torch.tensor([item.corrupted])


@torch.no_grad()
def literal(hf, item, senders, readers, through, *, causal):
    """The patched metric: note what the readers take in, then let them take it in."""
    clean, corrupted = (embedding(hf, x) for x in ids(item))
    _, own = run(hf, clean, causal=causal)
    _, other = run(hf, corrupted, causal=causal)
    noted = {}

    def note(reader, written):
        parts = []
        for name, value in written.items():
            recomputed = name[0] == "b" or (through == "mlps" and name[0] == "m")
            parts.append(other[name] if name in senders else value if recomputed else own[name])
        noted[reader] = torch.stack(parts).sum(0)
        return noted[reader]

    run(hf, clean, causal=causal, read=note)

    def read(reader, written):
        return noted[reader] if reader in readers else plain_read(reader, written)

    logits, _ = run(hf, clean, causal=causal, read=read)
    return float(logit_diff(item)(logits))


QUESTIONS = [
    (("a0.h1",), ("a2.h3<q>", "a2.h3<v>")),
    (("input",), ("a1.h0<k>", "a2.h1<v>", "m2")),
    (("m1",), ("logits",)),
    (("a1.h2",), ("m1",)),
    (("a0.h0", "m1", "a1.h3"), ("a2.h0<q>", "a2.h0<k>", "m2")),
]


@pytest.mark.parametrize("through", THROUGH)
@pytest.mark.parametrize(("architecture", "attention"), CASES)
def test_equals_the_literal_version(architecture, attention, through):
    hf = tiny_hf(architecture, layers=3)
    model = wrap_model(hf, attention=attention)
    items = tiny_items(2, reads=2)
    for senders, readers in QUESTIONS:
        if model.anatomy.parallel and readers == ("m1",):
            # There a layer's MLP doesn't read its heads.
            with pytest.raises(CircuitError, match="None of the senders"):
                patch_paths(model, items, senders, readers, through=through, together=True)
            continue
        result = patch_paths(model, items, senders, readers, through=through, together=True)
        expected = [
            literal(hf, x, senders, readers, through, causal=attention == "causal") for x in items
        ]
        np.testing.assert_allclose(result.patched[0], expected, atol=1e-5, rtol=1e-4)
        assert np.abs(result.effect).max() > 1e-4


@pytest.mark.parametrize("through", THROUGH)
def test_every_sender_alone_with_grouped_keys_and_values(through):
    """All nodes in one call, in passes that mix layers, equal a call for each."""
    hf = tiny_hf(layers=3)
    model = wrap_model(hf, attention="full", kv="grouped")
    items = tiny_items(3)
    senders = Graph.for_model(model).sources[::-1]
    readers = ("a2.h1<k>", "a2.h0<v>", "a1.h3<q>")
    result = patch_paths(model, items, senders, readers, through=through, batch_size=12)
    assert [x for (x,) in result.senders] == senders
    for row, sender in enumerate(senders):
        expected = [literal(hf, x, (sender,), readers, through, causal=False) for x in items]
        np.testing.assert_allclose(result.patched[row], expected, atol=1e-5, rtol=1e-4)
    late = [row for row, sender in enumerate(senders) if sender.strip("am")[0] == "2"]
    np.testing.assert_allclose(result.effect[late], 0, atol=1e-5)
    assert np.abs(result.effect).max() > 1e-2


def test_a_single_direct_path_is_a_single_edge():
    hf = tiny_hf()
    model = wrap_model(hf, attention="full")
    (item,) = tiny_items(1)
    edges = ["input->a0.h1<k>", "a0.h2->a1.h0<v>", "a0.h2->m0", "m0->a1.h3<q>", "m1->logits"]
    expected = exact_scores(hf, *ids(item), logit_diff(item), edges, causal=False)
    for edge in edges:
        sender, _, reader = edge.partition("->")
        result = patch_paths(model, [item], [sender], [reader])
        assert result.effect[0, 0] == pytest.approx(expected[edge], abs=1e-5)


def test_all_nodes_to_the_logits_are_the_corrupted_run():
    model = wrap_model(tiny_hf("gpt2"))
    senders = Graph.for_model(model).sources
    result = patch_paths(model, tiny_items(3), senders, ["logits"], together=True)
    np.testing.assert_allclose(result.patched[0], result.corrupted, atol=1e-5)
    np.testing.assert_allclose(result.normalised(), [1], atol=1e-5)


def test_batch_size_order_and_lengths_make_no_difference_and_items_are_weighted():
    model = wrap_model(tiny_hf())
    short, long = tiny_items(3, reads=3), tiny_items(2, length=10, seed=3)
    items = [dataclasses.replace(x, example=i) for i, x in enumerate(short + long)]
    question = (["a0.h0", "m0"], ["a1.h1<q>", "m1"])
    reference = patch_paths(model, items, *question, batch_size=1)
    for options in ({"batch_size": 3}, {"batch_size": 100}):
        again = patch_paths(model, items, *question, **options)
        np.testing.assert_allclose(again.patched, reference.patched, atol=3e-6)
    back = patch_paths(model, items[::-1], *question)
    np.testing.assert_allclose(back.patched, reference.patched, atol=3e-6)
    parts = [
        dataclasses.replace(
            items[0],
            step=step,
            reads=items[0].reads[chosen],
            answers=items[0].answers[chosen],
            distractors=items[0].distractors[chosen],
        )
        for step, chosen in ((0, slice(0, 2)), (1, slice(2, 3)))
    ]
    split = patch_paths(model, parts, *question)
    np.testing.assert_allclose(split.patched[:, 0], reference.patched[:, 0], atol=3e-6)
    np.testing.assert_allclose(split.clean, reference.clean[:1], atol=3e-6)


def test_frame_and_normalised_by_hand():
    result = patch_paths(wrap_model(tiny_hf()), tiny_items(2), ["a0.h0", "m0"], ["m1"])
    result = dataclasses.replace(
        result,
        clean=np.array([3.0, 5.0]),
        corrupted=np.array([1.0, -1.0]),
        patched=np.array([[3.0, 1.0], [4.0, 5.0]]),
    )
    np.testing.assert_allclose(result.effect, [[0, 4], [-1, 0]])
    frame = result.frame()
    columns = ["sender", "readers", "through", "effect", "value", "low", "high", "n"]
    assert list(frame) == columns
    assert frame["sender"].tolist() == ["a0.h0", "m0"]
    assert frame["value"].tolist() == [0.5, -0.125]
    assert frame["effect"].tolist() == [2, -0.5]
    # two examples are drawn as the first twice, the second twice or each once
    np.testing.assert_allclose(frame["low"], [0, -1 / 2])
    np.testing.assert_allclose(frame["high"], [4 / 6, 0])
    assert frame["n"].tolist() == [2, 2]
    assert np.isnan(dataclasses.replace(result, corrupted=result.clean).normalised()).all()


@pytest.mark.parametrize(
    ("senders", "readers", "options", "message"),
    [
        (["a0.h9"], ["m1"], {}, "Unknown sender 'a0.h9'"),
        (["logits"], ["m1"], {}, "Unknown sender 'logits'"),
        (["a0.h0"], ["a1.h0"], {}, "Unknown reader 'a1.h0'"),
        (["a0.h0"], ["m1", "logits"], {}, "logits' alone"),
        (["a0.h0"], [], {}, "no reader"),
        (["m1"], ["a1.h0<q>"], {}, "None of the senders writes before"),
        ([], ["m1"], {}, "None of the senders"),
        (["m0"], ["m1"], {"through": "heads"}, "Unknown paths 'heads'"),
        (["m0"], ["m1"], {"metric": "loss"}, "Unknown metric"),
        (["m0"], ["m1"], {"batch_size": 0}, "batch size"),
    ],
)
def test_bad_questions_are_refused(senders, readers, options, message):
    with pytest.raises(CircuitError, match=message) as caught:
        patch_paths(wrap_model(tiny_hf()), tiny_items(1), senders, readers, **options)
    assert "\n" not in str(caught.value)
