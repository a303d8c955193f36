"""Streams of several models at the same tokens, and runs on what a dictionary makes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechshift_lib.errors import ModelError
from mechshift_lib.models.loading import wrap_model
from mechshift_lib.models.readout import Item, ShiftedMask
from mechshift_lib.semantics.dictionary import Dictionary, Settings
from mechshift_lib.semantics.dictionary_runs import asked_texts, effects, losses
from mechshift_lib.semantics.views import Texts, View, rows, streams
from tests.support.tiny import tiny_hf

MASK, WIDTH = 39, 16


@pytest.fixture(scope="module")
def models():
    arm = wrap_model(tiny_hf("qwen2"))
    mdm = wrap_model(
        tiny_hf("llama", seed=1), attention="full", readout=ShiftedMask(MASK), mask_id=MASK
    )
    return arm, mdm


def texts() -> Texts:
    """Two texts of 6 and 4 tokens; two tokens of the first are hidden, one of the second."""
    ids = torch.tensor([[1, 5, 6, 7, 8, 9], [1, 4, 3, 2, 0, 0]])
    present = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    hidden[0, 2] = hidden[0, 4] = hidden[1, 3] = True
    return Texts(ids, present, hidden)


def exact(width: int, n_models: int) -> Dictionary:
    """A dictionary whose features are coordinates, positive and negative: it loses nothing."""
    eye = torch.eye(n_models * width)
    both = torch.cat([eye, -eye])
    decoder = both.unflatten(1, (n_models, width))
    return Dictionary(
        encoder=decoder.permute(1, 2, 0),
        encoder_bias=torch.zeros(len(both)),
        decoder=decoder,
        bias=torch.zeros(n_models, width),
        mean=0.1 * torch.ones(n_models, width),
        scale=torch.full((n_models,), 2.0),
        threshold=torch.tensor(0.0),
        settings=Settings(len(both), 1),
    )


def test_every_view_is_the_hidden_state_of_what_it_is_shown(models):
    arm, mdm = models
    batch = texts()
    found = streams([View(arm), View(mdm), View(mdm, True)], batch, 1)
    masked = batch.ids.masked_fill(batch.hidden, MASK)
    for number, (model, ids) in enumerate(((arm, batch.ids), (mdm, batch.ids), (mdm, masked))):
        for row, length in enumerate((6, 4)):  # without the padding
            given = model.arguments(ids[row : row + 1, :length])
            states = model.hf(**given, output_hidden_states=True).hidden_states
            assert torch.allclose(found[row, :length, number], states[1][0], atol=1e-5)
    assert not torch.allclose(found[0, 3, 1], found[0, 3, 2])  # a mask is seen from elsewhere
    counted = next(rows([View(arm)], iter([batch]), 1))
    assert torch.equal(counted[:, 0], torch.cat([found[0, 1:, 0], found[1, 1:4, 0]]))
    with pytest.raises(ModelError, match="no mask token"):
        streams([View(arm, True)], batch, 1)
    with pytest.raises(ModelError, match="no layer 2"):
        streams([View(arm)], batch, 2)


def test_losses_are_those_of_hugging_face_and_nothing_is_lost_by_an_exact_dictionary(models):
    arm, mdm = models
    batch = texts()
    views = [View(arm), View(mdm, True)]
    whole = exact(arm.d_model, 2)
    for number, model in enumerate(models):
        found, n = losses(views, whole, [batch, batch], 1, number)
        ids = views[number].shown(batch)
        wanted = []
        for row, length in enumerate((6, 4)):
            logits = model.hf(**model.arguments(ids[row : row + 1, :length])).logits[0].clone()
            if model is mdm:
                logits[:, MASK] = -torch.inf
            asked = batch.hidden if model is mdm else batch.counted
            wanted += [
                -float(logits[i - 1].log_softmax(-1)[batch.ids[row, i]])
                for i in range(1, length)
                if asked[row, i]
            ]
        assert n == 2 * len(wanted) == (6 if model is mdm else 16)
        assert found[0] == pytest.approx(np.mean(wanted), abs=1e-5)
        assert found[1] == pytest.approx(found[0], abs=1e-4)
        assert abs(found[2] - found[0]) > 1e-3
        # Without any feature, the reconstruction is the mean.
        none = replace(whole, threshold=torch.tensor(1e9))
        assert losses(views, none, [batch], 1, number)[0][1] == pytest.approx(found[2], abs=1e-5)


def test_taking_features_out_is_what_the_literal_run_gives(models):
    arm, mdm = models
    text = (1, 5, 6, 7, 8, 9)
    items = [
        Item(0, 0, (1, 5, 6, MASK, MASK, MASK), (1,) * 6, (2,), ((7,),), ((3, 4),)),
        Item(0, 1, (1, 5, 6, 7, MASK, MASK), (1,) * 6, (3,), ((8, 9),), ((2,),)),
    ]
    views, one = [View(arm), View(mdm, True)], exact(arm.d_model, 2)
    # Coordinate 3 of the second model, on either side; and one of the first, which changes nothing.
    width = arm.d_model
    own = [width + 3, 3 * width + 3]
    found = effects(views, one, 1, items, lambda _: text, [own, [3], []], 5)
    assert found.shape == (4, 2)
    layer = mdm.hf.model.layers[1]
    for number, item in enumerate(items):
        ids = torch.tensor([item.clean])
        assert torch.equal(views[1].shown(asked_texts([item], [text], MASK)), ids)
        for row, cut in ((0, False), (1, True), (2, False), (3, False)):
            first = item.clean.index(MASK)

            def hook(_module, args, kwargs, cut=cut, first=first):
                stream = (args[0] if args else kwargs["hidden_states"]).clone()
                if cut:
                    stream[:, 1:first, 3] = one.mean[1, 3]
                if args:
                    return (stream, *args[1:]), kwargs
                return args, kwargs | {"hidden_states": stream}

            handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
            logits = mdm.hf(**mdm.arguments(ids)).logits[0, item.reads[0]]
            handle.remove()
            right, wrong = (logits[list(x[0])].mean() for x in (item.answers, item.distractors))
            assert found[row, number] == pytest.approx(float(right - wrong), abs=1e-4)
    assert np.abs(found[1] - found[0]).max() > 1e-3
