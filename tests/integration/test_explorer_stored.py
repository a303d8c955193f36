"""Files of the explorer that are stored where scores do not ship: the same, and by themselves."""

from dataclasses import replace

import pytest

from mechshift_lib.analyses import Study, scores
from mechshift_lib.explorer import stored
from mechshift_lib.explorer.sources import Reading
from mechshift_lib.results.store import Store

from ..support.study import make_pair

TASKS = ("ioi", "countdown")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    make_pair(root, seeds=(0, 1), tasks=TASKS, budget={"circuit_examples": 3})
    first = Study.open("toy", results=str(root / "results"), pool="all", root=root)
    return replace(first, pair=first.pair.model_copy(update={"tables": "all"}))


def reading(study):
    return replace(study, store=Reading(study.store.root))


def refuse(*_args, **_kwargs):
    raise AssertionError("computed again")


def test_a_pair_of_which_nothing_is_stored_has_no_files(study):
    assert list(stored.files_of(reading(study))) == []


def test_stored_files_are_those_of_the_scores_and_need_none(study, tmp_path, monkeypatch):
    for task in TASKS:
        stored.keep(study, task)
    made = {(one.task, one.read, one.seed): text for one, text in stored.files_of(reading(study))}
    assert {(task, seed) for task, _, seed in made} == {(t, s) for t in TASKS for s in (0, 1)}
    assert len({read for task, read, _ in made if task == "countdown"}) > 1

    # Only what models answer and the files are left, as where a repository ships these alone.
    for kind in ("answers", "explored"):
        (tmp_path / "results").mkdir(exist_ok=True)
        (study.store.root / kind).rename(tmp_path / "results" / kind)
    alone = replace(study, store=Store(tmp_path / "results"))
    monkeypatch.setattr(scores, "attribute", refuse)
    found = list(stored.files_of(reading(alone)))
    assert {(one.task, one.read, one.seed): text for one, text in found} == made
    for one, _ in found:
        assert {"arm", "mdm", "continued"} <= set(one.names)
        assert one.graph == scores.Graph.for_model(study.model("arm", 0))


def test_files_of_a_pair_whose_scores_ship_are_not_stored(study, tmp_path, monkeypatch):
    pair = study.pair.model_copy(update={"tables": "later"})
    monkeypatch.setattr(scores, "attribute", refuse)
    stored.keep(replace(study, pair=pair, store=Store(tmp_path)), "ioi")
    assert not any(tmp_path.iterdir())
