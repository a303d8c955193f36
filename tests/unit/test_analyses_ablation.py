"""Targeted ablations: losses, contrasts and the verdict, from hand-made accuracies."""

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import Study, ablation
from mechshift_lib.analyses import narrative_ablation as told
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


def contrasts(random, middle=0.4, late=0.4, p=0.02, half=0.1, task="countdown"):
    rows = []
    for model in ("arm", "mdm"):
        for kind in ("zero", "mean"):
            for against, more in (("random", random), ("middle", middle), ("late", late)):
                row = {"task": task, "model": model, "ablation": kind, "against": against}
                row |= {"more": more, "low": more - half, "high": more + half, "n": 16}
                rows.append(row | {"p": p if against == "random" else np.nan})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (contrasts(0.3), "**C6 is reproduced on this pair.**"),
        (contrasts(0.3, p=0.2), "too many random sets cost as much.**"),
        (contrasts(0.05), "**C6 is undecided on this pair.**"),
        (contrasts(-0.3), "**C6 is not reproduced on this pair.**"),
        (contrasts(0.3, late=-0.2), "**C6 is not reproduced on this pair.**"),
        (contrasts(0.3, task="ioi"), "C6 can't be asked"),
    ],
)
def test_the_verdict_follows_its_rule(table, said):
    text = told.verdict(table)
    assert said in text
    assert "-0.0 " not in text


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
    text = told.chosen(tables["sets"])
    assert "4 random sets with as many heads in each layer" in text
    assert "without the early heads" in told.cost(tables["losses"])
