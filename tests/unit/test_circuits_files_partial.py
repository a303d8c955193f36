"""Chunks of examples: nothing is lost when one fails, and joined they are the whole."""

import dataclasses

import numpy as np
import pytest

from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.circuits.evaluation.faithfulness import faithfulness_curve
from mechshift_lib.cli.files.partial import (
    example_chunks,
    in_chunks,
    join_attributions,
    join_curves,
    partial_path,
)
from mechshift_lib.errors import CircuitError, ModelError
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import tiny_hf, tiny_items


@pytest.fixture(scope="module")
def model():
    return wrap_model(tiny_hf())


@pytest.fixture(scope="module")
def items():
    """Examples 0–4, of which 1 has a second step and 3 is shorter and comes twice."""
    made = tiny_items(5, seed=3)
    made.append(dataclasses.replace(made[1], step=2, reads=(5,)))
    (short,) = tiny_items(1, length=6, seed=8)
    made[3] = dataclasses.replace(short, example=3)
    made.append(dataclasses.replace(made[3], step=1))
    return made


def test_chunks_are_of_whole_examples_the_shortest_first(items):
    chunks = list(example_chunks(items, 2))
    assert [[(x.example, x.step) for x in chunk] for chunk in chunks] == [
        [(3, 0), (3, 1), (0, 0)],
        [(1, 0), (1, 2), (2, 0)],
        [(4, 0)],
    ]


def test_joined_chunks_are_the_whole_attribution(model, items):
    chunks = list(example_chunks(items, 2))
    joined = join_attributions([attribute(model, chunk) for chunk in chunks], chunks)
    whole = attribute(model, items)
    for field in dataclasses.fields(whole):
        a, b = getattr(joined, field.name), getattr(whole, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, atol=2e-6, err_msg=field.name)
        else:
            assert a == b
    assert whole.steps.tolist() == [0, 1, 2]


def test_joined_positions_weigh_by_examples(model):
    chunks = list(example_chunks(tiny_items(3), 2))
    parts = [attribute(model, chunk, by_position=True) for chunk in chunks]
    whole = attribute(model, tiny_items(3), by_position=True)
    joined = join_attributions(parts, chunks).by_position
    np.testing.assert_allclose(joined, whole.by_position, atol=2e-6)
    assert joined.dtype == np.float32
    assert np.abs(joined).max() > 1e-3


def test_joined_chunks_are_the_whole_curve(model, items):
    circuit = attribute(model, items, method="eap").circuit
    chunks = list(example_chunks(items, 2))
    options = {"fractions": (0.2, 0.6)}
    parts = [faithfulness_curve(model, chunk, circuit, **options) for chunk in chunks]
    joined, whole = join_curves(parts), faithfulness_curve(model, items, circuit, **options)
    assert joined.examples.tolist() == whole.examples.tolist() == list(range(5))
    for name in ("values", "correct", "full", "empty", "faithfulness"):
        np.testing.assert_allclose(
            getattr(joined, name), getattr(whole, name), atol=1e-5, rtol=1e-4
        )


def test_what_was_finished_is_kept_and_named(tmp_path, items):
    chunks = list(example_chunks(items, 2))
    kept = []

    def keep(done):
        kept.extend(done)
        return tmp_path / "x.partial.json"

    def work(chunk):
        if chunk is chunks[2]:
            raise ModelError("It broke.")
        return len(chunk)

    with pytest.raises(ModelError, match=r"^It broke; what the 4 examples .*x\.partial\.json\.$"):
        in_chunks(chunks, work, keep)
    assert kept == [3, 3]
    assert in_chunks(chunks, len, keep) == [3, 3, 1]
    assert kept == [3, 3]  # nothing failed, so nothing was kept again


def test_nothing_finished_or_no_place_leaves_the_error_as_it_was(items):
    chunks = list(example_chunks(items, 2))

    def first(chunk):
        raise ModelError("It broke.")

    def second(chunk):
        if chunk is not chunks[0]:
            raise ZeroDivisionError("a defect")

    with pytest.raises(ModelError, match=r"^It broke\.$"):
        in_chunks(chunks, first, lambda done: pytest.fail("there is nothing to keep"))
    with pytest.raises(ZeroDivisionError) as caught:
        in_chunks(chunks, second, lambda done: None)
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(ZeroDivisionError) as caught:
        in_chunks(chunks, second, lambda done: partial_path("a/x.json"))
    assert "2 examples" in caught.value.__notes__[0]
    assert "x.partial.json" in caught.value.__notes__[0]


def test_the_first_error_is_said_when_the_finished_part_cannot_be_written(items):
    chunks = list(example_chunks(items, 2))

    def second(chunk):
        if chunk is not chunks[0]:
            raise ModelError("It broke.")

    def full_disk(done):
        raise CircuitError("Can't write x.")

    with pytest.raises(ModelError, match=r"^It broke\.$"):
        in_chunks(chunks, second, full_disk)
