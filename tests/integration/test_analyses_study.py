"""Analyses of a pair of random models: tidy tables, the same examples, nothing computed twice."""

import json
import shutil
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import Study, behaviour, circuits, overlap, scores, seeds
from mechshift_lib.analyses.study import EXAMPLES_SEED
from mechshift_lib.circuits.attribution.edges import attribute
from mechshift_lib.errors import ConfigError, ModelError
from mechshift_lib.models.sources import tokenizer_of
from tests.support.study import TASKS, make_pair


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    return Study.open(make_pair(root), "book", str(root / "results"), "all", root)


def test_accuracy_counts_right_answers_of_every_model_task_and_seed(study):
    table = behaviour.accuracy_table(study)
    assert len(table) == 4 * 3 * 2
    row = table[(table.task == "greater-than") & (table.role == "mdm") & (table.seed == 1)].iloc[0]
    given = behaviour.answers(study, "greater-than", "mdm", 1)
    assert row.right == given.correct.sum()
    assert row.n == 12
    assert row.low <= row.accuracy <= row.high


def test_answers_are_scored_as_the_task_scores_them(study):
    task, tokenizer = study.task("greater-than"), study.model("arm", 0).tokenizer
    given = behaviour.answers(study, "greater-than", "arm", 0)
    for example, row in zip(study.examples("greater-than", 0), given.itertuples(), strict=True):
        ids = tokenizer(row.answer, add_special_tokens=False)["input_ids"]
        assert row.correct == task.score(example, ids, tokenizer)


def test_every_reveal_order_reveals_every_token_once(study):
    for order in ("left-to-right", "random", "entropy"):
        for row in behaviour.answers(study, "countdown", "mdm", 0, order).itertuples():
            steps = json.loads(row.reveal)
            assert sorted(i for step in steps for i in step) == list(range(row.n_answer))
    table = behaviour.order_table(study)
    assert set(table.task) == {"countdown", "infilling"}
    assert len(table) == 2 * 5 * 2


def test_metrics_equal_those_of_attribution(study):
    for role in ("arm", "mdm"):
        model = study.model(role, 0)
        examples = study.examples("countdown", 0)
        items = [
            item
            for index, example in enumerate(examples[:4])
            for item in model.readout.items(example, index)
        ]
        found = attribute(model, items, metric="logit-diff", steps=1)
        table = behaviour.metrics(study, "countdown", role, 0).set_index("example")
        np.testing.assert_allclose(table.clean[:4], found.metric_clean, atol=1e-4)
        np.testing.assert_allclose(table.corrupted[:4], found.metric_corrupted, atol=1e-4)


def test_all_circuits_of_a_task_are_taken_over_the_same_examples(study):
    assert scores.circuits_of(study, "ioi") == ["arm", "mdm", "continued"]
    names = scores.circuits_of(study, "countdown")
    assert names == ["arm", "mdm", "mdm-own", "continued"]
    found = [scores.scores(study, "countdown", name) for name in names]
    for one in found:
        assert one.examples.tolist() == [0, 1, 2, 3, 4, 5]
        assert one.by_example.shape == (6, len(one.edges))
        assert one.edges.names == found[0].edges.names


def test_own_order_circuits_follow_the_reveal_order_of_the_model(study):
    model, examples = study.model("mdm", 0), study.examples("infilling", 0)
    reveal = behaviour.answers(study, "infilling", "mdm", 0).reveal
    items = [
        item
        for i in range(6)
        for item in model.readout.items(examples[i], i, order=json.loads(reveal[i]))
    ]
    expected = attribute(model, items, metric="logit-diff", steps=2)
    found = scores.measured(study, "infilling", "mdm-own", 0)
    by_example = found.scores.reshape(6, -1, found.scores.shape[1]).mean(1)
    np.testing.assert_allclose(by_example, expected.by_example, rtol=1e-3, atol=1e-5)
    first = (found.items.step == expected.steps[0]).to_numpy()
    np.testing.assert_allclose(
        found.scores[first].mean(0), expected.by_step[0], rtol=1e-3, atol=1e-5
    )


