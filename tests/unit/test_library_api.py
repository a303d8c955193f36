"""The short names: light to import, true to the library, and the page's example runs as it is."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch

import mechshift_lib as ms
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.config import ROOT
from mechshift_lib.errors import CircuitError
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
    with pytest.raises(CircuitError, match=r"'m0->a3.h1' is no edge .* m0->a3\.h1<q>"):
        ms.run_with(arm, items, ["m0->a3.h1"])
    with pytest.raises(CircuitError, match=r"Graph\.names"):
        ms.run_with(arm, items, ["?"])
    with pytest.raises(CircuitError, match="Give a list"):
        ms.run_with(arm, items, "m0->logits")


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
