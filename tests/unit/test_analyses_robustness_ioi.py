"""The specification curve on IOI: wordings, one choice at a time, yardstick and what is told."""

import numpy as np
import pytest

from mechshift_lib.analyses import Study, robustness, robustness_ioi
from mechshift_lib.analyses.ioi_wordings import PROMPTS, reworded
from mechshift_lib.analyses.robustness import ESTIMATORS, EXACT, FACTORS, SIZES, Setting
from mechshift_lib.analyses.robustness_ioi import SETTINGS
from mechshift_lib.analyses.words import robustness as words
from mechshift_lib.plots.robustness import plot_curve
from mechshift_lib.tasks.ioi import TEMPLATES, Ioi
from mechshift_lib.tasks.tokenizer import build_word_tokenizer
from tests.support.study import make_pair

TASK, TOKENIZER = Ioi(), build_word_tokenizer()
EXAMPLES = TASK.examples(TOKENIZER, 12, seed=3)


def made(how, task=TASK, examples=EXAMPLES):
    found = [(old, reworded(task, TOKENIZER, old, how)) for old in examples]
    assert all(new is not None for _, new in found), "the words of the tiny pairs are one token"
    return found


@pytest.mark.parametrize("how", PROMPTS)
def test_the_answer_stays_and_one_name_is_corrupted(how):
    for old, new in made(how):
        assert (new.answer, new.distractor) == (old.answer, old.distractor)
        assert len(new.differ) == 1
        assert TOKENIZER.decode([new.clean[new.differ[0]]]).strip() == new.info["s"]
        assert new.text == new.info["template"].format_map(new.info)


def test_names_change_places_in_both_prompts():
    for old, new in made("names in the other order"):
        assert sorted(new.clean) == sorted(old.clean)
        assert new.clean != old.clean
        assert (new.info["a"], new.info["b"]) == (old.info["b"], old.info["a"])
        assert {old.info["order"], new.info["order"]} == {"ABBA", "BABA"}
        assert (new.differ, new.corrupted[new.differ[0]]) == (
            old.differ,
            old.corrupted[old.differ[0]],
        )


def test_another_template_is_another_one_that_models_were_taught():
    for old, new in made("another template"):
        assert new.info["template"] in set(TEMPLATES) - {old.info["template"]}
        same = {"template"} ^ set(old.info)
        assert all(new.info[name] == old.info[name] for name in same)


def test_another_corruption_is_the_one_that_the_task_does_not_use():
    for old, new in made("another corruption"):
        assert new.clean == old.clean
        assert new.corrupted[new.differ[0]] == new.answer[0]
    swapping = Ioi(corruption="repeated-subject")
    for old, new in made("another corruption", swapping, swapping.examples(TOKENIZER, 6, seed=3)):
        assert old.corrupted[old.differ[0]] == old.answer[0]
        assert TOKENIZER.decode([new.corrupted[new.differ[0]]]).strip() == new.info["third"]


def test_as_drawn_is_as_it_is():
    assert all(new is old for old, new in made("as drawn"))


def test_one_choice_is_changed_at_a_time_and_none_is_the_order():
    usual = Setting()
    for setting in SETTINGS[1:]:
        assert sum(getattr(setting, name) != getattr(usual, name) for name in FACTORS[:3]) == 1
    assert {setting.prompt for setting in SETTINGS} == set(PROMPTS)
    assert {setting.estimator for setting in SETTINGS} == set(ESTIMATORS)
    assert {setting.order for setting in SETTINGS} == {usual.order}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("robustness")
    small = {"circuit_examples": 12, "robustness_examples": 5, "estimator": "exact"}
    make_pair(root, tasks=("ioi",), seeds=(0,), layers=3, budget=small)
    return Study.open("toy", results=str(root / "r"), pool="all", root=root)


def test_a_pair_is_measured_in_every_setting_once(study, monkeypatch):
    assert robustness_ioi.asked(study) == [0]
    assert len(robustness_ioi.sentences(study, 0)) == 5
    depth = robustness_ioi.table(study, "depth")
    assert depth.groupby("circuit").size().eq((len(SETTINGS) + 1) * len(SIZES)).all()
    assert depth[depth.estimator == EXACT].n.eq(12).all(), "as circuits are measured elsewhere"
    arm = depth[depth.circuit == "arm"].pivot_table("depth", ["prompt", "estimator"], "size")
    assert len(arm.drop_duplicates()) > len(PROMPTS), "wordings and estimators say other things"
    alike = robustness_ioi.table(study, "rephrased")
    assert not ((alike.circuit == "arm") & (alike.prompt == PROMPTS[0])).any()
    assert set(alike.prompt) == set(PROMPTS)

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(robustness_ioi, "attribute", refuse)
    robustness_ioi.table(study, "depth")


def test_a_reworded_prompt_is_what_is_measured(study):
    given = robustness_ioi.sentences(study, 0)
    usual, other = (
        robustness_ioi.measured(study, 0, "arm", Setting(prompt=prompt), given)
        for prompt in (PROMPTS[0], PROMPTS[1])
    )
    assert (usual.items.example == other.items.example).all()
    assert not np.allclose(usual.scores, other.scores)


def test_the_yardstick_is_how_far_the_arm_moves(study):
    depth = robustness_ioi.table(study, "depth")
    usual = Setting()
    depth["depth"] = [
        0.5 + 0.01 * PROMPTS.index(prompt) if estimator == usual.estimator else 0.9
        for prompt, estimator in zip(depth.prompt, depth.estimator, strict=True)
    ]
    assert robustness_ioi.rephrasing(depth) == pytest.approx(0.02)


def test_words_and_figure_have_no_reveal_order(study):
    found = robustness.earlier(robustness_ioi.table(study, "depth"))
    table, levels = robustness.curve(found), robustness_ioi.levels(found)
    assert set(levels.factor) == {"prompt", "estimator", "size"}
    told = words.curve(table, levels, 0.03, control=True, task="ioi")
    positive = int((found.mdm - found.continued > 0).sum())
    assert told.said.startswith(f"In {positive} of {len(table)} ways to measure it on IOI")
    assert "the reveal order" not in set(told.table["choice"])
    fig = plot_curve(table, robustness.each_training(table, found), levels, 0.03, "ioi")
    assert fig.get_label() == "How much earlier the MDM lies on IOI"
    marks = [len(line.get_xdata()) for line in fig.axes[1].lines if line.get_marker() == "|"]
    assert sum(marks) == 3 * len(table), "a choice of every factor for each way"
