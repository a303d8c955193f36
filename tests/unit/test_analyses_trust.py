"""Attribution beside exact patching: measures and sentences from hand-made scores."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from mechshift_lib.analyses import narrative_trust as told
from mechshift_lib.analyses import trust
from mechshift_lib.analyses.trust import ESTIMATES, EXACT, HALVES, SUBJECTS, USED
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


def agreement(eap, used, halves=0.5):
    """Agreement of all estimates; ``eap`` and ``used`` are (Pearson, Spearman) of two of them."""
    rows = []
    for subject in SUBJECTS:
        for name in (*ESTIMATES, HALVES):
            values = dict.fromkeys(trust.measures(), halves if name == HALVES else 0.6)
            if name in ("eap", USED):
                pair = eap if name == "eap" else used
                values |= dict(zip(("pearson", "spearman"), pair, strict=True))
            rows += [
                {"task": "ioi", "subject": subject, "estimate": name, "measure": m, "value": v}
                for m, v in values.items()
            ]
    return pd.DataFrame(rows).assign(n=4)


def test_whether_integration_helps_is_told_for_each_correlation():
    assert "ranks all edges worse" in told.gradients(agreement((0.5, 0.8), (0.8, 0.5)))
    assert "better by both" in told.gradients(agreement((0.5, 0.5), (0.8, 0.6)))
    assert "does **not** raise" in told.gradients(agreement((0.9, 0.5), (0.8, 0.6)))
    text = told.gradients(agreement((0.5, 0.8), (0.8, 0.5)))
    assert "**ARM**: Pearson 0.50 → 0.80, Spearman 0.80 → 0.50" in text


def test_the_error_is_held_against_the_noise_of_examples():
    table = agreement((0.5, 0.8), (0.9, 0.5))
    assert "no worse than the noise" in told.best(table)
    assert "more than the noise" in told.best(agreement((0.5, 0.8), (0.9, 0.5), halves=0.9))
    assert "Pearson: EAP-IG(5) (0.90), last EAP (0.50)" in told.best(table)


def test_the_table_has_a_row_for_every_model_and_estimate():
    table = told.means(agreement((0.5, 0.8), (0.9, 0.5)))
    assert table.model.unique().tolist() == ["ARM", "MDM", "untrained"]
    assert len(table) == 3 * (len(ESTIMATES) + 1)
    assert set(told.FORMATS) <= set(table.columns)
    row = table[(table.model == "MDM") & (table.estimate == "EAP")].iloc[0]
    assert row["Pearson"] == 0.5


def concluded(used, exact=(0.6, 0.4), shift=0.0):
    rows = []
    for task, a, b in zip(("ioi", "countdown"), used, exact, strict=True):
        for name, value, moved in ((USED, a, shift), (EXACT, b, 0.0)):
            rows.append({"task": task, "estimate": name, "jaccard": value, "shift": moved})
    return pd.DataFrame(rows).assign(arm=0.7, mdm=0.8)


def test_what_would_have_been_concluded_is_told_from_the_exact_scores():
    text = told.consequences(concluded((0.7, 0.5)))
    assert "overstates the overlap on every task" in text
    assert "The order of the tasks is the same." in text
    assert "by no more than 2 %" in text
    assert "understates" in told.consequences(concluded((0.5, 0.3)))
    crossed = told.consequences(concluded((0.4, 0.6), shift=0.05))
    assert "errs in both directions" in crossed
    assert "The order of the tasks is **not** the same." in crossed
    assert "more than 2 % of the model on IOI and Countdown" in crossed
