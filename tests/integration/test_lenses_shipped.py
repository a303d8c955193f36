"""Lenses kept in data/lenses: of today's weights, and as close to the output as they say."""

import pytest

from mechshift_lib.analyses import Study, lenses
from mechshift_lib.config import pair_names
from mechshift_lib.semantics.lens import TunedLens
from mechshift_lib.semantics.lens_training import Corpus, divergences, streamed


def _kept() -> list[tuple[str, int, str]]:
    """Pair, seed and model of every shipped lens."""
    studies = [Study.open(name) for name in pair_names()]
    return [
        (study.pair.name, seed, role)
        for study in studies
        for seed in study.pair.seeds
        for role in study.pair.roles
        if lenses.path_of(study, role, seed).is_file()
    ]


@pytest.mark.parametrize(("name", "seed", "role"), _kept())
def test_a_shipped_lens_is_of_these_weights_and_reaches_what_it_says(name, seed, role):
    study = Study.open(name)
    assert lenses.path_of(study, role, seed).stat().st_size < 2 * lenses.LARGEST
    lens = lenses.shipped(study, role, seed)
    assert lens is not None, "the model or its texts changed: run mechshift lens"
    model = study.model(role, seed)
    texts = streamed(model, Corpus.of(study.pair, role), seed, "report", 48)
    streams = next(texts)
    tuned = divergences(model, streams, lens).mean(1)
    logit = divergences(model, streams, TunedLens.identity(model)).mean(1)
    for layer in lens.about["layers"]:
        k = layer["layer"]
        assert layer["used"] == bool(lens.weight[k].any())
        assert (layer["chosen_tuned"] < layer["chosen_logit"]) == layer["used"]
        # One batch of the several that were measured.
        assert float(tuned[k]) == pytest.approx(layer["tuned"], rel=0.4, abs=0.02)
        assert float(logit[k]) == pytest.approx(layer["logit"], rel=0.4, abs=0.02)


def test_the_pairs_of_the_book_that_have_trainings_ship_their_lenses():
    there = {(name, role) for name, seed, role in _kept() if seed == 0}
    for name in ("tiny-qwen", "tiny-llama"):
        assert {role for pair, role in there if pair == name} == {"arm", "mdm", "continued"}
