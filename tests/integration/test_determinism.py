"""The same command gives the same tables, to the byte; and these are the numbers it has to give."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mechshift_lib.models.loading import load_model
from tests.support import golden
from tests.support.project import make_project, start, stored, tables

#: Part of a table's largest number by which numbers may differ between one thread and two. Sums
#: of float32 are then taken in another order: a step of the last place is 1.2e-7, the longest sums
#: have 384 terms and six layers add up; measured are up to 2.2e-7.
THREADS = 5e-6
#: Few enough for a few seconds a run.
FEW = {"behaviour_examples": 8, "circuit_examples": 3}
#: Two models answer, three are attributed, and one circuit is written.
COMMAND = ("export-circuit", "toy", "ioi", "mdm", "--out", "circuit.json")
#: What provenance says of the run and not of the result.
OF_THE_RUN = {"created", "wall_seconds", "peak_memory_bytes"}


def ran(folder: Path, threads: int) -> Path:
    make_project(folder, budget=FEW)
    process = start(folder, *COMMAND, threads=threads)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(tmp_path_factory.mktemp("one"), threads=1)


def test_the_same_command_gives_the_same_bytes(first: Path, tmp_path: Path) -> None:
    """In another process and another folder, of other times: names of results, tables, export."""
    again = ran(tmp_path / "another" / "place", threads=1)
    assert len(tables(first)) > 5
    assert tables(first) == tables(again)
    exported = [(one / "circuit.json").read_bytes() for one in (first, again)]
    assert exported[0] == exported[1]
    assert stored(first).keys() == stored(again).keys()
    for name, content in stored(first).items():
        if name.endswith(".json"):
            records = [json.loads(content), json.loads(stored(again)[name])]
            for record in records:
                assert record.keys() >= OF_THE_RUN
                for field in OF_THE_RUN:
                    del record[field]
            assert records[0] == records[1]


def test_two_threads_give_the_same_numbers_within_rounding(first: Path, tmp_path: Path) -> None:
    two = tables(ran(tmp_path / "two", threads=2))
    assert two.keys() == tables(first).keys()
    for name, content in tables(first).items():
        one, other = (pd.read_parquet(io.BytesIO(x)) for x in (content, two[name]))
        numeric = [c for c in one if one[c].dtype.kind == "f"]
        # Answers, reveal orders, counts and which example: no rounding reaches them.
        pd.testing.assert_frame_equal(one.drop(columns=numeric), other.drop(columns=numeric))
        values, others = one[numeric].to_numpy(float), other[numeric].to_numpy(float)
        largest = np.abs(values).max(initial=0.0)
        np.testing.assert_allclose(others, values, rtol=0, atol=THREADS * largest)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As all that the book computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def wanted() -> dict[str, dict[str, float]]:
    return json.loads(golden.PATH.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("pair", golden.PAIRS)
def test_the_tiny_pairs_have_their_golden_numbers(
    pair: str, wanted: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    found = dict(golden.measured(golden.open_small(pair, tmp_path)))
    assert golden.deviations(found, wanted[pair]) == []


def test_golden_tolerances_tell_one_model_from_another(
    wanted: dict[str, dict[str, float]],
) -> None:
    """Every kind of number, but accuracies near 1, differs by more between ARM and MDM."""
    numbers = wanted["tiny-qwen"]
    swapped = {
        name.replace("mdm,", "arm,"): value for name, value in numbers.items() if "mdm," in name
    }
    both = swapped.keys() & numbers.keys()
    told = golden.deviations({x: swapped[x] for x in both}, {x: numbers[x] for x in both})
    for kind in ("edge", "depth", "logit lens"):
        assert any(line.startswith(kind) for line in told), told
    assert golden.deviations({"overlap, x": 0.3}, {"overlap, x": 0.4})
    assert golden.deviations({"right of 12, x": 10.0}, {"right of 12, x": 12.0})
    assert golden.deviations({"edge, x": float("nan")}, {"edge, x": 0.1})
    assert golden.deviations({}, {"edge, x": 0.1})


def test_nothing_is_computed_in_less_than_float32(tmp_path: Path) -> None:
    """No half precision and no TF32, which would round otherwise on each processor."""
    study = golden.open_small("tiny-qwen", tmp_path)
    for role in study.pair.roles:
        model = load_model(study.pair.model(role, study.seed))
        assert {p.dtype for p in model.hf.parameters()} == {torch.float32}
        assert model.logits(torch.tensor([[1, 2, 3]])).dtype == torch.float32
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