def test_stored_tables_are_not_computed_again(study, monkeypatch):
    first = scores.scores(study, "ioi", "arm")
    tables = overlap.compare(study, "ioi")

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(scores, "attribute", refuse)
    monkeypatch.setattr(overlap, "compare_scores", refuse)
    monkeypatch.setattr(behaviour, "generate_arm", refuse)
    again = scores.scores(study, "ioi", "arm")
    np.testing.assert_array_equal(first.by_example, again.by_example)
    assert overlap.compare(study, "ioi")["edges"].equals(tables["edges"])
    finer = study.budget.model_copy(update={"ig_steps": 3})
    other = replace(study, pair=study.pair.model_copy(update={"budgets": {"book": finer}}))
    with pytest.raises(AssertionError, match="computed again"):  # another budget, another result
        scores.scores(other, "ioi", "arm")


def test_tables_of_circuits_agree_with_each_other(study):
    diagram = circuits.diagram_table(study, "ioi", 10)
    strongest = circuits.strongest_table(study, "ioi", 10)
    assert set(diagram.edge[diagram.arm]) == set(strongest["arm edge"])
    assert set(diagram.edge[diagram.mdm]) == set(strongest["mdm edge"])
    assert diagram.weight.max() == pytest.approx(1)
    assert (strongest["arm score"].abs().diff().dropna() <= 0).all()
    parts = circuits.component_table(study, "ioi")
    shares = parts.groupby("circuit").share.apply(lambda s: s.abs().sum())
    np.testing.assert_allclose(shares, 1)
    drawn = circuits.drawn(study, "ioi")
    pd.testing.assert_frame_equal(drawn["strongest"], circuits.strongest_table(study, "ioi"))
    pd.testing.assert_frame_equal(drawn["diagram"], circuits.diagram_table(study, "ioi"))
    pd.testing.assert_frame_equal(drawn["components"], parts)
    assert circuits.graph_of(drawn) == scores.scores(study, "ioi", "arm").graph


def test_comparisons_cover_every_studied_task_and_both_seeds(study):
    tables = overlap.comparison_tables(study)
    assert set(tables["edges"].task) == set(TASKS)
    by_seed = seeds.seed_table(study)
    counts = by_seed.groupby(["task", "comparison"]).size().unstack()
    assert (counts["arm-mdm"] == 2).all()
    assert (counts[["arm-seeds", "mdm-seeds"]] == 1).all().all()
    reference = overlap.at_reference(tables["edges"])
    assert len(seeds.with_seeds(reference, by_seed)) == len(reference) + 8


def solved(study, monkeypatch, right):
    """Let ``right[role]`` be the examples that a model solves."""
    real = behaviour.answers

    def answers(study, task, role, seed, order=""):
        frame = real(study, task, role, seed, order)
        return frame.assign(correct=frame.example.isin(right[role]))

    monkeypatch.setattr(behaviour, "answers", answers)
    monkeypatch.setattr(scores, "answers", answers)
    return replace(study, pool="common-correct")


def test_the_pool_is_what_both_solve_and_no_more_than_the_budget(study, monkeypatch):
    right = {"arm": range(1, 12), "mdm": range(0, 12, 2), "continued": [2, 4]}
    common = solved(study, monkeypatch, right)
    assert behaviour.pool(common, "ioi", 0) == [2, 4, 6, 8, 10]
    row = behaviour.pool_table(common).iloc[0]
    assert (row.arm, row.mdm, row.used) == (11, 6, 5)
    assert row.both == pytest.approx(5 / 12)
    assert row.continued == pytest.approx(2 / 5)
    assert scores.scores(common, "ioi", "arm").examples.tolist() == [2, 4, 6, 8, 10]


