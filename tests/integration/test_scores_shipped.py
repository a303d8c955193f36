"""Scores kept in data/scores: used where they are what is asked, computed anew in a sample."""

import zipfile
from dataclasses import dataclass, replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mechshift_lib.analyses import (
    Study,
    ablation,
    attention,
    components,
    cues,
    errors,
    faithfulness,
    features,
    lens,
    measures,
    meeting,
    neurons,
    overlap,
    planning,
    probes,
    robustness,
    robustness_ioi,
    scores,
    seeds,
    shift,
    shipped,
    signals,
    steps,
    training,
    trajectory,
    trust,
    trust_trainings,
)
from mechshift_lib.analyses.behaviour import answers, metrics, pool
from mechshift_lib.circuits.attribution.exact import exact_scores
from mechshift_lib.cli import app
from mechshift_lib.comparison.worlds import KINDS
from mechshift_lib.config import ROOT, load_pair, pair_names
from mechshift_lib.errors import ResultError
from mechshift_lib.results.store import Store, read_provenance

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
    assert "2 circuits of toy are in data/scores, 0 other results" in found.output
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


def test_a_pair_whose_file_says_so_ships_the_first_training_too(tmp_path, monkeypatch):
    make_pair(tmp_path, seeds=(0,), tasks=("ioi",), budget={"behaviour_examples": 4})
    first = Study.open("toy", results=str(tmp_path / "results"), pool="all", root=tmp_path)
    study = replace(first, pair=first.pair.model_copy(update={"tables": "all"}))
    answers(study, "ioi", "mdm", 0)
    found = [f"answers/{one.name}" for one in (tmp_path / "results/answers").iterdir()]
    page = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("", metadata={"results": found})]
    )
    nbformat.write(page, tmp_path / "page.ipynb")
    assert shipped.ship_tables(first, 0, [tmp_path / "page.ipynb"]) == 0
    assert shipped.ship_tables(study, 0, [tmp_path / "page.ipynb"]) == 1

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr("mechshift_lib.analyses.behaviour.denoise", refuse)
    answers(replace(study, store=Store(tmp_path / "fresh")), "ioi", "mdm", 0)
    with pytest.raises(AssertionError, match="computed again"):
        answers(replace(first, store=Store(tmp_path / "other")), "ioi", "mdm", 0)


def test_circuits_of_large_models_are_left_to_every_book(study, monkeypatch):
    assert scores.circuits_to_ship(study, [0])
    monkeypatch.setattr(scores, "LARGEST", 100)
    assert scores.circuits_to_ship(study, [0]) == []


def test_tables_of_later_trainings_are_shipped_and_read(tmp_path, monkeypatch):
    make_pair(tmp_path, seeds=(0, 1), tasks=("ioi",), budget={"behaviour_examples": 4})
    study = Study.open("toy", results=str(tmp_path / "results"), pool="all", root=tmp_path)
    for seed in (0, 1):
        answers(study, "ioi", "mdm", seed)
    found = [f"answers/{one.name}" for one in (tmp_path / "results/answers").iterdir()]
    page = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("", metadata={"results": found})]
    )
    nbformat.write(page, tmp_path / "page.ipynb")
    pages = [tmp_path / "page.ipynb"]
    # The first training's are computed by every book.
    assert shipped.ship_tables(study, 0, pages) == 0
    assert shipped.ship_tables(study, 1, pages) == 1
    assert [path.name for path in (tmp_path / "data/tables/toy").iterdir()] == ["seed1.zip"]

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr("mechshift_lib.analyses.behaviour.denoise", refuse)
    fresh = replace(study, store=Store(tmp_path / "fresh"))
    pd.testing.assert_frame_equal(answers(fresh, "ioi", "mdm", 1), answers(study, "ioi", "mdm", 1))
    for other in (replace(fresh, store=Store(tmp_path / "third"), shipped=False), fresh):
        with pytest.raises(AssertionError, match="computed again"):
            answers(other, "ioi", "mdm", int(not other.shipped))


