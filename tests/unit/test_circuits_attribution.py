"""What scores don't depend on, how steps and reads are weighted, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from mechshift_lib.choices import GRADIENT_METHODS
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.attribution.plan import Plan, PlanOptions, interpolation_points
from mechshift_lib.circuits.graph.circuit import Circuit
from mechshift_lib.circuits.questions.items import active_positions, batches
from mechshift_lib.cli.files.examples import attribute_file
from mechshift_lib.errors import CircuitError, ModelError
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import Item
from tests.support.tiny import VOCABULARY, tiny_hf, tiny_items


@pytest.fixture(scope="module", params=["causal", "full"])
def model(request):
    return wrap_model(tiny_hf(), attention=request.param)


@pytest.fixture(scope="module")
def items():
    """Two lengths, so that batches are short now and then."""
    longer = [
        dataclasses.replace(item, example=item.example + 5)
        for item in tiny_items(4, length=10, seed=3)
    ]
    return tiny_items(5) + longer


def test_scores_do_not_depend_on_batch_size_order_or_threads(model, items):
    reference = attribute(model, items, batch_size=1)
    assert reference.by_example.shape == (9, reference.graph.n_edges)
    for size in (3, 4, 100):
        again = attribute(model, items, batch_size=size)
        np.testing.assert_allclose(again.by_example, reference.by_example, atol=2e-6)
        np.testing.assert_allclose(again.by_step, reference.by_step, atol=2e-6)
    back = attribute(model, items[::-1], batch_size=3)
    assert back.examples.tolist() == list(range(9))
    np.testing.assert_allclose(back.by_example, reference.by_example, atol=2e-6)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.testing.assert_allclose(
            attribute(model, items[:2]).by_example, reference.by_example[:2], atol=2e-6
        )
    finally:
        torch.set_num_threads(threads)
    assert np.abs(reference.by_example).max() > 0.01
    np.testing.assert_allclose(reference.scores, reference.by_example.mean(0), atol=1e-6)


def test_examples_do_not_leak_into_each_other(model, items):
    together = attribute(model, items)
    alone = attribute(model, items[2:3])
    np.testing.assert_allclose(together.by_example[2], alone.by_example[0], atol=2e-6)


def test_metrics_are_those_of_the_two_runs(model):
    (item,) = tiny_items(1, reads=2)
    result = attribute(model, [item])
    for ids, value in (
        (item.clean, result.metric_clean),
        (item.corrupted, result.metric_corrupted),
    ):
        logits = model.logits(torch.tensor([ids]))[0]
        expected = np.mean(
            [
                float(logits[p, a[0]] - logits[p, d[0]])
                for p, a, d in zip(item.reads, item.answers, item.distractors, strict=True)
            ]
        )
        assert value[0] == pytest.approx(expected, abs=1e-5)


def test_steps_weigh_by_their_reads_and_are_kept(model):
    """An example asked in two steps equals the same reads asked at once, input by input."""
    (item,) = tiny_items(1, reads=3)
    parts = [
        dataclasses.replace(
            item,
            step=step,
            reads=item.reads[chosen],
            answers=item.answers[chosen],
            distractors=item.distractors[chosen],
        )
        for step, chosen in ((0, slice(0, 2)), (4, slice(2, 3)))
    ]
    whole, split = attribute(model, [item]), attribute(model, parts)
    np.testing.assert_allclose(split.by_example, whole.by_example, atol=2e-6)
    assert split.steps.tolist() == [0, 4]
    np.testing.assert_allclose(
        split.by_step[0] * 2 / 3 + split.by_step[1] / 3, whole.scores, atol=2e-6
    )
    assert np.abs(split.by_step[0] - split.by_step[1]).max() > 1e-3


def test_a_step_is_averaged_over_the_examples_that_have_it(model):
    first, second = tiny_items(2)
    later = dataclasses.replace(second, step=1)
    result = attribute(model, [first, second, later])
    np.testing.assert_allclose(result.by_step[1], result.by_example[1], atol=2e-6)
    np.testing.assert_allclose(result.by_step[0], result.scores, atol=2e-6)


def test_logit_difference_of_sets_and_of_one_id_repeated(model):
    """Log-sum-exp of a single id is its logit; a set adds up in the exponent."""
    (item,) = tiny_items(1)
    wide = dataclasses.replace(item, answers=((1, 2),), distractors=((3,),))
    logits = model.logits(torch.tensor([item.clean]))[0, -1]
    expected = torch.logsumexp(logits[[1, 2]], 0) - logits[3]
    assert attribute(model, [wide]).metric_clean[0] == pytest.approx(float(expected), abs=1e-5)
    mass = logits.softmax(0)
    result = attribute(model, [wide], metric="prob-diff")
    assert result.metric_clean[0] == pytest.approx(float(mass[[1, 2]].sum() - mass[3]), abs=1e-6)


def test_no_difference_scores_nothing(model):
    (item,) = tiny_items(1)
    same = dataclasses.replace(item, corrupted=item.clean)
    result = attribute(model, [same])
    assert not result.by_example.any()
    assert result.metric_clean == pytest.approx(result.metric_corrupted)


def test_parameters_stay_frozen_and_without_gradients(model, items):
    attribute(model, items[:2])
    assert not any(p.requires_grad or p.grad is not None for p in model.hf.parameters())


def test_points():
    assert interpolation_points("eap", 5) == [1.0]
    assert interpolation_points("eap-ig", 4) == [0.0, 0.25, 0.5, 0.75]
    assert interpolation_points("eap-ig", 4, "right") == [0.25, 0.5, 0.75, 1.0]
    assert interpolation_points("clean-corrupted", 4) == [0.0, 1.0]
    assert interpolation_points("eap-ig-activations", 4) == [0.25, 0.5, 0.75, 1.0]


def test_batches_hold_one_length_each(items):
    found = list(batches(items, 2))
    assert [len(batch) for batch in found] == [2, 2, 1, 2, 2]
    assert all(len({len(item.clean) for item in batch}) == 1 for batch in found)


def test_active_positions_are_from_the_first_difference_to_the_last_read():
    item = Item(0, 0, (1, 2, 3, 4, 5), (1, 2, 9, 4, 5), (3,), ((1,),), ((2,),))
    assert active_positions([item], "causal") == slice(2, 4)
    assert active_positions([item], "full") == slice(0, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corrupted": (1, 2, 3)}, "8 clean and 3 corrupted tokens"),
        ({"reads": (8,)}, "position 8"),
        ({"reads": (-1,)}, "position -1"),
        ({"answers": ((VOCABULARY,),)}, f"token id {VOCABULARY}"),
        ({"clean": (-1,) * 8}, "token id -1"),
        ({"answers": ((5,),), "distractors": ((5,),)}, "equal to its distractor"),
        ({"answers": ((),)}, "without an answer"),
        ({"answers": ((1,), (2,))}, "one answer"),
        ({"clean": (1,) * 33, "corrupted": (2,) * 33}, "33 tokens"),
    ],
)
def test_malformed_items_are_refused(model, change, message):
    item = dataclasses.replace(tiny_items(1)[0], **change)
    with pytest.raises(CircuitError, match=message):
        attribute(model, [item])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "saliency"}, "Unknown method 'saliency'"),
        ({"metric": "loss"}, "Unknown metric 'loss'"),
        ({"points": "middle"}, "Unknown points"),
        ({"steps": 0}, "at least one step"),
        ({"batch_size": 0}, "batch size"),
    ],
)
def test_unknown_options_are_refused(model, options, message):
    with pytest.raises(CircuitError, match=message):
        attribute(model, tiny_items(1), **options)


def test_a_plan_and_its_fields_as_options_are_the_same(model, items):
    assert list(PlanOptions.__annotations__) == [field.name for field in dataclasses.fields(Plan)]
    plan = Plan(metric="prob-diff", steps=2, points="right")
    expected = attribute(model, items, metric="prob-diff", steps=2, points="right").by_example
    np.testing.assert_array_equal(attribute(model, items, plan).by_example, expected)
    changed = attribute(model, items, plan, points="left").by_example
    assert np.abs(changed - expected).max() > 1e-4
    with pytest.raises(TypeError, match="pionts"):
        attribute(model, items, pionts="left")


def test_nothing_to_attribute(model):
    with pytest.raises(CircuitError, match="nothing to attribute"):
        attribute(model, [])


def test_nan_is_said_not_scored():
    hf = tiny_hf()
    model = wrap_model(hf)
    hf.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(CircuitError, match="NaN"):
        attribute(model, tiny_items(1))


ENTRY = {"clean": [1, 2, 3, 4], "corrupted": [1, 7, 3, 4], "answer": 5, "distractor": 6}


def test_from_file_to_file(tmp_path):
    tiny_hf().save_pretrained(tmp_path / "model")
    entries = [ENTRY, {**ENTRY, "corrupted": [1, 9, 3, 4]}, {**ENTRY, "position": 2}]
    (tmp_path / "examples.json").write_text(json.dumps(entries))
    result = attribute_file(
        tmp_path / "model", tmp_path / "examples.json", out=tmp_path / "deep" / "scores.json"
    )
    scores = json.loads((tmp_path / "deep" / "scores.json").read_text())
    assert list(scores) == result.graph.names
    np.testing.assert_allclose(list(scores.values()), result.by_example.mean(0), atol=1e-6)
    assert np.abs(result.scores).max() > 1e-3
    table = tmp_path / "scores.parquet"
    attribute_file(tmp_path / "model", tmp_path / "examples.json", out=table, batch_size=1)
    again = Circuit.from_parquet(table)
    np.testing.assert_allclose(again.scores, result.scores, atol=2e-6)
    grouped = attribute_file(tmp_path / "model", tmp_path / "examples.json", kv="grouped")
    assert grouped.graph.n_edges < result.graph.n_edges
    full = attribute_file(tmp_path / "model", tmp_path / "examples.json", attention="full")
    assert np.abs(full.scores - result.scores).max() > 1e-3


def test_from_file_to_file_refuses_before_and_after_loading(tmp_path):
    tiny_hf().save_pretrained(tmp_path / "model")
    examples = tmp_path / "examples.json"
    examples.write_text(json.dumps([{**ENTRY, "answer": VOCABULARY}]))
    with pytest.raises(CircuitError, match=f"token id {VOCABULARY}"):
        attribute_file(tmp_path / "model", examples)
    with pytest.raises(CircuitError, match="Unknown method"):
        attribute_file(tmp_path / "nowhere", examples, method="magic")
    with pytest.raises(CircuitError, match=r"\.json or \.parquet"):
        attribute_file(tmp_path / "nowhere", examples, out=tmp_path / "scores.csv")
    with pytest.raises(ModelError, match="doesn't exist"):
        attribute_file(tmp_path / "nowhere", examples)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_bfloat16_weights_rank_edges_like_float32(method):
    """Sums are kept in float32, so only the model's own rounding is left.

    bfloat16 keeps 8 bits, 0.4 % an operation, so a score is off by a few per cent of the largest
    and only neighbours in rank change places: Spearman's correlation is 0.996 or more for every
    method and the first three seeds, and 0.98 or more among the strongest tenth of the edges.
    """
    items = tiny_items(6)
    exact = attribute(wrap_model(tiny_hf()), items, method=method).scores
    result = attribute(wrap_model(tiny_hf().to(torch.bfloat16)), items, method=method)
    rounded = result.scores
    assert result.by_example.dtype == np.float32
    assert not np.array_equal(exact, rounded)
    assert spearmanr(exact, rounded).statistic > 0.99
    strong = np.argsort(-np.abs(exact))[: len(exact) // 10]
    assert spearmanr(exact[strong], rounded[strong]).statistic > 0.95


@pytest.mark.parametrize("method", ["eap-ig-activations", "clean-corrupted"])
def test_other_methods_do_not_depend_on_batch_size_order_or_threads(model, items, method):
    items = items[3:7]  # two of each length

    def scores(items, **options):
        return attribute(model, items, method=method, steps=2, **options).by_example

    reference = scores(items, batch_size=1)
    assert np.abs(reference).max() > 0.01
    np.testing.assert_allclose(scores(items, batch_size=4), reference, atol=2e-6)
    np.testing.assert_allclose(scores(items[::-1], batch_size=3), reference, atol=2e-6)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.testing.assert_allclose(scores(items, batch_size=9), reference, atol=2e-6)
    finally:
        torch.set_num_threads(threads)