def test_without_common_examples_the_sentence_says_what_to_do(study, monkeypatch):
    right = {"arm": [0], "mdm": [1], "continued": []}
    common = solved(study, monkeypatch, right)
    assert behaviour.pool_table(common).used.tolist() == [0, 0, 0, 0]
    with pytest.raises(ConfigError, match="pool = 'all'"):
        scores.studied_tasks(common)
    with pytest.raises(ConfigError, match="fewer than 2 examples of 'ioi'"):
        scores.scores(common, "ioi", "arm")


def test_unknown_names_are_one_clear_sentence(study):
    with pytest.raises(ConfigError, match="Unknown circuit 'best'"):
        scores.scores(study, "ioi", "best")
    with pytest.raises(ConfigError, match="Unknown pool 'none'"):
        Study.open("toy", "book", str(study.store.root), "none", study.root)


def test_infilling_is_asked_in_place_on_the_same_fillers(study):
    table = behaviour.form_table(study)
    assert table.form.tolist() == ["at the end", "in place"] * 2
    assert (table.n == 12).all()
    given = behaviour.native_answers(study, 0)
    assert given.correct.sum() == table[(table.form == "in place") & (table.seed == 0)].right.item()
    without = replace(study, pair=study.pair.model_copy(update={"tasks": ("ioi",)}))
    assert behaviour.form_table(without).empty


def test_trainings_share_their_examples_as_long_as_they_share_a_tokenizer(tmp_path, monkeypatch):
    study = Study.open(make_pair(tmp_path, tasks=("ioi",)), "book", "r", "all", tmp_path)
    monkeypatch.setattr("mechshift_lib.analyses.study._DRAWN", drawn := OrderedDict())
    first, second = (study.examples("ioi", seed) for seed in (0, 1))
    assert len(drawn) == 1
    assert first == second
    for seed, examples in enumerate((first, second)):
        tokenizer = study.model("arm", seed).tokenizer
        assert examples == study.task("ioi").examples(tokenizer, len(examples), EXAMPLES_SEED)
    file = tmp_path / "data/models/toy/seed1/arm/tokenizer.json"
    changed = json.loads(file.read_text()) | {"padding": None, "truncation": None}
    file.write_text(json.dumps(changed) + "\n")
    assert len({tokenizer_of(study.pair.model("arm", seed), tmp_path) for seed in (0, 1)}) == 2
    study.examples("ioi", 1)
    assert len(drawn) == 2


def test_small_models_stay_in_memory_and_of_large_ones_two(tmp_path, monkeypatch):
    study = Study.open(make_pair(tmp_path, tasks=("ioi",)), "book", "r", "all", tmp_path)
    asked = [(role, seed) for seed in (0, 1) for role in study.pair.roles]
    for most, kept in ((10**9, len(asked)), (1, 2)):
        monkeypatch.setattr("mechshift_lib.analyses.study._LOADED", loaded := OrderedDict())
        monkeypatch.setattr("mechshift_lib.analyses.study.IN_MEMORY", most)
        models = [study.model(*one) for one in asked]
        assert len(loaded) == kept
        assert study.model(*asked[-1]) is models[-1]
        assert (study.model(*asked[0]) is models[0]) == (kept == len(asked))


def test_models_of_other_layers_or_heads_are_refused(tmp_path):
    make_pair(tmp_path / "one")
    make_pair(tmp_path / "two", layers=3)
    models = Path("data/models/toy/seed0")
    shutil.rmtree(tmp_path / "one" / models / "mdm")
    shutil.copytree(tmp_path / "two" / models / "mdm", tmp_path / "one" / models / "mdm")
    mixed = Study.open("toy", "book", tmp_path / "results", root=tmp_path / "one")
    mixed.model("arm", 0)
    with pytest.raises(ModelError, match="The MDM of toy has 3 layers and the ARM 2: their"):
        mixed.model("mdm", 0)
    assert mixed.model("continued", 0).n_layers == 2
