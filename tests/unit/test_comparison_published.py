"""The re-analysis of the published top-30 edges must give the numbers it is known for."""

import pandas as pd
import pytest

from mechshift_lib.comparison import published
from mechshift_lib.errors import ResultError


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return published.read_table("top_edges")


def test_top_30_jaccards(table):
    overlap = published.top_edge_overlap(table).set_index(["task", "series"])
    assert overlap.jaccard.round(3).to_dict() == {
        ("ioi", "Qwen series"): 0.053,
        ("ioi", "LLaMA series"): 0.5,
        ("countdown", "Qwen series"): 0.25,
        ("countdown", "LLaMA series"): 0.053,
    }
    assert (overlap[["n_arm", "n_mdm"]] == 30).all().all()
    assert (overlap.chance < 1e-4).all()


def test_mean_source_depths(table):
    depth = published.top_edge_depth(table).set_index(["task", "series", "role"]).source_depth
    known = {
        ("countdown", "Qwen series"): (0.81, 0.47),
        ("countdown", "LLaMA series"): (0.25, 0.05),
        ("ioi", "Qwen series"): (0.82, 0.55),
    }
    for (task, series), (arm, mdm) in known.items():
        assert round(depth[task, series, "arm"], 2) == arm
        assert round(depth[task, series, "mdm"], 2) == mdm


def test_without_edges_from_the_embedding_the_shift_of_dream_on_countdown_is_smaller(table):
    depth = published.top_edge_depth(table).set_index(["task", "series", "role"])
    arm, mdm = (depth.loc[("countdown", "Qwen series", role)] for role in ("arm", "mdm"))
    assert (arm.from_input, mdm.from_input) == (1, 10)
    assert arm.without_input - mdm.without_input < 0.5 * (arm.source_depth - mdm.source_depth)


def test_layers_of_every_edge(table):
    layers = published.top_edge_layers(table)
    assert len(layers) == len(table) == 240
    assert layers.source_depth.between(0, 1).all()
    assert (layers.source_depth <= layers.reader_depth).all()


def test_an_unknown_table_or_model_is_an_error(table):
    with pytest.raises(ResultError, match="overlap, top_edges"):
        published.read_table("nothing")
    with pytest.raises(ResultError, match="gpt-5"):
        published.top_edges_of(table, "ioi", "gpt-5", 3)
