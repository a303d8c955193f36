"""Neurons explained: of a toy model, over trainings, in words, figures and a verdict."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from mechshift_lib.analyses import Study, neuron_tables, neurons, verdicts
from mechshift_lib.analyses.words import neurons as words
from mechshift_lib.analyses.words.formatting import MISSING
from mechshift_lib.comparison.published import read_table
from mechshift_lib.plots.alt import alt_text
from mechshift_lib.plots.neurons import plot_common, plot_counts, plot_scores
from mechshift_lib.semantics.neurons import neuron_activations, rotated
from mechshift_lib.semantics.rules import places
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.study import make_pair

MODELS = {"arm", "mdm", "continued"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("neurons")
    name = make_pair(root, tasks=("ioi", "countdown"), seeds=(0,), budget={"neuron_texts": 8})
    return Study.open(name, "book", str(root / "results"), "all", root)


def made(
    mdm: float, seeds: int = 5, *, control: bool = True, n: int = 60
) -> dict[str, pd.DataFrame]:
    """Tables with ``mdm`` more explanations (natural log) and as much less variance in the MDM."""
    sizes = {"arm": 0.0, "mdm": mdm} | ({"continued": 0.01, "matched": mdm} if control else {})
    sets, counts = [], []
    for seed, (model, size), threshold in itertools.product(
        range(seeds), sizes.items(), neurons.THRESHOLDS
    ):
        wobble = 0.0 if model in ("arm", "continued") else 0.004 * (seed % 3 - 1)
        about = {
            "seed": seed, "model": model, "state": "whole", "site": "stream", "basis": "own",
            "draw": 0, "threshold": threshold,
        }  # fmt: skip
        each = round(20 * math.exp(size + wobble))
        sets.append(
            about | {"neurons": 100, "explained": n, "score": 0.5, "information": 1.0, "raw": 2.0}
            | {"relative": math.exp(-size - wobble)}
        )  # fmt: skip
        for i in range(each):
            alike = n // each + (i < n % each)
            counts.append(about | {"said": f"is “{i}”", "n": alike})
    return {"sets": pd.DataFrame(sets), "counts": pd.DataFrame(counts)}


def test_activations_are_the_models_own(toy: Study) -> None:
    """Position by position against Hugging Face's hidden states, texts of any length in a batch."""
    model, texts = toy.model("arm", 0), neurons.read_texts(toy, 0)
    found = neuron_activations(model, texts, 3)
    starts = np.cumsum([0, *(len(text.ids) for text in texts)])
    assert len({len(text.ids) for text in texts}) > 2
    for i in (0, len(texts) - 1):
        ids = torch.tensor([texts[i].ids])
        states = model.hf(ids, output_hidden_states=True).hidden_states
        here = found["stream"][:, starts[i] : starts[i + 1]]
        np.testing.assert_allclose(here[0], states[1][0], rtol=1e-4, atol=1e-5)
        layer = model.hf.model.layers[1].mlp
        seen: dict[str, torch.Tensor] = {}
        hook = layer.down_proj.register_forward_pre_hook(
            lambda _, x, seen=seen: seen.update(x=x[0])
        )
        model.hf(ids)
        hook.remove()
        np.testing.assert_allclose(
            found["mlp"][1, starts[i] : starts[i + 1]], seen["x"][0].numpy(), rtol=1e-4, atol=1e-5
        )


def test_a_rotation_keeps_what_there_is() -> None:
    x = np.random.default_rng(1).normal(size=(2, 30, 6)).astype(np.float32)
    turned = rotated(x, 3)
    for a, b in zip(x, turned, strict=True):
        np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-4)
        assert abs(a - b).max() > 0.1
    assert (rotated(x, 3) == turned).all()
    assert abs(rotated(x, 4) - turned).max() > 0.1


def test_texts_are_examples_with_their_answers_and_filler(toy: Study) -> None:
    texts = neurons.read_texts(toy, 0)
    kinds = [text.kind for text in texts]
    assert [kinds.count(kind) for kind in ("ioi", "countdown", "filler")] == [8, 8, 8]
    example = toy.examples("countdown", 0)[0]
    assert texts[8].ids == (*example.clean, *example.answer)
    assert texts[8].tokens[texts[8].start :] == tuple(str(example.info and _answer(toy)).split())
    assert texts[0].tokens[0] == "a start or end"


