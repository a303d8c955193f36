"""Scores kept in data/scores: used where they are what is asked, computed anew in a sample."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mechshift_lib.analyses import Study, scores, shipped
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.cli import app
from mechshift_lib.config import load_pair, pair_names
from mechshift_lib.errors import ResultError
from mechshift_lib.results.store import Store

from ..support.study import make_pair

EDGES, ITEMS = 12, 2


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    make_pair(root, seeds=(0,), tasks=("ioi", "countdown"), budget={"circuit_examples": 3})
    return Study.open("toy", results=str(root / "results"), pool="all", root=root)


def test_kept_scores_are_read_instead_of_computed(study, tmp_path, monkeypatch):
    key = scores.scores_key(study, "countdown", "mdm", 0)
    frames = scores.measure(study, "countdown", "mdm", 0)
    assert shipped.shipped(study, "countdown", "mdm", 0, key) is None
    path = shipped.ship(study, "countdown", "mdm", 0, key, frames)
    assert path.is_relative_to(study.root / "data" / "scores" / "toy" / "seed0")
    fresh = replace(study, store=Store(tmp_path))

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(scores, "attribute", refuse)
    found = scores.measured(fresh, "countdown", "mdm", 0)
    assert found.items.drop(columns="effect").equals(frames["items"].drop(columns="effect"))
    np.testing.assert_allclose(found.scores, frames["scores"].T, rtol=1e-3, atol=1e-6)
    with pytest.raises(AssertionError, match="computed again"):
        scores.measured(fresh, "countdown", "arm", 0)


def test_what_is_asked_otherwise_is_not_what_is_kept(study):
    key = scores.scores_key(study, "ioi", "arm", 0)
    shipped.ship(study, "ioi", "arm", 0, key, scores.measure(study, "ioi", "arm", 0))
    assert shipped.shipped(study, "ioi", "arm", 0, key | {"code": "other"}) is not None
    for other in ({"pool": [1, 2]}, {"models": {"arm": "0"}}, {"method": "exact"}):
        assert shipped.shipped(study, "ioi", "arm", 0, key | other) is None


def test_a_damaged_file_is_told_apart(study):
    key = scores.scores_key(study, "ioi", "mdm", 0)
    path = shipped.ship(study, "ioi", "mdm", 0, key, scores.measure(study, "ioi", "mdm", 0))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ResultError, match="is damaged"):
        shipped.shipped(study, "ioi", "mdm", 0, key)
    path.unlink()


def _kept() -> list[tuple[str, int, str, str]]:
    """Pair, seed, task and circuit of one shipped file of every pair, seed and circuit."""
    found = []
    for name in pair_names():
        pair = load_pair(name)
        study = Study.open(name)
        for i, seed in enumerate(pair.seeds):
            for j, circuit in enumerate(scores.CIRCUITS):
                task = pair.tasks[(i + j) % len(pair.tasks)]
                if shipped.path_of(study, task, circuit, seed).is_file():
                    found.append((name, seed, task, circuit))
    return found


@pytest.mark.parametrize(("name", "seed", "task", "circuit"), _kept())
def test_shipped_scores_are_what_exact_patching_gives(name, seed, task, circuit, tmp_path):
    study = replace(Study.open(name), store=Store(tmp_path))
    key = scores.scores_key(study, task, circuit, seed)
    kept = shipped.shipped(study, task, circuit, seed, key)
    assert kept is not None, "the models or the examples changed: run mechshift ship"
    model, items, table = scores.questions(study, task, circuit, seed)
    columns = ["example", "position", "step"]
    assert table[columns].equals(kept["items"][columns])
    rng = np.random.default_rng(len(items))
    chosen = np.sort(rng.choice(len(items), ITEMS, replace=False))
    found_scores = kept["scores"].to_numpy().T
    strong = np.argsort(-np.abs(found_scores[chosen]).max(0))[: EDGES // 2]
    edges = np.union1d(strong, rng.choice(found_scores.shape[1], EDGES // 2, replace=False))
    found = exact_scores(
        model, [items[i] for i in chosen], metric=study.task(task).metric, edges=edges.tolist()
    )
    scale = np.abs(found_scores[chosen]).max()
    np.testing.assert_allclose(
        found.by_example[:, edges], found_scores[np.ix_(chosen, edges)], atol=2e-3 * scale
    )
    effect = found.metric_clean - found.metric_corrupted
    np.testing.assert_allclose(effect, kept["items"].effect[chosen], rtol=1e-3, atol=1e-3)


def test_ship_keeps_what_is_wanted_once_and_names_what_is_unknown(study, monkeypatch):
    monkeypatch.setattr(Study, "open", lambda _name: study)
    command = ["ship", "toy", "--seed", "0", "--circuit", "continued"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 0, found.output
    assert "2 circuits of toy are in data/scores" in found.output
    assert all(
        shipped.path_of(study, task, "continued", 0).is_file() for task in ("ioi", "countdown")
    )

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(scores, "attribute", refuse)
    assert CliRunner().invoke(app, command).exit_code == 0
    for wrong, sentence in ((["--circuit", "best"], "Unknown circuit"), (["--seed", "7"], "seed")):
        told = CliRunner().invoke(app, ["ship", "toy", *wrong])
        assert told.exit_code == 2
        assert sentence in told.output
