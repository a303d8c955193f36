"""Sentences of the page of benchmarks, for any outcome, and its figures."""

import json

import numpy as np
import pandas as pd
import pytest

from mechshift_lib.analyses import speed
from mechshift_lib.errors import ResultError
from mechshift_lib.plots.speed import plot_growth, plot_ratios

PROVENANCE = {
    "created": "2026-11-24T05:00:00+00:00",
    "commit": "0123456789abcdef",
    "dirty": True,
    "hardware": {"gpu": None, "processor": "A processor"},
    "versions": {"torch": "2", "transformers": "5", "nnsight": "0.8"},
}


def benchmark(rows, **settings):
    return speed.Benchmark(pd.DataFrame(rows), settings, PROVENANCE)


def costs(time, memory):
    row = {"shape": "S", "edges": 32491, "lowest_ratio": time, "highest_ratio": time}
    row |= {"time_ratio": time, "memory_ratio": memory, "bytes": memory * 2**20}
    found = benchmark([row | {"floor_bytes": 2**20}], steps=5, batch=8, length=20, repeats=3)
    return speed.attribution(found)


def test_each_aim_is_met_or_missed_on_its_own():
    text = costs(1.3, 1.51)
    assert "1.30 × the floor's time (aim met" in text
    assert "1.51 × its memory (aim missed)" in text
    text = costs(1.31, 1.5)
    assert "1.31 × the floor's time (aim missed" in text
    assert "1.50 × its memory (aim met)" in text
    assert "commit 0123456789 with uncommitted changes;" in text


def powers(noise=0.0):
    draw = np.random.default_rng(0)
    return [
        {"varied": varied, "value": n, "seconds": 0.1 * n**power * np.exp(noise * draw.normal())}
        for varied, power in (("layers", 1), ("heads", 2), ("tokens", 1.5), ("examples", 0.5))
        for n in (2, 4, 8, 16)
    ]


def test_fitted_exponents_are_those_of_powers():
    table = speed.exponents(benchmark(powers()))
    assert table.varied.tolist() == ["layers", "heads", "tokens", "examples"]
    np.testing.assert_allclose(table.exponent, [1, 2, 1.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(table.error, 0, atol=1e-12)
    assert (speed.exponents(benchmark(powers(0.1))).error > 0.01).all()
    assert "heads 2.00 (± 0.00)" in speed.growth(benchmark(powers()))


def test_work_per_second():
    rows = [
        {"work": w, "per_second": 3000.0, "literal_per_second": 100.0, "speedup": 30.0}
        for w in ("exact patching", "circuit evaluation")
    ]
    rows[0] |= {"traced_per_second": 1200.0}
    text = speed.patching(benchmark(rows, layers=6, heads=4, edges=1000, examples=4, length=20))
    assert "exact patching does 3,000 edges" in text
    assert "circuit evaluation does 3,000 circuits" in text
    assert "(30 × as many)" in text
    assert text.count("traced passes do 1,200 (2.5 × as many)") == 1
    assert "nan" not in text


def test_large_models_are_said_to_be_unmeasured_only_where_they_are():
    assert speed.large(None).startswith("**Not measured.**")
    row = {"shape": "Qwen2.5-7B", "edges": 935_747, "seconds": 20.0, "time_ratio": 1.6}
    text = speed.large(benchmark([row | {"bytes": 2**31}]))
    assert "all 935,747 edges: 20.0 s, 1.60 × the floor (aim missed)" in text
    assert "2.0 GiB" in text
    assert "Not measured" not in text


def test_files_are_read_or_missing_or_damaged(tmp_path):
    assert speed.read_benchmark("growth", tmp_path) is None
    path = tmp_path / "data" / "benchmarks" / "growth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"rows": powers(), "settings": {}, "provenance": PROVENANCE}))
    found = speed.read_benchmark("growth", tmp_path)
    assert found is not None
    assert len(found.rows) == 16
    path.write_text('{"rows": ')
    with pytest.raises(ResultError, match="damaged: make it again"):
        speed.read_benchmark("growth", tmp_path)


def test_figures_show_what_they_are_given():
    rows = pd.DataFrame({"shape": ["A", "B"], "time_ratio": [1.1, 1.2], "memory_ratio": [1.4, 2]})
    ratios = plot_ratios(rows, 1.3, 1.5).axes[0]
    points = [line.get_xdata()[0] for line in ratios.lines if len(line.get_xdata()) == 1]
    assert points == [1.1, 1.4, 1.2, 2]
    table = pd.DataFrame(powers())
    figure = plot_growth(table, speed.exponents(benchmark(powers())))
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "layers; exponent 1.00",
        "heads; exponent 2.00",
        "tokens; exponent 1.50",
        "examples; exponent 0.50",
    ]
