"""Targeted ablations: sets, accuracies and contrasts, from hand-made tables and random models."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from mechshift_lib.analyses import Study, ablation
from mechshift_lib.circuits.evaluation.node_sets import answers_without
from tests.support.study import make_pair


def answered(early, random, n=20):
    """``early`` and ``random`` wrong answers of ``n``."""
    rows = []
    for kind, wrong in (("none", 0), ("early", early), ("random", random)):
        name = "none" if kind == "none" else "zero"
        rows += [(name, kind, i + 7, i >= wrong) for i in range(n)]
    columns = ["ablation", "kind", "example", "correct"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=1)


def test_accuracies_have_exact_bounds_and_losses_are_the_whole_models():
    table = ablation.accuracies(answered(5, 0)).set_index("kind")
    assert table.accuracy.to_dict() == {"none": 1.0, "early": 0.75, "random": 1.0}
    assert table.lost["early"] == 0.25
    exact = binomtest(15, 20).proportion_ci(method="exact")
    assert (table.low["early"], table.high["early"]) == pytest.approx((exact.low, exact.high))
    worst = binomtest(20, 20).proportion_ci(method="exact").low  # no failure isn't certainty
    assert table.low["random"] == pytest.approx(worst)


def test_contrasts_are_over_trainings():
    losses = {"mdm": (8, 9, 10), "continued": (3, 3, 3), "arm": (1, 1, 1)}
    table = pd.concat(
        ablation.accuracies(answered(wrong, 2)).assign(task="countdown", seed=seed, model=model)
        for model, each in losses.items()
        for seed, wrong in enumerate(each)
    )
    more = ablation.beyond(table)
    values = ablation.in_trainings(more, "countdown", "zero", "random")
    assert values["mdm"].tolist() == pytest.approx([0.3, 0.35, 0.4])
    found = ablation.contrasts(more).set_index("contrast")
    assert found.index.tolist() == ["mdm", "mdm-continued"]
    assert found.value.tolist() == pytest.approx([0.35, 0.3])
    assert found.n.tolist() == [3, 3]
    assert (found.low < found.value).all()
    assert found.flips["mdm"] == pytest.approx(1 / 8)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("ablation")
    small = {"circuit_examples": 4, "ablation_examples": 5}
    make_pair(root, tasks=("countdown",), seeds=(0,), layers=6, heads=4, budget=small)
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


def test_sets_are_of_their_layers_and_share_no_head(study):
    for model in ("arm", "mdm"):
        sets = ablation.chosen_sets(study, "countdown", model, 0)
        assert len(sets.early) == len(sets.later) == 2
        assert {name[1] for name in sets.early} <= {"0", "1"}
        assert {name[1] for name in sets.later} <= {"2", "3", "4", "5"}
        for one in sets.random:
            assert not set(one) & set(sets.early)
            assert sorted(x[1] for x in one) == sorted(x[1] for x in sets.early)
        assert 0 < sets.mass < 1


def test_answers_are_those_without_the_chosen_heads(study):
    chosen = ablation.held_out(study, "countdown", 0)
    assert len(chosen) == 5
    assert min(chosen) >= 4, "circuits were found on the first four"
    found = ablation.answered(study, "countdown", "mdm", 0)
    sets = ablation.chosen_sets(study, "countdown", "mdm", 0)
    examples = [study.examples("countdown", 0)[i] for i in chosen]
    loaded, task = study.model("mdm", 0), study.task("countdown")
    prompts, lengths = [e.clean for e in examples], [len(e.answer) for e in examples]
    given = answers_without(loaded, prompts, lengths, [sets.early] * 5)
    right = [task.score(e, a, loaded.tokenizer) for e, a in zip(examples, given, strict=True)]
    rows = found[(found.ablation == "zero") & (found.kind == "early")]
    assert rows.example.tolist() == chosen
    np.testing.assert_array_equal(rows.correct, right)
    kinds = set(zip(found.ablation, found.kind, strict=True))
    expected = {(a, k) for a, ks in ablation.KINDS.items() for k in ks}
    assert kinds == expected | {("none", "none")}


def test_tables_have_every_model_and_the_claim_is_undecided_with_one_training(study):
    tables = ablation.tables(study)
    assert set(tables["accuracies"].model) == {"arm", "mdm", "continued"}
    assert tables["accuracies"].n.eq(5).all()
    assert tables["contrasts"].n.eq(1).all()
    assert tables["contrasts"].low.isna().all()