def test_estimates_beside_exact_scores_are_shipped_of_the_first_training_too(tmp_path, monkeypatch):
    budget = {"behaviour_examples": 4, "circuit_examples": 4, "estimator": "exact"}
    make_pair(tmp_path, seeds=(0,), tasks=("ioi",), budget=budget)
    study = Study.open("toy", results=str(tmp_path / "results"), pool="all", root=tmp_path)
    made = trust_trainings.of_training(study, "ioi", 0)
    kinds = ("answers", "trust-trainings")
    found = [f"{k}/{one.name}" for k in kinds for one in (tmp_path / "results" / k).iterdir()]
    page = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("", metadata={"results": found})]
    )
    nbformat.write(page, tmp_path / "page.ipynb")
    assert shipped.ship_tables(study, 0, [tmp_path / "page.ipynb"]) == 1

    def refuse(*_args, **_kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(trust_trainings, "attribute", refuse)
    fresh = replace(study, store=Store(tmp_path / "fresh"))
    again = trust_trainings.of_training(fresh, "ioi", 0)
    for name, frame in made.items():
        pd.testing.assert_frame_equal(again[name], frame)
    third = replace(study, store=Store(tmp_path / "third"), shipped=False)
    with pytest.raises(AssertionError, match="computed again"):
        trust_trainings.of_training(third, "ioi", 0)


#: What computes a result of each kind that is shipped, for a training.
COMPUTED = {
    "ablation": lambda study, seed: ablation.answered(study, "countdown", "mdm", seed),
    "attention": lambda study, seed: attention.of_training(
        study, seed, attention.asked(study)[seed]
    )["heads"],
    "components": lambda study, seed: components.of_model(study, "ioi", "mdm", seed)["spread"],
    "dictionaries": lambda study, seed: features.measured(study, seed)["counts"],
    "between-seeds": lambda study, seed: seeds.between_seeds(
        study, "ioi", study.pair.seeds[study.pair.seeds.index(seed) - 1], seed
    ),
    "lens-readings": lambda study, seed: lens.readings(study, "ioi", "mdm", seed),
    "meeting": lambda study, seed: meeting.of_training(study, "ioi", seed),
    "overlap": lambda study, seed: overlap.compare(study, "ioi", seed)["edges"],
    "faithfulness": lambda study, seed: faithfulness.evaluated(study, "ioi", "mdm", seed),
    "neurons": lambda study, seed: neurons.of_model(study, "mdm", seed)["sets"],
    "planning-cut": lambda study, seed: planning.cut(study, "countdown", "mdm", seed),
    "answers": lambda study, seed: answers(study, study.pair.tasks[-1], "mdm", seed),
    "cues": lambda study, seed: cues.routes(study, "matched", seed),
    "layers": lambda study, seed: trajectory._layers(
        study, seed, "countdown", pool(study, "countdown", seed)[: study.budget.circuit_examples]
    ),
    "measures": lambda study, seed: measures.of_training(study, "ioi", seed)["measures"],
    "metrics": lambda study, seed: metrics(study, "ioi", "mdm", seed),
    "shift": lambda study, seed: shift.of_training(study, "countdown", seed)["likeness"],
    "training": lambda study, seed: pd.DataFrame([training._moved(study, "mdm", seed)]),
    "later": lambda study, seed: probes.later(study, "countdown", "mdm", seed)["later"],
    "robustness": lambda study, seed: robustness.of_training(study, seed)["depth"],
    "robustness-ioi": lambda study, seed: robustness_ioi.of_training(study, seed)["depth"],
    "signals": lambda study, seed: signals.switched(study, "continued", seed),
    "steps": lambda study, seed: steps.of_training(study, "countdown", "mdm", seed)["rows"],
    "trust": lambda study, _: trust.of_task(study, "greater-than")["consequences"],
    "trust-trainings": lambda study, seed: trust_trainings.of_training(study, "ioi", seed)["depth"],
}


#: Simulated studies of those that are shipped that are done again.
STUDIES = 8


@pytest.mark.parametrize(
    "name",
    [
        path.name
        for path in sorted((ROOT / "data" / "tables").iterdir())
        if "errors" in load_pair(path.name).analyses
    ],
)
def test_shipped_error_rates_are_what_is_simulated(name, tmp_path):
    """The first studies of a world are the same draws, so none of their verdicts can be missing."""
    kept = Study.open(name, results=str(tmp_path / "kept"))
    found = errors.rates(kept)["rates"]
    [taken] = (tmp_path / "kept" / "errors").iterdir()
    assert "shipped" in read_provenance(taken), "run mechshift ship"
    index = ["measure", "world"]
    shipped_rates, again = (
        t.set_index(index).sort_index() for t in (found, errors.first_rates(kept, STUDIES))
    )
    assert list(shipped_rates.index) == list(again.index)
    drifts = ["control", "local", "planned"]
    pd.testing.assert_frame_equal(shipped_rates[drifts], again[drifts], rtol=1e-3)
    verdicts = list(KINDS)
    assert (again[verdicts].sum(axis=1) == STUDIES).all()
    assert (shipped_rates[verdicts].sum(axis=1) == shipped_rates.studies).all()
    null = shipped_rates[~shipped_rates.true].xs(errors.COMPARED[0])
    assert (null.studies == kept.budget.error_studies).all()
    # A processor that rounds otherwise may turn one verdict that is on the edge.
    assert (again[verdicts] <= shipped_rates[verdicts] + 1).all(axis=None)


#: What takes minutes to compute for a pair of which exact scores don't ship.
LONG = ("between-seeds", "lens-readings", "measures", "overlap", "shift", "steps")


def _archives() -> list[tuple[str, int, str]]:
    """Every archive of tables with kinds of result that it has.

    In those of later trainings kinds take turns. Of a first training it is what only it has. Where
    exact scores don't ship, all trainings take turns with all kinds but those that take long.
    """
    kinds: dict[tuple[str, int], set[str]] = {}
    for path in sorted((ROOT / "data" / "tables").glob("*/seed*.zip")):
        with zipfile.ZipFile(path) as archive:
            found = {name.split("/")[0] for name in archive.namelist()} & set(COMPUTED)
        kinds[path.parent.name, int(path.stem.removeprefix("seed"))] = found
    exact = [one for one in kinds if (ROOT / "data" / "scores" / one[0]).is_dir()]
    later = [one for one in exact if one[1] != load_pair(one[0]).seeds[0]]
    in_turn = {one: sorted(kinds[one])[i :: len(later)] for i, one in enumerate(later)}
    known = set().union(*(kinds[one] for one in later))
    in_turn |= {one: sorted(kinds[one] - known) for one in set(exact) - set(later)}
    for one in set(kinds) - set(exact):
        known_seeds = load_pair(one[0]).seeds
        mine = sorted(kinds[one] - set(LONG))
        in_turn[one] = mine[known_seeds.index(one[1]) :: len(known_seeds)]
    return [(*one, kind) for one in kinds for kind in in_turn[one]]


@dataclass(frozen=True)
class _Without(Study):
    """A study that takes all that is shipped but one kind: each kind has a test of its own."""

    computed: str = ""

    def ships(self, seed: int, kind: str) -> bool:
        return kind != self.computed and super().ships(seed, kind)


@pytest.mark.parametrize(("name", "seed", "kind"), _archives())
def test_shipped_tables_are_what_is_computed(name, seed, kind, tmp_path):
    kept = Study.open(name, results=str(tmp_path / "kept"))
    anew = _Without(**vars(kept) | {"store": Store(tmp_path / "anew")}, computed=kind)
    found = [COMPUTED[kind](study, seed) for study in (kept, anew)]
    made = [read_provenance(one) for one in (tmp_path / "anew" / kind).iterdir()]
    assert not any("shipped" in one for one in made)
    taken = list((tmp_path / "kept" / kind).iterdir())
    assert any("shipped" in read_provenance(one) for one in taken), "run mechshift ship"
    pd.testing.assert_frame_equal(*found, check_exact=False, rtol=1e-3, atol=1e-4)
