"""What a run takes: in proportion where it must be, bounded where it is not known."""

from __future__ import annotations

import sys

import pytest

from mechshift_lib.config import ROOT, Budget, ModelSize, load_pair
from mechshift_lib.costs.memory import Held, chapter_bytes, working_bytes
from mechshift_lib.costs.time import (
    DRIVER,
    READS,
    Cost,
    Span,
    in_words,
    powers,
    read_costs,
    span,
)
from mechshift_lib.errors import ResultError
from mechshift_lib.models.loading import load_folder
from mechshift_lib.models.weights import numbers_of
from tests.support.tiny import tiny_hf

#: Two chapters whose truth is known: seconds grow with the square root of the parameters.
ROOTED = [Cost("lens", 10**6, 0.001), Cost("lens", 10**8, 0.01), Cost("patching", 10**6, 0.5)]
SIZE = ModelSize(parameters=10**6, layers=2, heads=4, kv_heads=2, width=32, head_width=8, hidden=48)


def test_the_power_is_fitted_where_two_sizes_were_measured() -> None:
    assert powers(ROOTED) == {"lens": pytest.approx(0.5)}


def test_a_span_reaches_from_what_was_fitted_to_proportion() -> None:
    budget = Budget(lens_examples=10, patching_examples=2)
    found = span("lens", 10**10, budget, 2, 3, ROOTED)
    assert found is not None
    assert found.least == pytest.approx(0.1 * 60)  # the square root
    assert found.most == pytest.approx(10**4 * 0.001 * 60)  # in proportion to the smaller
    other = span("patching", 10**8, budget, 1, 1, ROOTED)
    assert other == Span(pytest.approx(0.5 * 2 * 10), pytest.approx(0.5 * 2 * 100))
    assert span("probes", 10**8, budget, 1, 1, ROOTED) is None


def test_circuits_take_every_gradient_step_and_read() -> None:
    costs = [Cost("circuits", 10**6, 1.0), Cost("circuits", 10**8, 100.0)]
    budget = Budget(circuit_examples=10, ig_steps=3)
    assert span("circuits", 10**6, budget, 1, 1, costs) == Span(
        pytest.approx(50), pytest.approx(50 * READS)
    )
    exact = Budget(estimator="exact")
    assert span("circuits", 10**6, exact, 1, 1, costs) is None  # another way to score


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Span(1, 1.5), "1 to 2 seconds"),
        (Span(65, 200), "1 to 3 minutes"),
        (Span(9.6 * 60, 18 * 60), "10 to 18 minutes"),
        (Span(0, 7200 * 10), "0 to 20 hours"),
    ],
)
def test_spans_are_said_without_figures_that_nobody_knows(found: Span, said: str) -> None:
    assert in_words(found) == said


def test_the_table_is_what_the_shipped_provenances_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import fit_chapters

    try:
        made = [*fit_chapters.measured(), *fit_chapters.attribution()]
    finally:
        for name in ("fit_chapters", "measuring"):
            sys.modules.pop(name, None)
    kept = read_costs()
    assert [(x["chapter"], x["parameters"]) for x in made] == [
        (x.chapter, x.parameters) for x in kept
    ]
    assert [x["seconds"] for x in made] == pytest.approx([x.seconds for x in kept])
    assert {x.chapter for x in kept} <= set(DRIVER)


def test_a_measured_pair_is_foreseen_as_measured() -> None:
    """What is carried to the size that it comes from is what was measured."""
    pair = load_pair("smollm2-135m")
    costs = read_costs()
    own = next(x for x in costs if x.chapter == "behaviour" and x.parameters > 10**8)
    work = len(pair.roles) * len(pair.tasks) * pair.budget("book").behaviour_examples
    sizes = len(pair.roles), len(pair.tasks)
    found = span("behaviour", own.parameters, pair.budget("book"), *sizes, costs)
    assert found is not None
    assert found.least <= own.seconds * work * (1 + 1e-9)
    assert own.seconds * work <= found.most * (1 + 1e-9)


def test_memory_counts_two_models_and_one_batch() -> None:
    one = working_bytes(SIZE, "float32")
    assert working_bytes(SIZE, "bfloat16") < one < working_bytes(SIZE, "float32", batch=80)
    found = chapter_bytes([Held(SIZE, x) for x in ("float32", "bfloat16", "bfloat16")])
    assert found == 4 * 10**6 + 2 * 10**6 + one


@pytest.mark.parametrize("bits", ["8-bit", "4-bit"])
def test_quantised_weights_are_counted_as_they_are_held(bits, tmp_path) -> None:
    """But for the scales of rows, which count only in models as small as this."""
    hf = tiny_hf("llama")
    numbers = sum(p.numel() for p in hf.parameters())
    hf.save_pretrained(tmp_path)
    model = load_folder(tmp_path, quantization=bits)
    assert numbers_of(load_folder(tmp_path, kv="grouped", quantization=bits).hf) == numbers
    size = ModelSize(
        parameters=numbers,
        layers=model.n_layers,
        heads=model.n_heads,
        kv_heads=model.n_kv_heads,
        width=model.d_model,
        head_width=model.d_head,
        hidden=model.d_mlp,
    )
    held = sum(p.numel() * p.element_size() for p in model.hf.parameters())
    if bits == "4-bit":
        states = [p.quant_state for p in model.hf.parameters() if hasattr(p, "quant_state")]
        held += sum(x.absmax.numel() * x.absmax.element_size() for x in states)
    assert Held(size, "float32", bits).weights == pytest.approx(held, rel=0.15)
    assert held < 0.8 * Held(size, "float32").weights


def test_a_damaged_table_is_a_sentence(tmp_path) -> None:
    folder = tmp_path / "data" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "chapters.json").write_text('{"rows": [{"chapter": "lens"}]}')
    with pytest.raises(ResultError, match="is damaged"):
        read_costs(tmp_path)
