"""Scores that jobs made a part of each: those of one job, to the bit, with all parts there."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mechshift_lib.analyses.parts import KIND, Shard
from mechshift_lib.analyses.scores import measured, scores_key
from mechshift_lib.analyses.shards import own_places, run_shard
from mechshift_lib.analyses.study import Study
from mechshift_lib.cli.main import app
from mechshift_lib.cli.shards import parse_shard
from mechshift_lib.config import load_pair
from mechshift_lib.errors import ConfigError, ResultError
from mechshift_lib.results.store import Store
from tests.support.study import make_pair
from tests.support.tiny import tiny_items

TASK = "greater-than"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sharded")
    make_pair(root, tasks=(TASK,), seeds=(0,), budget={"batch_size": 4})
    return root


def study(root: Path, results: str) -> Study:
    return Study(load_pair("toy", root), "book", Store(root / results), "all", root=root)


@pytest.fixture(scope="module")
def sharded(root: Path) -> Study:
    """All of three shards were run."""
    made = study(root, "sharded")
    for number in (1, 2, 3):
        done = list(run_shard(made, Shard(number, 3)))
        assert {circuit for _, circuit, _ in done} >= {"arm", "mdm", "continued"}
    return made


@pytest.mark.parametrize("circuit", ["arm", "mdm"])
def test_the_parts_taken_together_are_what_one_job_finds(
    root: Path, sharded: Study, circuit: str
) -> None:
    single = study(root, "single")
    one, other = (measured(x, TASK, circuit, 0) for x in (single, sharded))
    assert one.scores.any()
    np.testing.assert_array_equal(one.scores, other.scores)
    pd.testing.assert_frame_equal(one.items, other.items)
    assert one.graph == other.graph


def test_the_provenance_names_the_parts(sharded: Study) -> None:
    measured(sharded, TASK, "continued", 0)
    record = sharded.store.provenance("circuits", scores_key(sharded, TASK, "continued", 0))
    assert [x["shard"] for x in record["parts"]] == ["1/3", "2/3", "3/3"]
    assert all(x["files"] and x["hardware"] for x in record["parts"])
    assert record["wall_seconds"] == pytest.approx(sum(x["wall_seconds"] for x in record["parts"]))


def without(root: Path, sharded: Study, numbers: tuple[int, ...], name: str) -> Study:
    """The same store without the whole and without some of the parts."""
    made = study(root, name)
    shutil.copytree(sharded.store.root, made.store.root)
    shutil.rmtree(made.store.root / "circuits", ignore_errors=True)
    for number in numbers:
        key = scores_key(made, TASK, "arm", 0) | {"shard": [number, 3]}
        shutil.rmtree(made.store.folder(KIND, key))
    return made


def test_missing_parts_are_named_and_nothing_is_computed(root: Path, sharded: Study) -> None:
    made = without(root, sharded, (2, 3), "missing")
    said = r"Of circuit arm of toy on greater-than, shards 2, 3 of 3 are missing: .*--shard 2/3"
    with pytest.raises(ResultError, match=said):
        measured(made, TASK, "arm", 0)
    assert not (made.store.root / "circuits").exists()
    measured(made, TASK, "mdm", 0)  # whose parts are all there


def test_parts_of_something_else_are_refused(root: Path, sharded: Study) -> None:
    made = without(root, sharded, (), "foreign")
    budget = made.budget.model_copy(update={"ig_steps": 3})
    pair = made.pair.model_copy(update={"budgets": {"book": budget}})
    other = dataclasses.replace(made, pair=pair)
    with pytest.raises(ResultError, match="were made of another ig_steps than is asked for now"):
        measured(other, TASK, "arm", 0)


def test_a_damaged_part_is_said(root: Path, sharded: Study) -> None:
    made = without(root, sharded, (), "damaged")
    key = scores_key(made, TASK, "arm", 0) | {"shard": [1, 3]}
    (made.store.folder(KIND, key) / "scores.parquet").write_bytes(b"cut off")
    with pytest.raises(ResultError, match="is missing or damaged"):
        measured(made, TASK, "arm", 0)


def test_more_shards_than_batches_leave_some_empty(root: Path) -> None:
    made = study(root, "many")
    counts = [n for i in range(1, 13) for _, c, n in run_shard(made, Shard(i, 12)) if c == "arm"]
    assert 0 in counts
    assert sum(counts) == len(measured(made, TASK, "arm", 0).items)


@pytest.mark.parametrize("of", [1, 2, 5])
def test_a_shards_batches_are_those_of_one_job(of: int) -> None:
    """Every batch is whole in one shard, also where inputs are of several lengths."""
    items = [x for n in (6, 9, 7) for x in tiny_items(n, length=n)]
    shares = [own_places(items, 4, Shard(i, of)) for i in range(1, of + 1)]
    assert sorted(i for share in shares for i in share) == list(range(len(items)))
    batches = [
        [i for i, x in enumerate(items) if len(x.clean) == n][k : k + 4]
        for n in (6, 7, 9)
        for k in (0, 4, 8)
    ]
    for batch in filter(None, batches):
        assert sum(set(batch) <= set(share) for share in shares) == 1


def test_exact_patching_is_not_divided(root: Path) -> None:
    made = study(root, "exact")
    budget = made.budget.model_copy(update={"estimator": "exact"})
    pair = made.pair.model_copy(update={"budgets": {"book": budget}})
    with pytest.raises(ConfigError, match="leave out --shard"):
        list(run_shard(dataclasses.replace(made, pair=pair), Shard(1, 2)))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/", "a/b", "1/100000", "-1/2"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 1/8 or 8/8"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "1/2"], "name a pair"),
        (["tiny-llama", "--shard", "1/2", "--analysis", "lens"], "no other chapter than circuits"),
        (["tiny-llama", "--shard", "1/2", "--dry-run"], "leave out the other options"),
        (["tiny-llama", "--shard", "3/2"], "such as 1/8 or 8/8"),
    ],
)
def test_what_cannot_be_divided_is_one_sentence(arguments: list[str], said: str) -> None:
    found = CliRunner().invoke(app, ["run", *arguments])
    assert found.exit_code == 2
    assert said in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1
