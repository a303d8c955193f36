"""Dictionaries kept in data/dictionaries: of today's weights, small, and of some use."""

import numpy as np
import pytest

from mechshift_lib.analyses import Study, dictionaries
from mechshift_lib.config import pair_names
from mechshift_lib.semantics.dictionary_measures import explained


def _kept() -> list[tuple[str, int]]:
    """Pair and seed of every training with shipped dictionaries."""
    studies = [Study.open(name) for name in pair_names()]
    return [
        (study.pair.name, seed)
        for study in studies
        for seed in study.pair.seeds
        if dictionaries.path_of(study, "arm", seed).is_file()
    ]


@pytest.mark.parametrize(("name", "seed"), _kept())
def test_shipped_dictionaries_are_of_these_weights_and_explain_them(name, seed):
    study = Study.open(name)
    folder = dictionaries.path_of(study, "arm", seed).parent
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2e6
    for one in dictionaries.names(study, seed):
        found = dictionaries.shipped(study, one, seed)
        assert found is not None, "a model or its texts changed: run mechshift dictionaries"
        share, active, rate = explained(found, dictionaries.held_out_rows(study, one, seed))
        assert share.min() > 0.8
        assert active == pytest.approx(dictionaries.ACTIVE, rel=0.2)
        assert np.mean(rate == 0) < 0.1
        again = one in dictionaries.AGAIN and seed == study.seed
        assert ("again" in found.about) == again


def test_the_pairs_of_the_book_ship_their_dictionaries():
    assert {name for name, seed in _kept() if seed == 0} >= {"tiny-qwen", "tiny-llama"}
