"""Dictionaries: planted ones are found, streams keep to their budget, files fit their models."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.semantics.dictionary import (
    Dictionary,
    Settings,
    load_dictionary,
    relative_norm,
    save_dictionary,
)
from mechshift_lib.semantics.dictionary_measures import (
    explained,
    kinds,
    latent_scaling,
    matching,
)
from mechshift_lib.semantics.dictionary_training import shuffled, train_dictionary

D, TRUE = 16, 24


def planted(models, seed=0):
    """True features; of two models the first 4 are of the first only, the last 4 of the second."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(TRUE, models, D, generator=generator)
    if models == 2:
        truth[:4, 1] = 0
        truth[-4:, 0] = 0
    return truth / truth.flatten(1).norm(dim=1)[:, None, None]


def planted_share(truth):
    norms = truth.norm(dim=2)
    return norms[:, 1] / norms.sum(1)


def batches(truth, n, batch=256, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        on = torch.rand(batch, TRUE, generator=generator) < 2 / TRUE
        size = on * (0.5 + torch.rand(batch, TRUE, generator=generator))
        yield (size @ truth.flatten(1)).unflatten(1, truth.shape[1:])


SETTINGS = Settings(features=32, k=3, steps=500, batch=256, lr=5e-3)


@pytest.fixture(scope="module")
def crosscoder():
    truth = planted(2)
    return truth, train_dictionary(batches(truth, 1500), replace(SETTINGS, steps=1500))


def test_an_sae_recovers_a_planted_dictionary():
    truth = planted(1)
    found = train_dictionary(batches(truth, 500), SETTINGS)
    assert matching(truth, found.decoder) >= 0.9
    assert matching(truth, torch.randn_like(found.decoder)) < 0.75
    (share,), l0, density = explained(found, next(batches(truth, 1, 2000, seed=5)))
    assert share > 0.85
    assert 1 < l0 < 5
    assert density.sum() == pytest.approx(l0)


def test_a_crosscoder_recovers_it_and_whose_each_feature_is(crosscoder):
    truth, found = crosscoder
    assert matching(truth, found.decoder) >= 0.9
    cosine = torch.nn.functional.cosine_similarity(
        truth.flatten(1)[:, None], found.decoder.flatten(1)[None], dim=2
    )
    best = cosine.argmax(1)
    share = relative_norm(found)[best]
    assert share[:4].max() < 0.2  # truly 0
    assert share[-4:].min() > 0.8  # truly 1
    alike = share[4:-4][(planted_share(truth)[4:-4] - 0.5).abs() < 0.1]
    assert len(alike) > 4
    assert (alike - 0.5).abs().max() < 0.25


def test_latent_scaling_tells_an_artefact_from_a_feature_of_one_model(crosscoder):
    truth, found = crosscoder
    x = next(batches(truth, 1, 2000, seed=5))
    relative = relative_norm(found).numpy()
    errors, decoded = latent_scaling(found, x)
    alone = relative > 0.9
    assert alone.any()
    assert np.nanmax(np.abs(errors[alone])) < 0.4
    assert np.nanmax(np.abs(decoded[alone])) < 0.5
    # the same crosscoder with a shared feature's second vector taken away
    at = int(np.flatnonzero((np.abs(relative - 0.5) < 0.1) & np.isfinite(errors))[0])
    decoder = found.decoder.clone()
    decoder[at, 1] = 0
    encoder = found.encoder
    cut = Dictionary(
        encoder,
        found.encoder_bias,
        decoder,
        found.bias,
        found.mean,
        found.scale,
        found.threshold,
        found.settings,
    )
    assert relative_norm(cut)[at] == 0
    before = latent_scaling(cut, x)[0][at]
    own = found.decoder[at]
    expected = float(own[0] @ own[1] / own[0].square().sum())
    assert before == pytest.approx(expected, abs=0.35)


def test_training_is_the_same_bit_for_bit_and_another_seed_differs():
    truth = planted(1)
    short = Settings(features=32, k=3, steps=30, batch=256)
    a, b = (train_dictionary(batches(truth, 30), short) for _ in range(2))
    assert torch.equal(a.decoder, b.decoder)
    assert torch.equal(a.threshold, b.threshold)
    other = train_dictionary(batches(truth, 30), Settings(32, 3, 30, 256, seed=1))
    assert not torch.equal(a.decoder, other.decoder)


def test_encode_decode_by_hand():
    one = Dictionary(
        encoder=torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]),
        encoder_bias=torch.zeros(2),
        decoder=torch.eye(2)[:, None],
        bias=torch.zeros(1, 2),
        mean=torch.tensor([[1.0, 1.0]]),
        scale=torch.tensor([2.0]),
        threshold=torch.tensor(0.75),
        settings=Settings(2, 1),
    )
    features = one.encode(torch.tensor([[[5.0, 2.0]], [[0.0, 3.0]]]))
    assert features.tolist() == [[2.0, 0.0], [0.0, 1.0]]
    assert one.decode(features).squeeze(1).tolist() == [[5.0, 1.0], [1.0, 3.0]]
    with pytest.raises(ModelError, match="of 1 model"):
        one.encode(torch.zeros(3, 2, 2))
    with pytest.raises(ModelError, match="two models"):
        relative_norm(one)


def test_kinds_by_their_bounds():
    assert kinds(np.array([0.05, 0.2, 0.5, 0.8, 0.95])).tolist() == [
        "first only",
        "leaning to first",
        "shared",
        "leaning to second",
        "second only",
    ]


def test_a_stream_gives_every_row_once_in_another_order_within_its_budget(monkeypatch):
    rows = torch.arange(1000.0)[:, None, None].expand(-1, 1, 4)
    made = []
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *s, **k: made.append(s) or empty(*s, **k))
    memory = 64 * 4 * 4
    found = list(shuffled(iter(rows.split(37)), 10, memory, seed=0))
    assert made == [(64, 1, 4)]
    values = torch.cat(found)[:, 0, 0]
    assert sorted(values.tolist()) == list(range(1000))
    assert values.tolist() != sorted(values.tolist())
    again = list(shuffled(iter(rows.split(37)), 10, memory, seed=0))
    assert torch.equal(torch.cat(again), torch.cat(found))


def test_a_budget_too_small_and_too_few_activations_are_one_sentence():
    with pytest.raises(ConfigError, match="two batches"):
        next(shuffled(iter([torch.zeros(5, 1, 4)]), 10, 100, 0))
    with pytest.raises(ConfigError, match="no activations"):
        train_dictionary(iter(()), SETTINGS)
    with pytest.raises(ConfigError, match="ended at step 2"):
        train_dictionary(batches(planted(1), 2), SETTINGS)
    with pytest.raises(ConfigError, match="0 < k < features"):
        train_dictionary(batches(planted(1), 2), Settings(4, 4))


def test_files_keep_a_dictionary_and_refuse_other_models(tmp_path, crosscoder):
    _, found = crosscoder
    path = save_dictionary(tmp_path / "one.safetensors", found)
    assert load_dictionary(path).settings == found.settings
    assert torch.allclose(load_dictionary(path).decoder, found.decoder, atol=1e-3)
    with pytest.raises(ModelError, match="of other models"):
        load_dictionary(path, ["a", "b"])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="missing or damaged"):
        load_dictionary(path)
    with pytest.raises(ModelError, match="missing or damaged"):
        load_dictionary(tmp_path / "none.safetensors")
