"""Attribution beside exact patching: measures from hand-made scores."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from mechshift_lib.analyses import trust
from mechshift_lib.models.loading import wrap_model
from tests.support.tiny import tiny_hf


def test_correlations_are_scipys_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50).round(1), rng.normal(size=50).round(1)
    assert trust.pearson(a, b) == pytest.approx(pearsonr(a, b).statistic)
    assert trust.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(trust.pearson(np.ones(5), b[:5]))


def test_recall_counts_strongest_edges_by_absolute_score():
    exact = np.array([0.1, -5.0, 4.0, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    estimate = np.array([3.0, -2.0, 0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert trust.recall(estimate, exact, 0.2) == 0.5
    assert trust.recall(exact, exact, 0.2) == 1
    assert trust.recall(estimate, exact, 0.001) == 0  # one edge at least


def test_halves_are_disjoint_equal_and_each_counted_once():
    assert trust._halves(2) == [([0], [1])]
    four = trust._halves(4)
    assert len(four) == 3
    assert all(sorted(a + b) == [0, 1, 2, 3] for a, b in four)
    assert all(len(a) == len(b) == 2 and not set(a) & set(b) for a, b in trust._halves(5))
    assert len(trust._halves(40)) == 10  # no more than 6 examples are halved


def test_untrained_has_the_architecture_and_other_weights_and_leaves_the_seed_alone():
    model = wrap_model(tiny_hf("qwen2"))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fresh = trust.untrained(model, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert (fresh.n_layers, fresh.n_heads) == (model.n_layers, model.n_heads)
    assert (fresh.attention, fresh.readout, fresh.kv) == (model.attention, model.readout, model.kv)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(fresh.logits(ids), trust.untrained(model, seed=0).logits(ids))
    assert not torch.allclose(fresh.logits(ids), trust.untrained(model, seed=1).logits(ids))
    assert not torch.allclose(fresh.logits(ids), model.logits(ids))
