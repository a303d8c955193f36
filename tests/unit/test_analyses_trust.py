"""Attribution beside exact patching: measures from hand-made scores."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from mechshift_lib.analyses import trust
from mechshift_lib.circuits.graph.graph import Graph
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


def made(n, noise, seed=0):
    """Exact scores of ``n`` examples, and estimates that are noisier."""
    rng = np.random.default_rng(seed)
    graph = Graph(n_layers=4, n_heads=3, n_kv_heads=3)
    exact = rng.normal(size=graph.n_edges) + 0.3 * rng.normal(size=(n, graph.n_edges))
    others = {name: exact + noise * rng.normal(size=graph.n_edges) for name in trust.ESTIMATES}
    return trust.Estimates(graph, {trust.EXACT: exact, **others})


def studied(n, noise):
    return {"arm": made(n, noise), "mdm": made(n, noise, 1), "untrained": made(n, noise, 2)}


def test_agreement_is_that_of_means_within_its_interval():
    every = studied(30, 0.5)
    table, found = trust.agreement(every), every["mdm"]
    assert len(table) == 3 * (len(trust.ESTIMATES) + 1) * len(trust.measures())
    smooth = table[table.measure.isin(["pearson", "spearman"])]  # recall goes in steps
    assert (smooth.low < smooth.value).all()
    assert (smooth.value < smooth.high).all()
    row = table[(table.subject == "mdm") & (table.estimate == "eap")].set_index("measure")
    means = found.mean("eap"), found.mean(trust.EXACT)
    assert row.value["pearson"] == pytest.approx(pearsonr(*means).statistic)
    assert row.value["spearman"] == pytest.approx(spearmanr(*means).statistic)
    widths = row.high - row.low
    assert ((widths > 0) & (widths < 0.5))[["pearson", "spearman", "recall-0.2"]].all()
    halves = table[(table.estimate == trust.HALVES) & (table.measure == "pearson")]
    assert (halves.value > 0.9).all()


def test_the_error_of_an_estimate_is_its_overlap_less_the_exact_one():
    table = trust.consequences(studied(30, 1.0)).set_index("estimate")
    exact = table.loc[trust.EXACT]
    assert exact.error == exact.error_low == exact.error_high == 0
    np.testing.assert_allclose(table.error, table.jaccard - exact.jaccard)
    others = table.drop(trust.EXACT)
    assert (others.error_low <= others.error_high).all()
    assert (others.error_low < others.error_high).any()
    assert table.jaccard.nunique() > 2


def test_few_examples_have_no_interval():
    found = studied(trust.LEAST_EXAMPLES - 1, 0.5)
    table = trust.agreement(found)
    assert table[table.estimate != trust.HALVES][["low", "high"]].isna().all(axis=None)
    assert trust.consequences(found)[["low", "error_high"]].isna().all(axis=None)


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