def _answer(study: Study) -> str:
    example = study.examples("countdown", 0)[0]
    return study.model("arm", 0).tokenizer.decode(list(example.answer))


def test_both_halves_have_every_kind_of_text(toy: Study) -> None:
    texts = neurons.read_texts(toy, 0)
    reading = neurons._Reading.of(texts, texts)
    assert sorted(np.concatenate(reading.halves)) == list(range(len(places(texts))))
    first, second = ({reading.where[i, 0] for i in half} for half in reading.halves)
    assert not first & second, "no text is in both"
    assert {texts[i].kind for i in first} == {texts[i].kind for i in second}


def test_a_planted_neuron_is_explained_and_chance_is_not(toy: Study) -> None:
    texts = neurons.read_texts(toy, 0)
    reading = neurons._Reading.of(texts, texts)
    n = sum(len(text.ids) for text in texts)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, n, 2)).astype(np.float32)
    rule = reading.explainer.rules.names.index("is another word")
    x[0, reading.rows, 0] += 4 * reading.explainer.rules.truth[:, rule]
    found, said = reading.explain(x)
    assert found.said[0] == "is another word"
    assert said[0].inside - said[0].outside == pytest.approx(4, abs=0.6)
    assert found.score[0] > 0.8
    assert abs(found.score[1]) < 0.3
    assert found.information[0] > 5 * abs(found.information[1])
    # Another scale and place makes no difference to what is judged.
    again, _ = reading.explain(100 - 7 * x)
    pd.testing.assert_frame_equal(
        again.drop(columns="raw"), found.drop(columns="raw"), rtol=1e-3, atol=0.02
    )


