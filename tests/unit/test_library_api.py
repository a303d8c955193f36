"""The short names: light to import, true to the library, and the page's example runs as it is."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import mechshift_lib as ms
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.config import ROOT
from mechshift_lib.errors import CircuitError, TaskError
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.models.readout import Item


@pytest.fixture(scope="module")
def arm() -> LoadedModel:
    return ms.load_model(ms.load_pair("tiny-llama").model("arm"))


@pytest.fixture(scope="module")
def items(arm: LoadedModel) -> list[Item]:
    return ms.ask(arm, ms.load_pair("tiny-llama"), "ioi", n=3)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "('torch', 'transformers', 'nnsight', 'pandas')"
    code = f"import sys, mechshift_lib; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_short_name_is_there_and_no_other() -> None:
    for name in ms.__all__:
        assert getattr(ms, name) is not None
        assert name in dir(ms)
    with pytest.raises(AttributeError, match="no attribute 'circus'"):
        ms.circus  # noqa: B018


def test_all_edges_are_the_plain_run_and_none_the_corrupted_one(
    arm: LoadedModel, items: list[Item]
) -> None:
    names = ms.Graph.for_model(arm).names
    whole, none = ms.run_with(arm, items, names), ms.run_with(arm, items, [])
    assert whole.metric == pytest.approx(whole.clean, abs=1e-4)
    assert none.metric == pytest.approx(none.corrupted, abs=1e-4)
    assert whole.edges == tuple(names)
    for item, found in zip(items, whole.logits, strict=True):
        plain = arm.logits(torch.tensor([item.clean]))[0, list(item.reads)]
        assert torch.allclose(found, plain, atol=1e-4)


def test_leaving_one_edge_out_costs_its_exact_score(arm: LoadedModel, items: list[Item]) -> None:
    graph = ms.Graph.for_model(arm)
    circuit = ms.attribute(arm, items).circuit
    edge = circuit.strongest(1)[0]
    found = ms.run_with(arm, items, [name for name in graph.names if name != edge])
    exact = exact_scores(arm, items, edges=[graph.index(edge)]).by_example[:, graph.index(edge)]
    assert found.clean - found.metric == pytest.approx(exact, abs=1e-4)
    assert abs(exact).max() > 0.1


def test_names_are_a_set_and_examples_are_asked_through_the_readout(arm: LoadedModel) -> None:
    from mechshift_lib.tasks import pair_task

    examples = pair_task(ms.load_pair("tiny-llama"), "ioi").examples(arm.tokenizer, 3, 0)
    names = ["m0->logits", "input->m0", "a0.h1->m3", "input->a2.h0<q>"]
    one = ms.run_with(arm, examples, names, ablation="mean")
    other = ms.run_with(arm, examples, [*reversed(names), names[0]], ablation="mean")
    assert np.array_equal(one.metric, other.metric)
    assert one.edges == other.edges
    assert set(one.edges) == set(names)


def test_lengths_and_steps_may_differ() -> None:
    pair = ms.load_pair("tiny-llama")
    mdm = ms.load_model(pair.model("mdm"))
    items = ms.ask(mdm, pair, "infilling", n=3) + ms.ask(mdm, pair, "ioi", n=1)
    found = ms.run_with(mdm, items, ms.Graph.for_model(mdm).names)
    assert len(found.logits) == len(items) == 7  # two steps of three, and one
    for item, logits in zip(items, found.logits, strict=True):
        plain = mdm.logits(torch.tensor([item.clean]))[0, list(item.reads)]
        assert torch.allclose(logits, plain, atol=1e-4)


def test_an_unknown_edge_is_told_its_neighbours(arm: LoadedModel, items: list[Item]) -> None:
    with pytest.raises(CircuitError, match=r"'m0->a3.h1': did you mean .*'m0->a3\.h1<q>'"):
        ms.run_with(arm, items, ["m0->a3.h1"])
    with pytest.raises(CircuitError, match=r"'\?': this graph has 6 layers .*'m5->logits'\.$"):
        ms.run_with(arm, items, ["?"])
    with pytest.raises(CircuitError) as long:
        ms.run_with(arm, items, ["x" * 10**5])
    assert len(str(long.value)) <= 400
    with pytest.raises(CircuitError, match="Give a list"):
        ms.run_with(arm, items, "m0->logits")


def test_near_names_are_found_at_once_in_a_large_graph() -> None:
    large = ms.Graph(n_layers=28, n_heads=28, n_kv_heads=4)
    began = time.perf_counter()
    assert "a18.h25->a20.h24<v>" in large.near("a18.h25->a20.h24.v")
    # its million names, compared one by one, take minutes
    assert time.perf_counter() - began < 30
    assert all(large.index(edge) for edge in large.near("m3->m2"))  # m2 reads before m3 writes


def test_own_words_ask_as_the_task_does(arm: LoadedModel, items: list[Item]) -> None:
    text = arm.tokenizer.decode
    asked = ms.ask_text(
        arm,
        *(text(ids, skip_special_tokens=True) for ids in (items[0].clean, items[0].corrupted)),
        *(" " + text(ids[0]) for ids in (items[0].answers, items[0].distractors)),
    )
    assert asked == [items[0]]


def test_own_words_may_have_answers_of_several_tokens(arm: LoadedModel) -> None:
    pair = ms.load_pair("tiny-llama")
    words = ("The cat and the", "The dog and the", " red bird", " blue bird")
    known = [word for word in words if arm.tokenizer.unk_token not in arm.tokenizer.tokenize(word)]
    assert known == list(words)
    (item,) = ms.ask_text(arm, *words)
    assert len(item.reads) == 1  # " bird" is both answer and distractor
    (masked,) = ms.ask_text(ms.load_model(pair.model("mdm")), *words)
    assert (masked.step, len(masked.clean)) == (0, len(item.clean) + 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("The zyzzyva and the", "The dog and the", " man", " cat"), "doesn't know a word"),
        (("The cat", "The dog and the", " red", " blue"), "prompts have 3 and 5 tokens"),
        (("The cat", "The cat", " red", " blue"), "prompts have the same tokens"),
        (("The cat", "The dog", " red", " red"), "answers have the same tokens"),
        (("year 1", "year 2", "7", "8"), "merges the end"),
        (("The cat", "The dog", "", " red"), "'' has no tokens"),
    ],
)
def test_words_that_cannot_be_asked_are_refused(
    arm: LoadedModel, words: tuple[str, str, str, str], said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        ms.ask_text(arm, *words)
    with pytest.raises(TaskError, match="no tokenizer"):
        ms.ask_text(dataclasses.replace(arm, tokenizer=None), *words)


def code_of(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return list(re.findall(r"```python\n(.*?)```", text, flags=re.S))


@pytest.mark.parametrize("page", ["book/library.md", "README.md"])
def test_the_pages_example_runs_as_it_stands(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    [block] = [block for block in code_of(page) if "mechshift_lib as ms" in block]
    space: dict[str, object] = {}
    exec(compile(block, page, "exec"), space)
    intact = space["intact"]
    assert np.isfinite(intact.metric).all()  # type: ignore[attr-defined]
    if page.startswith("book"):
        assert "torch.Size" in capsys.readouterr().out
