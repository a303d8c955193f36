"""What jobs ask of a cluster: the pair's file where it speaks, estimates where it doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mechshift_lib.circuits.attribution.products import DEFAULT_BUDGET
from mechshift_lib.circuits.graph.graph import Graph
from mechshift_lib.cluster import without_cluster
from mechshift_lib.config import ROOT, ModelSize, load_pair, pair_names
from mechshift_lib.costs.jobs import (
    BESIDE_GIB,
    LEAST_GIB,
    LEAST_MINUTES,
    MOST_MINUTES,
    SAFETY,
    UNKNOWN_MINUTES,
    asked,
    memory_gib,
    minutes_of,
)
from mechshift_lib.costs.memory import CHUNKS, GIB, edge_sides
from mechshift_lib.costs.time import Cost
from mechshift_lib.errors import ConfigError


def written(folder: Path, **changes: object) -> Path:
    """A checkout whose pair ``toy`` is tiny-qwen with changes."""
    described = yaml.safe_load((ROOT / "data/pairs/tiny-qwen.yaml").read_text(encoding="utf-8"))
    (folder / "data/pairs").mkdir(parents=True)
    text = yaml.safe_dump(described | {"name": "toy"} | changes)
    (folder / "data/pairs/toy.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_file_is_followed_chapter_by_chapter(tmp_path: Path) -> None:
    said = {"gpus": 1, "memory_gib": 40, "minutes": 90, "partition": "gpu"}
    cluster = said | {"chapters": {"circuits": {"minutes": 600, "gpus": 2}, "lens": {"gpus": 0}}}
    root = written(tmp_path, cluster=cluster)
    assert asked("toy", "behaviour", "book", root) == {
        "mem_mb": 40 * 1024,
        "runtime": 90,
        "gpu": 1,
        "slurm_partition": "gpu",
    }
    circuits = asked("toy", "circuits", "book", root)
    assert (circuits["runtime"], circuits["gpu"], circuits["mem_mb"]) == (600, 2, 40 * 1024)
    assert asked("toy", "lens", "book", root)["gpu"] is None


def test_what_the_file_does_not_say_is_estimated(tmp_path: Path) -> None:
    root = written(tmp_path)
    assert asked("toy", "circuits", "book", root) == {
        "mem_mb": LEAST_GIB * 1024,
        "runtime": UNKNOWN_MINUTES,  # no table of what was measured
        "gpu": None,
        "slurm_partition": None,
    }


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"gpu": 1}, "cluster.gpu: Extra"),
        ({"minutes": 0}, "cluster.minutes"),
        ({"partition": "a; rm -r /"}, "cluster.partition"),
        ({"partition": "--exclusive"}, "cluster.partition"),
        ({"chapters": {"circuit": {}}}, "there is no chapter 'circuit'"),
    ],
)
def test_what_can_not_be_asked_is_a_sentence(tmp_path: Path, cluster: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_pair("toy", written(tmp_path, cluster=cluster))


def test_every_pair_asks_for_something_that_a_cluster_may_have() -> None:
    for name in pair_names():
        for chapter in load_pair(name).analyses:
            found = asked(name, chapter, "full")
            assert LEAST_GIB * 1024 <= found["mem_mb"] < 2**20, name
            assert LEAST_MINUTES <= found["runtime"] <= MOST_MINUTES, (name, chapter)


def test_memory_holds_two_models_of_the_hub() -> None:
    pair = load_pair("qwen2.5-7b-dream")
    source = pair.mdm.source
    two = 2 * source.size.parameters * 2 / GIB  # type: ignore[union-attr] # bfloat16
    assert two + BESIDE_GIB < memory_gib(pair, "book") < two + BESIDE_GIB + 4


def test_time_is_what_was_measured_with_room_and_within_bounds() -> None:
    pair = load_pair("qwen2.5-7b-dream")
    size = pair.arm.source.size.parameters  # type: ignore[union-attr]
    each = len(pair.roles) * len(pair.tasks) * pair.budget("book").behaviour_examples

    growth = [Cost("lens", 10**6, 1.0), Cost("lens", 10**8, 10.0)]

    def foreseen(minutes: float) -> int:
        cost = Cost("behaviour", size, 60 * minutes / each)
        return minutes_of(pair, "behaviour", "book", [cost, *growth])

    assert foreseen(100) == pytest.approx(100 * SAFETY, abs=1)
    assert foreseen(1) == LEAST_MINUTES
    assert foreseen(10**6) == MOST_MINUTES


def test_written_out_numbers_are_those_of_the_circuits() -> None:
    assert CHUNKS == DEFAULT_BUDGET
    for layers, heads, shared in ((2, 4, 2), (6, 4, 4), (28, 28, 4)):
        size = ModelSize(
            parameters=1,
            layers=layers,
            heads=heads,
            kv_heads=shared,
            width=1,
            head_width=1,
            hidden=1,
        )
        graph = Graph(layers, heads, shared)
        assert edge_sides(size) == (graph.n_sources, graph.n_readers)


def test_only_the_cluster_part_of_a_file_counts_for_nothing() -> None:
    plain = b"name: a\nseeds: [0]\ntitle: A\n"
    asking = (
        b"name: a\ncluster:\n  minutes: 5\n  chapters:\n    lens: {gpus: 1}\nseeds: [0]\ntitle: A\n"
    )
    assert without_cluster(asking) == plain
    assert without_cluster(b"name: a\ncluster: {minutes: 5}\nseeds: [0]\ntitle: A\n") == plain
    assert without_cluster(plain) == plain
    assert without_cluster(plain + b"cluster: {gpus: 1}") == plain
    assert without_cluster(b"description: >-\n  cluster: x\n") == b"description: >-\n  cluster: x\n"