def test_tables_of_a_toy_pair(toy: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = neurons.tables(toy)
    every = tables["neurons"]
    assert len(every) == len(MODELS) * 2 * (32 + 64)
    for _, part in every.groupby(["model", "site"]):
        assert part.attributed.sum() == pytest.approx(1)
    for _, part in every.groupby(["model", "site", "layer"]):
        assert part.relative.mean() == pytest.approx(1)
    sets = tables["sets"]
    own = sets[(sets.state == "whole") & (sets.basis == "own") & (sets.site == "stream")]
    good = every[(every.site == "stream") & (every.score >= 0.5)]
    for model in MODELS:
        [row] = own[(own.model == model) & (own.threshold == 0.5)].itertuples()
        assert row.explained == (good.model == model).sum()
    assert set(sets[sets.state == "masked"].model) == {"mdm"}
    by = ["seed", "model", "state", "site", "basis", "draw", "threshold"]
    total = tables["counts"].groupby(by).n.sum()
    assert total.to_dict() == {k: v for k, v in sets.set_index(by).explained.items() if v}

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(neurons, "explained", refuse)
    pd.testing.assert_frame_equal(neurons.tables(toy)["sets"], sets)


def test_what_is_said_and_drawn(toy: Study) -> None:
    tables = neurons.tables(toy)
    measured = neuron_tables.measured(tables)
    judged, over = neuron_tables.judged(measured), neuron_tables.over_trainings(measured)
    assert len(judged) == len(MODELS)
    common = neuron_tables.common(tables["counts"])
    found = {
        "scored": words.scored(measured, tables["check"]),
        "named": words.named(tables["top"], 0),
        "common": words.common(common, 1),
    }
    for name, one in found.items():
        assert "nan" not in one.said, name
        assert MISSING not in one.said, name
    assert "1 training, which decides nothing" in found["scored"].said
    table = found["named"].table
    assert table is not None
    assert table["strongest at"].str.contains(r"\[.+\]").all()
    assert "in the ARM" in words.counted(measured, judged, over).said
    assert len(words.measures(measured)) == len(measured)
    assert len(neuron_tables.best(tables["neurons"], 0)) == len(MODELS) * 2 * neuron_tables.FOLDED
    figures = [
        plot_scores(tables["neurons"], 0.1, 0.5),
        plot_common(common),
        plot_counts(neuron_tables.compared(measured)),
    ]
    assert all(len(alt_text(fig)) > 60 for fig in figures)


def test_a_language_model_explains_the_same_neurons(toy: Study, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_word_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=1024, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    top = neurons.tables(toy)["top"]
    found = neurons.second_opinion(toy, 0, str(tmp_path), top[top.model == "arm"])
    assert len(found) == neurons.LISTED
    assert found.rule.tolist() == top[(top.model == "arm") & (top.site == "stream")].said.tolist()
    assert found.score.between(-1, 1).all()
    assert "A language model on this machine" in words.local(found, 0).said


def test_explanations_are_counted_among_as_many() -> None:
    """The ARM has 60 explained coordinates, the MDM 120 with as many of each explanation."""
    tables, more = made(0.0, seeds=3), made(0.0, seeds=3, n=120)
    parts = {
        name: pd.concat([tables[name].query("model != 'mdm'"), more[name].query("model == 'mdm'")])
        for name in tables
    }
    measured = neuron_tables.measured({name: x.reset_index(drop=True) for name, x in parts.items()})
    judged = neuron_tables.judged(measured).set_index(["seed", "model"])
    assert judged.m.unique().tolist() == [60]
    assert judged.distinct[0, "arm"] == pytest.approx(20)
    assert 18 < judged.distinct[0, "mdm"] < 20
    assert judged.unique[0, "mdm"] == 20


@pytest.mark.parametrize(
    ("mdm", "outcome"), [(0.5, "reproduced"), (-0.5, "reversed"), (0.02, "not reproduced")]
)
def test_c4_is_decided_over_trainings(
    toy: Study, mdm: float, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neurons, "tables", lambda _: made(mdm))
    [found] = verdicts.of(toy, "C4")
    assert found.outcome == outcome
    assert found.contrasts == 6
    assert found.page == "neurons"
    signs = neuron_tables.more(neuron_tables.measured(made(mdm)), "relative")["mdm"]
    assert (np.sign(signs) == np.sign(mdm)).all()


def test_c4_needs_trainings_a_control_and_explained_coordinates(
    toy: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made_up, said, outcome in (
        (made(0.5, seeds=2), "intervals over trainings", "undecided"),
        (made(0.5, control=False), "the continued ARM", "undecided"),
        (made(0.5, n=2), "too few coordinates", "doesn't apply"),
    ):
        monkeypatch.setattr(neurons, "tables", lambda _, made_up=made_up: made_up)
        [found] = verdicts.of(toy, "C4")
        assert found.outcome == outcome
        assert said in found.missing


def test_a_pair_that_solves_nothing_has_nothing_to_explain(tmp_path: Path) -> None:
    name = make_pair(tmp_path, tasks=("ioi",), seeds=(0,))
    study = Study.open(name, "book", str(tmp_path / "results"), "common-correct", tmp_path)
    assert neurons.asked(study) == {}
    [verdict] = verdicts.of(study, "C4")
    assert verdict.outcome == "doesn't apply"


def test_the_published_numbers_are_beside_ours() -> None:
    table = words.published(read_table("explanations"))
    assert table["unique explanations"].tolist() == ["266", "426"]
    assert table["variance"].tolist() == ["136,738.5", "41,015.5"]
    assert table["its square root"].tolist() == ["370", "203"]


def test_texts_in_another_order_leave_nothing_to_find(toy: Study) -> None:
    """A neuron that is a kind of text: a shift alike in both halves would leave a rule for it."""
    texts = neurons.read_texts(toy, 0)
    reading = neurons._Reading.of(texts, texts)
    kinds = [text.kind == "ioi" for text in texts for _ in text.ids]
    x = np.array(kinds, dtype=np.float32)[None, :, None]
    assert reading.explain(x)[0].score[0] == pytest.approx(1)
    assert reading.explain(x, moved=True)[0].score[0] < 0.8
    for half in reading.halves:
        assert sorted(reading._reordered(half)) == list(range(len(half)))
    assert (x[0, reading.rows, 0] == [texts[i].kind == "ioi" for i, _ in reading.where]).all()
