"""The models in a browser: they compute what torch does, whatever is changed in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mechshift_lib.analyses.planning import PLACES, places
from mechshift_lib.circuits.evaluation.by_name import run_with
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.circuits.patching.cutting import attention_mask
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.models.loading import LoadedModel
from mechshift_lib.play.files import name_of
from mechshift_lib.tasks import pair_task
from mechshift_lib.tasks.infilling import Infilling
from tests.book.play_engine import PAIRS, Engine, examples, floats, loaded

pytestmark = pytest.mark.browser


def inputs(pair: str, model: LoadedModel) -> list[list[int]]:
    """An input of every task: with its answer for an ARM, with masks for an MDM."""
    found = []
    for task in load_pair(pair).tasks:
        (one,) = examples(pair, task, 1)
        own, mask = pair_task(load_pair(pair), task), model.mask_id
        if mask is None:
            found.append([*one.clean, *one.answer])
            continue
        found.append([*one.clean, *[mask] * len(one.answer)])
        if isinstance(own, Infilling):
            one = own.native(one, model.tokenizer)
            found.append([*one.clean, *[mask] * len(one.answer), *one.after])
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_logits_are_those_of_torch_for_every_shipped_model(engine: Engine, pair: str) -> None:
    (entry,) = [one for one in engine.entries if one.pair.name == pair]
    there = [(role, seed) for seed, roles in entry.trainings.items() for role in roles]
    shipped = {
        (role, seed)
        for seed in entry.pair.seeds
        for role in ("arm", "mdm", "continued", *entry.pair.variants)
        if (ROOT / entry.pair.model(role, seed).source.path).is_dir()
    }
    assert set(there) == shipped
    asked, wanted = [], []
    for role, seed in there:
        model = loaded(pair, role, seed)
        rows = inputs(pair, model)
        asked.append({"name": name_of(pair, role, seed), "inputs": rows})
        wanted.append([model.logits(torch.tensor([ids]))[0] for ids in rows])
    body = """for (const { name, inputs } of asked) {
      const one = await model(name);
      found.push(inputs.map(ids => bytes(one.run(ids).logits)));
    }"""
    for (role, seed), logits, shown in zip(there, wanted, engine.run(asked, body), strict=True):
        for expected, text in zip(logits, shown, strict=True):
            torch.testing.assert_close(
                floats(text).view_as(expected), expected, atol=1e-4, rtol=0, msg=f"{role} {seed}"
            )


def changed(engine: Engine, name: str, runs: Sequence[dict[str, Any]]) -> list[torch.Tensor]:
    """Logits of runs in the browser; a run has ``ids``, ``others`` (corrupted or None), and
    ``nodes``, ``edges`` or ``hidden``.
    """
    body = """const one = await model("NAME");
    for (const {ids, others, ...changes} of asked) {
      const {wrote} = others ? one.run(others, {keep: one.sources}) : {wrote: new Map()};
      found.push(bytes(one.run(ids, {...changes, instead: wrote}).logits));
    }""".replace("NAME", name)
    found = engine.run(runs, body)
    return [floats(one).view(len(run["ids"]), -1) for run, one in zip(runs, found, strict=True)]


def without(
    model: LoadedModel, ids: Sequence[int], nodes: Sequence[str], others: Sequence[int] | None
) -> torch.Tensor:
    """Logits by torch and hooks alone: nodes write zero, or what they do on the other input."""
    kept: dict[str, torch.Tensor] = {}
    hooks = []
    recording = True

    def heads(layer: int) -> Any:
        def hook(_module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            z = args[0].clone()
            if recording:
                kept[f"a{layer}"] = z
            else:
                for head in range(model.n_heads):
                    own = slice(head * model.d_head, (head + 1) * model.d_head)
                    if f"a{layer}.h{head}" in nodes:
                        z[..., own] = 0 if others is None else kept[f"a{layer}"][..., own]
            return (z,)

        return hook

    def mlp(layer: int) -> Any:
        def hook(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
            if recording:
                kept[f"m{layer}"] = output
            elif f"m{layer}" in nodes:
                return torch.zeros_like(output) if others is None else kept[f"m{layer}"]
            return output

        return hook

    for index, layer in enumerate(model.hf.model.layers):
        hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(heads(index)))
        hooks.append(layer.mlp.register_forward_hook(mlp(index)))
    model.logits(torch.tensor([list(others or ids)]))
    recording = False
    logits = model.logits(torch.tensor([list(ids)]))[0]
    for one in hooks:
        one.remove()
    return logits


@pytest.mark.parametrize(("pair", "role"), [("tiny-qwen", "mdm"), ("tiny-llama", "arm")])
def test_an_ablated_node_writes_zero_or_what_the_corrupted_run_writes(
    engine: Engine, pair: str, role: str
) -> None:
    model = loaded(pair, role, 0)
    (one,) = examples(pair, "infilling", 1)
    (item,) = model.readout.items(one, 0)[:1]
    runs = [
        {"ids": item.clean, "others": others, "nodes": nodes}
        for nodes in (["a0.h1"], ["m0"], ["a2.h0", "a2.h3", "m4", "a5.h2"])
        for others in (None, item.corrupted)
    ]
    found = changed(engine, f"{pair}/{role}.0", runs)
    intact = model.logits(torch.tensor([item.clean]))[0]
    for run, shown in zip(runs, found, strict=True):
        expected = without(model, run["ids"], run["nodes"], run["others"])
        torch.testing.assert_close(shown, expected, atol=1e-4, rtol=0)
        assert (expected - intact).abs().max() > 1e-3


@pytest.mark.parametrize(("pair", "role"), [("tiny-qwen", "mdm"), ("tiny-qwen", "arm")])
def test_a_cut_edge_carries_what_the_librarys_does(engine: Engine, pair: str, role: str) -> None:
    model = loaded(pair, role, 0)
    graph = Graph.for_model(model)
    (one,) = examples(pair, "countdown", 1)
    item = model.readout.items(one, 0)[0]
    sets = (
        ["input->a0.h1<q>"],
        ["a0.h0->a1.h3<k>", "m0->a1.h0<v>", "m0->a1.h2<v>"],
        ["a3.h2->m3", "input->m2", "a1.h1->logits", "m5->logits"],
        [name for name in graph.names if name.startswith("m1->")],
    )
    runs = []
    for edges in sets:
        for others in (None, item.corrupted):
            cut = [name.split("->") for name in edges]
            runs.append({"ids": item.clean, "others": others, "edges": cut})
    found = changed(engine, f"{pair}/{role}.0", runs)
    intact = model.logits(torch.tensor([item.clean]))[0][list(item.reads)]
    for run, shown in zip(runs, found, strict=True):
        cut = {"->".join(edge) for edge in run["edges"]}
        kept = [name for name in graph.names if name not in cut]
        ablation = "zero" if run["others"] is None else "resample"
        (expected,) = run_with(model, [item], kept, ablation=ablation).logits
        torch.testing.assert_close(shown[list(item.reads)], expected, atol=1e-4, rtol=0)
        assert (expected - intact).abs().max() > 1e-3


def test_waiting_masks_are_hidden_as_in_the_planning_analysis(engine: Engine) -> None:
    model = loaded("tiny-qwen", "mdm", 0)
    (one,) = examples("tiny-qwen", "countdown", 1)
    body = """const one = await model("tiny-qwen/mdm.0"), {prompt, n} = asked;
    const {steps, answer} = play.denoise(one, prompt, n, {order: "left-to-right"},
                                         {cutWaiting: true});
    found.push(answer, steps.map((step, i) => [...step.probabilities[i]]));"""
    asked = {"prompt": one.clean, "n": len(one.answer)}
    answer, shares = engine.run(asked, body)
    # Along the browser's own answer, every place with a metric so that it is read.
    told = tuple((token,) for token in answer)
    wrong = tuple(token + 1 for token in answer)
    own = replace(
        one, answer=tuple(answer), answers=told, distractor=wrong,
        distractors=tuple((token,) for token in wrong),
    )  # fmt: skip
    items = model.readout.items(own, 0)
    assert len(items) == len(answer) == 5
    moved = []
    for item, shown in zip(items, shares, strict=True):
        where = places(item, len(one.clean), model.mask_id)
        hidden = np.flatnonzero(where == PLACES.index("waiting")).tolist()
        ids = torch.tensor([item.clean])
        logits = []
        for positions in (hidden, []):
            mask = attention_mask(model, ids, [positions])
            with torch.no_grad():
                logits.append(model.hf(ids, attention_mask=mask).logits[0, item.reads[0]])
        for row in logits:
            row[model.mask_id] = -torch.inf
        expected, whole = (row.softmax(-1) for row in logits)
        torch.testing.assert_close(torch.tensor(shown), expected, atol=1e-5, rtol=0)
        moved.append(float((expected - whole).abs().max()))
    assert max(moved) > 1e-4, "what is hidden makes a difference"
