"""Files of the explorer that are stored where scores do not ship: the same, and by themselves."""

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import Study, circuits, scores
from mechshift_lib.config import load_pair, pair_names
from mechshift_lib.explorer import stored
from mechshift_lib.explorer.sources import Reading
from mechshift_lib.results.store import Store

from ..support.study import make_pair

TASKS = ("ioi", "countdown")
#: Pairs whose tables ship, of every training.
SHIPPED = [name for name in pair_names() if load_pair(name).tables == "all"]


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


def means_of(study, seed):
    """Mean scores of each circuit on IOI as its stored file has them: edge -> score."""
    files = stored.explored(study, "ioi", seed)["files"].set_index("read")
    text = files.script["all"].partition(", {")[2] or files.script["all"].partition(",{")[2]
    about = json.loads("{" + text.removesuffix(");\n"))
    block, n = zlib.decompress(base64.b64decode(about["data"])), about["edges"]
    edges = np.frombuffer(block, "<i4", n)
    values = np.frombuffer(block, "<f4", n * len(about["names"]), 4 * n).reshape(-1, n)
    names = np.array(circuits.graph_of(circuits.drawn(study, "ioi")).names)[edges]
    return {x: pd.Series(v, names) for x, v in zip(about["names"], values, strict=True)}


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_drawn_of_a_large_pair_is_what_its_files_show(name, tmp_path):
    study = Study.open(name, results=str(tmp_path))
    means, tables = means_of(study, study.seed), circuits.drawn(study, "ioi")
    for model in ("arm", "mdm"):
        strongest = means[model].abs().sort_values(ascending=False, kind="stable")
        edges, found = tables["strongest"][f"{model} edge"], tables["strongest"][f"{model} score"]
        assert list(strongest.index[: len(edges)]) == list(edges)
        np.testing.assert_allclose(means[model][edges], found, rtol=1e-5)
        shown = tables["diagram"].edge[tables["diagram"][model]]
        assert set(shown) == set(strongest.index[: circuits.DRAWN])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_of_a_large_pair_are_what_attribution_gives(name, tmp_path):
    """A sample: the ARM of the first training, on one task; a circuit takes half a minute."""
    study = Study.open(name, results=str(tmp_path))
    frames = scores.measure(study, "ioi", "arm", study.seed)
    values = frames["scores"].to_numpy(dtype=np.float64).mean(axis=1)
    found = values / frames["items"].effect.mean()  # IOI's answer is one token
    own = pd.Series(found, scores.Graph(**frames["graph"].iloc[0].to_dict()).names)
    kept = means_of(study, study.seed)["arm"]
    assert kept.abs().max() == pytest.approx(own.abs().max(), rel=1e-3)
    np.testing.assert_allclose(own[kept.index], kept, atol=1e-3 * kept.abs().max())
