"""Lenses: every layer's reading by hand, translators that start as nothing and never do harm."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechshift_lib.config import load_pair
from mechshift_lib.diffusion.corpus import draw_batch
from mechshift_lib.errors import ModelError
from mechshift_lib.models.loading import load_model, wrap_model
from mechshift_lib.models.readout import Mask, ShiftedMask
from mechshift_lib.semantics import lens as lens_module
from mechshift_lib.semantics import lens_training
from mechshift_lib.semantics.lens import (
    TunedLens,
    lens_logits,
    load_lens,
    read_answers,
    save_lens,
    top_tokens,
)
from mechshift_lib.semantics.lens_training import Corpus, LensSettings, streamed, train_lens
from tests.support.study import make_pair
from tests.support.tiny import tiny_hf, tiny_items

MASK = 39


def tiny(architecture="qwen2", attention="causal", readout=None):
    mask = None if readout is None else MASK
    return wrap_model(tiny_hf(architecture), attention=attention, readout=readout, mask_id=mask)


def random_lens(model):
    torch.manual_seed(3)
    n, d = model.n_layers, model.d_model
    return TunedLens(0.1 * torch.randn(n, d, d), 0.1 * torch.randn(n, d))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("attention", ["causal", "full"])
def test_readings_are_those_of_the_hidden_states_that_hugging_face_gives(
    architecture, attention, monkeypatch
):
    monkeypatch.setattr(lens_module, "MOST", 3 * 40)  # three places at a time
    model = tiny(architecture, attention)
    items = tiny_items(3, reads=2) + tiny_items(2, length=6, seed=1)
    # Three right tokens and two wrong ones at one place.
    items[0] = replace(
        items[0],
        answers=((1, 2, 3), *items[0].answers[1:]),
        distractors=((4, 5), *items[0].distractors[1:]),
    )
    lens = random_lens(model)
    found = read_answers(model, items, lens, 2).set_index(["row", "at", "layer", "read"])
    assert len(found) == (3 * 2 + 2) * (model.n_layers + 1) * 3
    base = model.hf.model if architecture == "llama" else model.hf.transformer
    norm, head = (base.norm if architecture == "llama" else base.ln_f), model.hf.lm_head
    for row, item in enumerate(items):
        arguments = model.arguments(torch.tensor([item.clean]))
        out = model.hf(**arguments, output_hidden_states=True)
        for at, place in enumerate(item.reads):
            own = out.logits[0, place].log_softmax(-1)
            for layer in range(model.n_layers):
                x = out.hidden_states[layer][0, place]
                moved = x + lens.weight[layer] @ x + lens.bias[layer]
                for read, logits in (
                    ("logit", head(norm(x))),
                    ("raw", head(x)),
                    ("tuned", head(norm(moved))),
                ):
                    one = found.loc[(row, at, layer, read)]
                    p = logits.softmax(-1)
                    right = list(item.answers[at])
                    best = max(float(logits[t]) for t in right)
                    ahead = sum(
                        float(logits[t]) > best for t in range(len(logits)) if t not in right
                    )
                    assert one["rank"] == ahead
                    assert one.probability == pytest.approx(float(p[right].sum()), abs=1e-5)
                    wrong = list(item.distractors[at])
                    assert one.distractor == pytest.approx(float(p[wrong].sum()), abs=1e-5)
                    assert one.entropy == pytest.approx(float(-(p * p.log()).sum()), abs=1e-4)
                    kl = float((own.exp() * (own - p.log())).sum())
                    assert one.kl == pytest.approx(kl, abs=1e-4)
            for read in ("logit", "tuned"):  # the last layer is the model
                one = found.loc[(row, at, model.n_layers, read)]
                assert one.kl == pytest.approx(0, abs=1e-5)
                share = float(own.exp()[list(item.answers[at])].sum())
                assert one.probability == pytest.approx(share, abs=1e-5)
    assert found.xs("raw", level="read").xs(model.n_layers, level="layer").kl.max() > 0.01


def test_translators_start_as_the_identity():
    model = tiny()
    items = tiny_items(3)
    found = read_answers(model, items, TunedLens.identity(model), 3)
    tuned, logit = (
        found[found["read"] == read].drop(columns="read").reset_index(drop=True)
        for read in ("tuned", "logit")
    )
    assert tuned.equals(logit)
    moved = read_answers(model, items, random_lens(model), 3)
    assert not np.allclose(moved[moved["read"] == "tuned"].kl, tuned.kl)
    assert set(read_answers(model, items, None, 3)["read"]) == {"logit", "raw"}


def test_the_grid_ends_with_what_the_model_says():
    model = tiny("qwen2", "full", ShiftedMask(MASK))
    ids = list(tiny_items(1)[0].clean)
    for read in ("logit", "raw"):
        tokens, shares = top_tokens(model, ids, read, None)
        own = model.logits(torch.tensor([ids]))[0].softmax(-1).max(-1)
        assert tokens.shape == (model.n_layers + 1, len(ids))
        assert tokens[-1].tolist() == own.indices.tolist()
        assert torch.allclose(shares[-1], own.values, atol=1e-5)


def test_a_lens_is_of_one_model_and_a_file_of_one_lens(tmp_path):
    model = tiny()
    lens = replace(random_lens(model), about={"model": "abc"})
    path = save_lens(tmp_path / "deep" / "one.safetensors", lens)
    again = load_lens(path)
    assert again.about == {"model": "abc"}
    assert torch.allclose(again.weight, lens.weight, atol=1e-3)
    assert torch.equal(load_lens(save_lens(path, again)).bias, again.bias)
    x = torch.zeros(2, model.d_model)
    with pytest.raises(ModelError, match="0 to 2"):
        lens_logits(model, x, 3, "logit")
    with pytest.raises(ModelError, match="translators of this model"):
        lens_logits(model, x, 0, "tuned")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ModelError, match="missing or damaged"):
        load_lens(path)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    make_pair(root, seeds=(0,))
    pair = load_pair("toy", root)
    return pair, {role: load_model(pair.model(role), root=root) for role in ("arm", "mdm")}


def test_streams_are_read_where_tokens_are_predicted(toy):
    pair, models = toy
    corpus = Corpus.of(pair, "mdm")
    batch = draw_batch(corpus.draws, corpus.mix, models["arm"].tokenizer, 5, (0, "lens-choose", 0))
    # ARM: every token but the first, one position before its own; padding changes nothing.
    drawn = set()
    found = next(streamed(models["arm"], corpus, 0, "choose", 5, drawn=drawn))
    texts = [t[p].tolist() for t, p in zip(batch.ids, batch.present, strict=True)]
    assert drawn == set(map(tuple, texts))
    last = []
    for text in texts:
        states = models["arm"].hf(torch.tensor([text]), output_hidden_states=True).hidden_states
        last.append(states[1][0, :-1])
    assert torch.allclose(found[1], torch.cat(last), atol=1e-4)
    # MDM: only what is masked, which is in answers only where nobody says more.
    masked = next(streamed(models["mdm"], corpus, 0, "choose", 5))
    assert 5 <= masked.shape[1] <= batch.answer.sum()
    # In place: the stream at the mask itself, which says less of what stands before it.
    here = replace(models["mdm"], readout=Mask(models["mdm"].mask_id))
    own = next(streamed(here, corpus, 0, "choose", 5))
    embed = models["mdm"].hf.get_input_embeddings().weight[models["mdm"].mask_id]
    assert torch.allclose(own[0], embed.expand_as(own[0]))
    assert not torch.allclose(masked[0], own[0])
    # Texts that are known elsewhere are left out.
    assert next(streamed(models["arm"], corpus, 0, "choose", 5, drawn)).shape[1] == 0
    fewer = next(streamed(models["arm"], corpus, 0, "choose", 5, set(list(drawn)[1:])))
    assert 0 < fewer.shape[1] < found.shape[1]


@pytest.mark.parametrize("role", ["arm", "mdm"])
def test_training_comes_closer_and_is_the_same_bit_for_bit(toy, role):
    pair, models = toy
    settings = LensSettings(steps=25, texts=12, lr=1e-2, held_out=2)
    lens = train_lens(models[role], pair, role, 0, settings, {"model": "abc"})
    assert lens.about["model"] == "abc"
    for layer in lens.about["layers"]:
        assert layer["used"]
        assert layer["chosen_tuned"] < layer["chosen_logit"]
        assert layer["tuned"] < 0.9 * layer["logit"]
    assert lens.about["n"] > 20
    again = train_lens(models[role], pair, role, 0, settings)
    assert torch.equal(again.weight, lens.weight)
    assert torch.equal(lens.weight, lens.weight.half().float())  # as it is stored


def test_a_translator_that_does_not_help_is_not_used(toy, monkeypatch):
    pair, models = toy
    ruined = LensSettings(steps=1, texts=12, lr=1e6, held_out=1)  # beyond half precision
    lens = train_lens(models["arm"], pair, "arm", 0, ruined)
    assert not lens.weight.any()
    assert not lens.bias.any()
    for layer in lens.about["layers"]:
        assert not layer["used"]
        assert not layer["chosen_tuned"] < layer["chosen_logit"]
        assert layer["tuned"] == layer["logit"]
    # One layer alone may help: the others stay the identity.
    real = lens_training.divergences

    def first_only(model, streams, lens):
        found = real(model, streams, lens)
        return torch.cat([found[:1], found[1:] + 9 * bool(lens.weight.any())])

    monkeypatch.setattr(lens_training, "divergences", first_only)
    lens = train_lens(models["arm"], pair, "arm", 0, LensSettings(20, 12, 1e-2, 1))
    assert [layer["used"] for layer in lens.about["layers"]] == [True, False]
    assert lens.weight[0].any()
    assert not lens.weight[1].any()
