"""Targeted ablations: sets, losses and contrasts, from hand-made accuracies and planted heads."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mechshift_lib.analyses import Study, ablation
from mechshift_lib.errors import CircuitError
from tests.support.study import make_pair


def made(early=0.5, random=(0.2, 0.4), n=4):
    rows = []
    kinds = [("none", 0, 0.0), ("early", 0, early), ("middle", 0, 0.1), ("late", 0, 0.0)]
    kinds += [("random", i, x) for i, x in enumerate(random)]
    for kind, draw, lost in kinds:
        for example in range(n):
            value = 1 - lost + (0.1 if example % 2 else -0.1) * (kind != "none")
            row = {"ablation": "zero", "kind": kind, "draw": draw, "example": example + 7}
            rows.append(row | {"value": 0.0, "correct": value})
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def test_losses_are_held_against_the_whole_model():
    drawn = ablation.losses(made(), draws=200)
    assert drawn["zero", "early"][0] == pytest.approx(0.5)
    np.testing.assert_allclose(drawn["zero", "random"][0], [0.2, 0.4])
    assert drawn["zero", "random"].shape == (201, 2)
    early, late = drawn["zero", "early"][:, 0], drawn["zero", "late"][:, 0]
    np.testing.assert_allclose(early - late, 0.5)  # the same examples in each draw
    assert early[1:].std() > 0.02
    with pytest.raises(CircuitError, match="lacks the run of the whole model"):
        ablation.losses(made().query("kind != 'none'"), draws=2)


def test_planted_early_heads_are_chosen_and_held_against_others(tmp_path):
    make_pair(tmp_path, tasks=("ioi",), seeds=(0,), layers=6, heads=4)
    study = Study.open("toy", results=str(tmp_path / "r"), pool="all", root=tmp_path)
    sets = ablation.chosen_sets(study, "ioi")
    by = sets.set_index("kind")
    for third, name in enumerate(("early", "middle", "late")):
        layers = {node[1] for node in by.nodes[name].split("+")}
        assert layers <= {str(2 * third), str(2 * third + 1)}
    masses = ablation.component_masses(study, "ioi")
    first = masses[masses.layer < 2].assign(size=lambda x: x.score.abs())
    best = first.sort_values("size", ascending=False).component[:3]
    assert set(by.nodes["early"].split("+")) == set(best)
    tables = ablation.tables(study)
    lost = tables["losses"].set_index(["model", "ablation", "kind"]).lost
    assert lost.index.is_unique
    found = ablation.ablated(study, "ioi", "mdm")
    zero = found[found.ablation == "zero"].groupby(["kind", "draw"]).correct.mean()
    assert lost["mdm", "zero", "early"] == pytest.approx(zero["none", 0] - zero["early", 0])
    shared = ablation.sharing(tables["sets"]).iloc[0]
    early = set(shared.nodes.split("+"))
    random = tables["sets"].query("kind == 'random'").nodes.str.split("+")
    assert shared.n == 4
    assert shared.sharing == sum(bool(early & set(nodes)) for nodes in random)


def test_a_loss_that_no_example_has_is_not_certain(tmp_path, monkeypatch):
    make_pair(tmp_path, tasks=("ioi",), seeds=(0,), layers=6, heads=4)
    study = Study.open("toy", results=str(tmp_path / "r"), pool="all", root=tmp_path)
    intact = ablation.ablated(study, "ioi", "mdm").assign(correct=1.0)
    monkeypatch.setattr(ablation, "ablated", lambda *_: intact)
    tables = ablation.tables(study)
    n = intact.example.nunique()
    worst = binomtest(0, n).proportion_ci(method="exact").high
    assert tables["losses"].low.eq(0).all()
    assert tables["losses"].high.to_numpy() == pytest.approx(worst)
    assert tables["contrasts"].low.to_numpy() == pytest.approx(-worst)
