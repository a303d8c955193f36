"""Metrics against formulas written out with plain Python numbers."""

import dataclasses
import math

import pytest
import torch

from mechshift_lib.circuits.questions.metrics import (
    METRICS,
    Reads,
    check_metric,
    item_metric,
    reads_for,
)
from mechshift_lib.errors import CircuitError
from mechshift_lib.models.readout import Item
from tests.support.tiny import tiny_items

CPU = torch.device("cpu")
ITEMS = [
    Item(0, 0, (1, 2), (1, 3), (0, 1), ((0, 1), (2,)), ((3,), (0, 4))),
    Item(1, 0, (1, 2), (1, 3), (1,), ((4,),), ((1,),)),
]


def same(x):
    return x


def run(seed):
    """Logits of a run ``[batch, pos, vocab]``, taken as the output of the final norm."""
    return 2 * torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(seed))


def literal(name, logits, clean):
    """The metric of each item, read by read, without tensors."""
    values = []
    for row, item in enumerate(ITEMS):
        total = 0.0
        for read, answers, distractors in zip(
            item.reads, item.answers, item.distractors, strict=True
        ):
            level = [math.exp(x) for x in logits[row, read].tolist()]
            share = [x / sum(level) for x in level]
            other = [math.exp(x) for x in clean[row, read].tolist()]
            other = [x / sum(other) for x in other]
            right, wrong = sum(level[i] for i in answers), sum(level[i] for i in distractors)
            total += {
                "logit-diff": math.log(right) - math.log(wrong),
                "prob-diff": (right - wrong) / sum(level),
                "log-prob": math.log(sum(share[i] for i in answers)),
                "kl": -sum(p * math.log(p / q) for p, q in zip(other, share, strict=True)),
            }[name]
        values.append(total / len(item.reads))
    return values


@pytest.mark.parametrize("name", METRICS)
def test_metric_equals_its_formula(name):
    clean, logits = run(0), run(1)
    reads = reads_for(name, ITEMS, CPU, clean, same)
    found = item_metric(name, logits, same, reads)
    assert found.tolist() == pytest.approx(literal(name, logits, clean), abs=1e-5)


def test_divergence_is_largest_at_the_clean_run_and_has_no_slope_there():
    clean = run(0).requires_grad_(True)
    reads = reads_for("kl", ITEMS, CPU, clean, same)
    assert not reads.reference.requires_grad
    values = item_metric("kl", clean, same, reads)
    assert values.tolist() == pytest.approx([0, 0], abs=1e-6)
    (slope,) = torch.autograd.grad(values.sum(), clean)
    assert slope.abs().max() < 1e-6
    assert (item_metric("kl", run(1), same, reads) < -0.1).all()


def test_only_the_divergence_keeps_the_clean_run():
    assert reads_for("logit-diff", ITEMS, CPU, run(0), same).reference is None
    assert reads_for("kl", ITEMS, CPU, run(0), same).reference.shape == (3, 5)
    with pytest.raises(CircuitError, match="clean run's log-probabilities"):
        item_metric("kl", run(1), same, Reads.of(ITEMS, CPU))


def test_bfloat16_logits_are_measured_in_float32():
    reads = reads_for("log-prob", ITEMS, CPU, run(0), same)
    found = item_metric("log-prob", run(1).bfloat16(), same, reads)
    assert found.dtype == torch.float32
    exact = literal("log-prob", run(1).bfloat16().float(), run(0))
    assert found.tolist() == pytest.approx(exact, abs=1e-5)


def test_unknown_metric_and_nan_are_refused():
    with pytest.raises(CircuitError, match="Unknown metric 'loss'"):
        check_metric("loss")
    broken = run(1)
    broken[1, 1, 0] = torch.nan
    reads = Reads.of(ITEMS, CPU)
    with pytest.raises(CircuitError, match="NaN"):
        item_metric("prob-diff", broken, same, reads)


def test_reads_of_chosen_items_are_those_of_a_batch_of_these_items():
    items = [
        dataclasses.replace(item, example=index)
        for index, item in enumerate(
            tiny_items(2, reads=2) + tiny_items(1) + tiny_items(1, reads=3)
        )
    ]
    chosen = [3, 0, 2, 2, 1, 3]
    reads = Reads.of(items, CPU)
    reads = dataclasses.replace(reads, reference=torch.randn(len(reads.rows), 5))
    taken = reads.take(torch.tensor(chosen))
    expected = Reads.of([items[i] for i in chosen], CPU)
    for field in dataclasses.fields(Reads):
        if field.name == "n_items":
            assert taken.n_items == len(chosen)
        elif field.name != "reference":
            torch.testing.assert_close(getattr(taken, field.name), getattr(expected, field.name))
    spans = [[0, 1], [2, 3], [4], [5, 6, 7]]
    order = [row for i in chosen for row in spans[i]]
    torch.testing.assert_close(taken.reference, reads.reference[order])
