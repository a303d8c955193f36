"""The table of how long models were trained, from their logs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mechshift_lib.book.models import trainings_table
from mechshift_lib.config import ROOT, load_pair
from mechshift_lib.diffusion.logs import LOG, log_of, logged_in


def test_a_log_is_summed_up(tmp_path: Path) -> None:
    log = tmp_path / LOG
    rows = [
        {"step": i, "tokens": 100 * (i + 1), "lr": 0.1 / (i + 1), "loss": float(i)}
        for i in range(8)
    ]
    log.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = logged_in(log)
    assert found == {"steps": 8, "tokens": 800, "end": 0.0125, "third": 4.5, "last": 6.5}
    assert logged_in(None) == logged_in(tmp_path / "none") == {}


def test_every_model_of_a_pair_has_a_line_with_the_numbers_of_its_logs() -> None:
    pair = load_pair("tiny-qwen")
    lines = trainings_table([pair]).splitlines()[2:]
    assert len(lines) == len(pair.roles)
    for role, line in zip(pair.roles, lines, strict=True):
        last = []
        for seed in pair.seeds:
            log = log_of(pair, role, seed, ROOT)
            assert log is not None
            last.append(json.loads(log.read_text("utf-8").splitlines()[-1]))
        tokens = [one["tokens"] for one in last]
        assert {one["step"] + 1 for one in last} == {last[0]["step"] + 1}
        assert f"| {last[0]['step'] + 1:,} | {min(tokens):,}–{max(tokens):,} |" in line


def test_a_model_without_a_log_has_no_numbers(tmp_path: Path) -> None:
    pair = load_pair("tiny-qwen")
    lines = trainings_table([pair], tmp_path).splitlines()[2:]
    assert all(line.endswith("| – | – |") for line in lines)


@pytest.mark.parametrize("name", ["tiny-llama", "smollm2-135m"])
def test_a_control_has_seen_as_many_tokens_as_the_mdm(name: str) -> None:
    lines = trainings_table([load_pair(name)]).splitlines()
    seen = {
        line.split("|")[2].strip(): line.split("|")[4].strip()
        for line in lines
        if "MDM" in line or "continued" in line
    }
    assert len(set(seen.values())) == 1
